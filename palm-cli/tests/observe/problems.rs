//! What the command says about addresses that do not report: no component, an older one, a part of a cluster that is
//! away, and a report that is too large.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use libtest_mimic::Trial;
use palm::report::{Edge, MAX_REPORT_BYTES, Report, Role};
use palm::socket::{Reply, SocketOptions};
use palm::{Bytes, Message};

use crate::setup::{ANY, Component, inspect, palm, succeed, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "address_without_a_palm_component_is_explained",
            no_component,
        ),
        trial("component_of_an_older_version_is_shown_as_such", older),
        trial(
            "half_of_a_cluster_that_is_away_is_listed_with_reasons",
            half,
        ),
        trial("report_with_too_many_edges_is_cut_and_says_so", many_edges),
        trial("reply_that_is_larger_than_a_report_is_refused", too_large),
    ]
}

/// What `palm graph` says about an address where it finds no component.
async fn explanation(address: &str) -> String {
    let mut texts = Vec::new();
    for arguments in [
        &["graph", address][..],
        &["inspect", address],
        &["inspect", address, "--all", "-o", "json"],
        &["trace", address],
        &["configure", address],
    ] {
        let (code, stdout, stderr) = palm(arguments).await;
        assert_eq!((code, &*stdout), (1, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(address), "{arguments:?}: {stderr}");
        texts.push(stderr);
    }
    let first = texts[0].clone();
    assert!(texts.iter().all(|it| *it == first), "{texts:?}");
    first
}

async fn no_component() {
    let closed = palm::testing::unused_address().unwrap();
    let text = explanation(&closed).await;
    assert!(text.contains("connection refused"), "{text}");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    let text = explanation(&address).await;
    assert!(text.contains("sends nothing"), "{text}");

    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", http.local_addr().unwrap());
    std::thread::spawn(move || http.incoming().map_while(Result::ok).for_each(refuse));
    let text = explanation(&address).await;
    assert!(text.contains("does not speak ZeroMQ"), "{text}");

    // A socket of ZeroMQ whose program answers nothing.
    let (_socket, address) = Reply::bind(&ANY.parse().unwrap(), &SocketOptions::default())
        .await
        .unwrap();
    let text = explanation(&address.to_string()).await;
    assert!(text.contains("does not answer"), "{text}");
}

/// A web server.
fn refuse(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
}

/// Serves a component that is not palm's of today: `answer` receives the verb and the payload of each request. Returns its
/// address.
pub(crate) async fn serve(answer: impl Fn(&str, &[u8]) -> Bytes + Send + 'static) -> String {
    let bound = Reply::bind(&ANY.parse().unwrap(), &SocketOptions::default()).await;
    let (mut socket, address) = bound.unwrap();
    tokio::spawn(async move {
        while let Ok((frames, responder)) = socket.recv().await {
            let message = Message::decode(frames[0].clone()).unwrap();
            let verb = message.function().split_once('.').unwrap().1;
            responder.reply(answer(verb, message.payload())).unwrap();
        }
    });
    address.to_string()
}

/// Fields 1 to 3 of a `Descriptor`: the version, the kind and the name.
const DESCRIPTOR: &[u8] = b"\x0a\x050.0.9\x12\x06server\x1a\x03old";

async fn older() {
    // Of palm, an unknown verb has an empty reply. Other programs may say more.
    for reply in ["", "unknown verb `inspect`, expected get, set or delete"] {
        let address = serve(move |verb, payload| match (verb, payload) {
            ("get", b"palm") => Bytes::from_static(DESCRIPTOR),
            ("get", _) => Bytes::new(),
            _ => reply.into(),
        })
        .await;
        let one = succeed(&["inspect", &address]).await;
        let expected = format!(
            "old, server of palm 0.0.9, no report, {address}\n  it does not report about itself\n"
        );
        assert_eq!(one, expected);
        let json = inspect(&address).await;
        let component = &json["components"][0];
        assert_eq!(component["kind"], "server of palm 0.0.9", "{json:#}");
        let (code, stdout, stderr) = palm(&["graph", &address]).await;
        assert_eq!(code, 0, "{stderr}");
        assert!(stdout.contains("old  server of palm 0.0.9"), "{stdout}");
        assert!(stderr.contains("begin at another one"), "{stderr}");
        for arguments in [
            &["configure", &*address][..],
            &["drain", &address],
            &["configure", &address, "--worker", "hand"],
            &["drain", &address, "--worker", "hand"],
        ] {
            let (code, _, stderr) = palm(arguments).await;
            assert_eq!(code, 1);
            assert!(stderr.contains("does not know this request"), "{stderr}");
        }
    }
}

async fn half() {
    let master = Component::start(&["master", ANY]);
    let db = &*master.db_address;
    let [even, mut odd] = ["even", "odd"].map(|it| Component::start(&["step", ANY, db, it]));
    let sink = Component::start(&["sink", &even.db_address, &odd.db_address]);
    loop {
        let cluster = inspect(db).await;
        let edges = cluster["components"].as_array().unwrap().iter();
        let edges = edges.map(|it| it["edges"].as_array().unwrap());
        // Four on each side.
        if edges.map(Vec::len).sum::<usize>() == 8 {
            break;
        }
    }
    let (dead, stopped) = (odd.db_address.clone(), sink.db_address.clone());
    odd.kill().unwrap();
    sink.pause().unwrap();
    for first in [db, &even.db_address] {
        let cluster = inspect(first).await;
        let components = cluster["components"].as_array().unwrap();
        let problem = |address: &str| {
            let found = components.iter().find(|it| it["address"] == address);
            let found = found.unwrap_or_else(|| panic!("{address}: {cluster:#}"));
            found["problem"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(components.len(), 4);
        assert!(problem(&dead).contains("connection refused"), "{cluster:#}");
        assert!(problem(&stopped).contains("it is stopped"), "{cluster:#}");
        assert_eq!(problem(db) + &problem(&even.db_address), "");
        let graph = succeed(&["graph", first]).await;
        for address in [&dead, &stopped] {
            let line = format!("unreachable, {address}");
            assert!(graph.contains(&line), "{line}: {graph}");
        }
    }
    // Begun at a component that is away, the command fails with the reason.
    let (code, _, stderr) = palm(&["graph", &dead]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("connection refused"), "{stderr}");
    sink.resume().unwrap();
}

async fn many_edges() {
    const EDGES: u64 = 60_000;
    let mut report = Report::new(1, "crowded");
    report.kind = "server".to_owned();
    for number in 0..EDGES {
        let mut edge = Edge::default();
        edge.role = Role::Client;
        edge.name = format!("client {number} with a long name");
        report.edges.push(edge);
    }
    let reply = report.encode();
    assert!(reply.len() <= MAX_REPORT_BYTES);
    let listed = Report::decode(reply.clone()).unwrap().edges.len() as u64;
    let omitted = EDGES - listed;
    assert!(listed > 0 && omitted > 0, "{listed}");
    let address = serve(move |_, _| reply.clone()).await;
    let json = inspect(&address).await;
    assert_eq!(json["components"][0]["omitted_edges"], omitted);
    let digits = omitted.to_string();
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    let table = succeed(&["inspect", &address, "--measure", "0"]).await;
    let expected = format!("  and {thousands},{rest} further edges\n");
    assert!(table.ends_with(&expected), "{expected}");
    let graph = succeed(&["graph", &address, "--measure", "0"]).await;
    let expected = format!("└─ {thousands},{rest} further peers\n");
    assert!(graph.contains(&expected), "{expected}");
}

async fn too_large() {
    let reply = Bytes::from(vec![0x0a; MAX_REPORT_BYTES + 1]);
    let address = serve(move |_, _| reply.clone()).await;
    let (code, stdout, stderr) = palm(&["inspect", &address]).await;
    assert_eq!((code, &*stdout), (1, ""));
    let expected = "its answer has 1048577 bytes, and a report has 1048576 at most";
    assert!(stderr.contains(expected), "{stderr}");
}
