//! Addresses that a component binds: none that other hosts can reach unless the network is trusted, and only as many as
//! its peers need.

use std::collections::HashSet;

use palm::part::{Bypass, OpenError, Running, Setup, Stop};
use palm::parts::{
    CacheService, Handler, HttpGateway, HttpService, PubService, PullService, PushPullService,
    PushService, RepBypassService, RepService, WorkerPullService, WorkerPushService,
};
use palm::prelude::*;
use palm::socket::{Reply, Request, SocketOptions};
use palm::{Error, Message, StartError};

use super::process::{self, Process};
use super::setup::{ANY, SOON, address, chain, check, connect, eventually, soon};

/// All interfaces, and one that is not the loopback.
const BEYOND: [&str; 4] = [
    "tcp://*:0",
    "tcp://0.0.0.0:0",
    "tcp://[::]:0",
    "tcp://eth0:0",
];

struct Plain;

#[palm::server(name = "plain")]
impl Plain {
    #[palm::method]
    fn same(&self, text: String) -> String {
        text
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    fn same(&self, text: String) -> String {
        text
    }
}

struct Silent;

#[palm::outbound]
impl Silent {
    fn handle(&mut self, _: Message) {}
}

struct Clock;

#[palm::bypass]
impl Clock {
    fn recv(&mut self, _: String) -> String {
        "now".to_owned()
    }
}

/// A user-implemented part that binds a socket.
struct Own(String);

impl Bypass for Own {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        Reply::bind(&address(&self.0), setup.socket_options()).await?;
        Ok(Running::bypass(move |stop| async move {
            stop.stopped().await;
            Ok(())
        }))
    }
}

#[track_caller]
fn assert_rejected(result: palm::Result<palm::ComponentHandle>, expected: &str, at: &str) {
    let error = result.map(|_| ()).unwrap_err();
    let Error::Start(StartError::Exposed { option, .. }) = &error else {
        panic!("{expected} at {at}: {error:?}");
    };
    assert_eq!(*option, expected, "{at}");
    let error = chain(&error);
    for part in [
        expected,
        "127.0.0.1:",
        ".trust_network(true)",
        "PALM_TRUST_NETWORK=1",
    ] {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn builders_reject_addresses_that_other_hosts_can_reach() {
    check(async {
        for at in BEYOND {
            for own_thread in [false, true] {
                let server = Plain.bind(at).own_thread(own_thread).spawn().await;
                assert_rejected(server, "db_address", at);
            }
            let master = || Master::new("master");
            assert_rejected(master().bind(at).spawn().await, "db_address", at);
            let links_only = master().bind(at).links_only(true);
            assert_rejected(links_only.spawn().await, "db_address", at);
            let pulls = master().bind(ANY).pull_address(at);
            assert_rejected(pulls.spawn().await, "pull_address", at);
            let publishes = master().bind(ANY).pub_address(at);
            assert_rejected(publishes.spawn().await, "pub_address", at);
            let configured = master().bind(ANY).worker_push_address(at);
            assert_rejected(configured.spawn().await, "worker_push_address", at);
            let takes = master().bind(ANY).worker_pull_address(at);
            assert_rejected(takes.spawn().await, "worker_pull_address", at);
            let follows = Hub::new("hub").bind(at).follow("tcp://127.0.0.1:1");
            assert_rejected(follows.spawn().await, "db_address", at);
            // An address that is not bound is not checked.
            let none = master().bind(ANY).pull_address(at).links_only(true);
            let _unreachable = none.spawn().await.unwrap();
        }
        for at in ["0.0.0.0:0", "[::]:0", "*:0", "eth0:0"] {
            let master = Master::new("master").bind(ANY).http(at);
            assert_rejected(master.spawn().await, "http_address", at);
        }
    });
}

#[test]
fn templates_reject_addresses_that_other_hosts_can_reach() {
    type Register = fn(&mut ServerTemplate, &str);
    let parts: [(&str, Register); 9] = [
        ("pull_address", |it, at| {
            it.register_inbound(PullService::bind(at), "Part")
                .route("To");
        }),
        ("rep_address", |it, at| {
            it.register_inbound(RepService::bind(at), "Part")
                .route("To");
        }),
        ("worker_pull_address", |it, at| {
            it.register_inbound(WorkerPullService::bind(at), "Part")
                .route("To");
        }),
        ("worker_push_address", |it, at| {
            it.register_outbound(WorkerPushService::bind(at), "Out");
            it.register_inbound(WorkerPullService::bind(ANY), "Results")
                .route("To");
        }),
        ("worker_push_address", |it, at| {
            it.register_outbound(PushPullService::bind(at, ANY), "Out");
        }),
        ("worker_pull_address", |it, at| {
            it.register_outbound(PushPullService::bind(ANY, at), "Out");
        }),
        ("push_address", |it, at| {
            it.register_outbound(PushService::bind(at), "Out");
        }),
        ("pub_address", |it, at| {
            it.register_outbound(PubService::bind(at), "Out");
        }),
        ("bypass_address", |it, at| {
            it.register_bypass(RepBypassService::bind(at, Clock), "Part");
        }),
    ];
    check(async {
        for at in BEYOND {
            for (option, register) in &parts {
                let mut template = ServerTemplate::new("template");
                register(&mut template, at);
                let description = template.describe().to_string();
                if description.contains("Out ") {
                    let feed = PullService::bind(ANY);
                    template.register_inbound(feed, "Feed").route("Out");
                }
                if description.contains("→ To") {
                    template.register_outbound(Handler::new(Silent), "To");
                }
                assert_rejected(template.spawn().await, option, at);
            }
            let mut template = ServerTemplate::new("template");
            template.register_bypass(CacheService::bind(at), "Cache");
            assert_rejected(template.spawn().await, "db_address", at);

            let mut template = ServerTemplate::new("template");
            template.register_bypass(Own(at.to_owned()), "Own");
            let error = chain(&template.spawn().await.unwrap_err());
            for part in ["`template`", "`Own`", "PALM_TRUST_NETWORK=1"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }
        let mut template = ServerTemplate::new("template");
        template
            .register_inbound(HttpService::bind("0.0.0.0:0"), "Http")
            .route("To");
        template.register_outbound(Handler::new(Silent), "To");
        assert_rejected(template.spawn().await, "http_address", "HttpService");
        let mut template = ServerTemplate::new("template");
        let gateway = palm::http::Gateway::new();
        template.register_bypass(HttpGateway::bind("0.0.0.0:0", &gateway), "Http");
        assert_rejected(template.spawn().await, "http_address", "HttpGateway");

        let serving = palm::http::serve(axum::Router::new(), "0.0.0.0:0");
        let error = soon("an error", serving).await.unwrap_err().to_string();
        assert!(error.contains("`127.0.0.1:0`"), "{error}");
    });
}

#[test]
fn addresses_that_other_hosts_can_reach_are_bound_if_the_network_is_trusted() {
    check(async {
        let server = Plain.bind("tcp://*:0").trust_network(true);
        let server = server.spawn().await.unwrap();
        let client = connect("plain", &server).await;
        assert_eq!(client.eval(Plain::SAME, "x").await.unwrap(), "x");

        let mut template = ServerTemplate::new("template").trust_network(true);
        template.register_bypass(CacheService::bind("tcp://*:0"), "Cache");
        template.register_bypass(Own("tcp://*:0".to_owned()), "Own");
        let _template = template.spawn().await.unwrap();

        // A listener has the option as well.
        let listener = palm::http::Listener::new("0.0.0.0:0").trust_network(true);
        let master = Master::new("master").bind(ANY).http(listener);
        let _master = master.spawn().await.unwrap();
        let addresses = ["tcp://localhost:0", "tcp://127.0.0.2:0"];
        for at in addresses {
            let _local = Plain.bind(at).spawn().await.unwrap();
        }
    });
}

/// Runs a role in a process of its own; returns whether it succeeded, and what it printed and logged.
async fn run(role: &str, trust: Option<&str>) -> (bool, String) {
    let mut command = process::role(role, &[]);
    match trust {
        Some(value) => command.env("PALM_TRUST_NETWORK", value),
        None => command.env_remove("PALM_TRUST_NETWORK"),
    };
    let ended = Process::spawn(role, command).output(SOON).await;
    (ended.status.success(), ended.stdout + &ended.stderr)
}

#[test]
fn palm_trust_network_admits_open_addresses_with_one_warning() {
    check(async {
        for variable in [None, Some("0"), Some("")] {
            let (succeeds, log) = run("open_component", variable).await;
            assert!(!succeeds, "{log}");
        }
        let (succeeds, log) = run("open_component", Some("1")).await;
        assert!(succeeds, "{log}");
        let warnings: Vec<_> = log.lines().filter(|it| it.contains("WARN")).collect();
        let [warning] = warnings[..] else {
            panic!("one warning: {log}");
        };
        assert!(
            warning.contains("can join, read and stop others"),
            "{warning}"
        );
        assert!(warning.matches("tcp://").count() == 5, "{warning}");
        assert!(warning.contains("http://0.0.0.0:"), "{warning}");
    });
}

/// The role of a process: a master that other hosts can reach.
pub(crate) fn open_component() {
    check(async {
        palm::logging::init();
        let master = Master::new("master").bind("tcp://*:0").http("0.0.0.0:0");
        let master = master.spawn().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

#[test]
fn links_only_component_binds_one_port_and_its_peers_none() {
    check(async {
        let (succeeds, log) = run("links_only_components", None).await;
        assert!(succeeds, "{log}");
    });
}

/// Returns how many TCP ports this process listens at.
#[cfg(target_os = "linux")]
fn listening() -> usize {
    const LISTEN: &str = "0A";
    let own: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|it| std::fs::read_link(it.unwrap().path()).ok())
        .filter_map(|it| {
            let inode = it.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let tables = tables.map(|it| std::fs::read_to_string(it).unwrap_or_default());
    let sockets = tables.iter().flat_map(|it| it.lines().skip(1));
    let listens = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[3] == LISTEN && own.contains(fields[9])
    };
    sockets.filter(|line| listens(line)).count()
}

/// The role of a process: counts the ports of components without legacy sockets.
#[cfg(target_os = "linux")]
pub(crate) fn links_only_components() {
    check(async {
        assert_eq!(listening(), 0);
        let server = Plain.bind(ANY).links_only(true).spawn().await.unwrap();
        assert_eq!(listening(), 1, "a server");
        let master = Master::new("master").bind(ANY).links_only(true);
        let master = master.spawn().await.unwrap();
        assert_eq!(listening(), 2, "a master");
        let hub = Hub::new("hub").bind(ANY).follow(server.db_address());
        let _hub = hub.links_only(true).spawn().await.unwrap();
        assert_eq!(listening(), 3, "a hub");
        let mut template = ServerTemplate::new("template").links_only(true);
        template
            .register_inbound(PullService::bind(ANY), "Pull")
            .route("Workers");
        template
            .register_outbound(PushPullService::bind(ANY, ANY), "Workers")
            .route("Pub");
        template.register_outbound(PubService::bind(ANY), "Pub");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let _template = template.spawn().await.unwrap();
        assert_eq!(listening(), 4, "a component from parts");

        let _worker = Hand.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(client.eval(Hand::SAME, "x").await.unwrap(), "x");
        let other = connect("plain", &server).await;
        assert_eq!(other.eval(Plain::SAME, "x").await.unwrap(), "x");
        assert_eq!(listening(), 4, "workers and clients");

        // Ports that the user configures are bound.
        let configured = Plain.bind(ANY).pull_address(ANY).pub_address(ANY);
        let _configured = configured.spawn().await.unwrap();
        assert_eq!(listening(), 7, "a server with links and sockets");
    });
}

#[test]
fn legacy_ports_are_opened_on_demand() {
    check(async {
        let (succeeds, log) = run("ports_on_demand", None).await;
        assert!(succeeds, "{log}");
        // The first line states the address that the user has configured.
        let mut lines = log.lines().filter(|line| line.contains("INFO"));
        let first = lines.next().unwrap_or_default();
        assert!(first.contains("master `master` at tcp://"), "{log}");
        let requests = log.matches("a legacy peer has requested it").count();
        assert_eq!(requests, 5, "{log}");
    });
}

/// The role of a process: counts the ports before and after legacy peers request them.
#[cfg(target_os = "linux")]
pub(crate) fn ports_on_demand() {
    check(async {
        palm::logging::init();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(master.db_address());
        let hub = hub.spawn().await.unwrap();
        let worker = Hand.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("master", &master).await;
        assert_eq!(client.eval(Hand::SAME, "x").await.unwrap(), "x");
        assert_eq!(listening(), 2, "one port for each component");

        // A legacy worker and a legacy client request these keys, one after another.
        let keys = [
            "worker_push_address",
            "worker_pull_address",
            "pull_address",
            "pub_address",
        ];
        let at = address(master.db_address());
        let options = SocketOptions::default();
        let request = Request::connect(&at, &options);
        let request = request.await.unwrap();
        for (number, key) in keys.into_iter().enumerate() {
            for _ in 0..2 {
                let body = Message::new("_.get", key).encode();
                let reply = request.request(body, SOON).await.unwrap();
                assert!(reply.starts_with(b"tcp://127.0.0.1:"), "{reply:?}");
                let at = std::str::from_utf8(&reply).unwrap().to_owned();
                let at = at.strip_prefix("tcp://").unwrap();
                tokio::net::TcpStream::connect(at).await.unwrap();
            }
            assert_eq!(listening(), 3 + number, "{key}");
        }

        // The handle opens the port as well.
        assert!(hub.address("pub_address").is_some());
        eventually("the port of the hub", || listening() == 7).await;
        drop((worker, client));
    });
}
