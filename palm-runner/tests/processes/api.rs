//! Requests to a runner that ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use libtest_mimic::Trial;
use palm_runner::api::{Answer, ClientError, Envelope, Request, VERSION};
use rustix::process::Signal;

use crate::setup::{Cluster, idle, script, send, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("requests_to_a_runner_that_ends_are_answered", answered),
        trial("request_to_a_killed_runner_says_that_it_has_ended", killed),
    ]
}

fn line(request: &Request) -> Vec<u8> {
    let envelope = Envelope {
        version: VERSION,
        request: serde_json::to_value(request).unwrap(),
    };
    let mut line = serde_json::to_vec(&envelope).unwrap();
    line.push(b'\n');
    line
}

/// More connections than the runner accepts at a time: the system would reset those that wait, if it closed.
fn answered() {
    let cluster = Cluster::start(vec![idle("a/0")]);
    cluster.until_ready();
    let connections: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(cluster.folders.api()).unwrap())
        .collect();
    let requests = std::iter::once(Request::Down { kill: false });
    let requests = requests.chain(std::iter::repeat(Request::Status));
    let sent: Vec<_> = connections.iter().zip(requests).collect();
    // The request to stop is sent last, over a connection that was accepted.
    for (mut connection, request) in sent.into_iter().rev() {
        connection.write_all(&line(&request)).unwrap();
    }
    for (index, connection) in connections.iter().enumerate() {
        connection
            .set_read_timeout(Some(crate::setup::LIMIT))
            .unwrap();
        let mut lines = BufReader::new(connection).lines();
        let answer = lines
            .next()
            .unwrap_or_else(|| panic!("{index} has no answer"));
        let answer: Answer = serde_json::from_str(&answer.unwrap()).unwrap();
        match index {
            0 => assert!(matches!(answer, Answer::Done), "{answer:?}"),
            _ => assert!(matches!(answer, Answer::Status(_)), "{answer:?}"),
        }
        // The connection is closed, and not reset.
        assert!(lines.next().is_none(), "{index}");
    }
    cluster.until_ended();
}

fn killed() {
    let cluster = Cluster::start(vec![script("a/0", "exec sleep 1000")]);
    let mut client = cluster.client();
    client.status().unwrap();
    send(cluster.runner_pid(), Signal::KILL);
    cluster.until_ended();
    let ended = client.status();
    assert!(matches!(ended, Err(ClientError::Ended)), "{ended:?}");
    let gone = palm_runner::api::Client::connect(&cluster.folders.api());
    assert!(matches!(gone, Err(ClientError::NotRunning)), "{gone:?}");
}
