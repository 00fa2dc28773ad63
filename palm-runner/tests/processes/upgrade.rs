//! A runner that replaces itself.

use libtest_mimic::Trial;
use palm_runner::api::{ClientError, Request};
use palm_runner::runner::read_events;
use rustix::process::Signal;

use crate::setup::{Cluster, counter, eventually, idle, instance_of, program, script, send, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("upgrade_keeps_processes_and_loses_no_line", keeps),
        trial("upgrade_that_fails_changes_nothing", fails),
    ]
}

fn keeps() {
    let cluster = Cluster::start(vec![counter("counter/0"), idle("idle/0")]);
    let before = cluster.until_ready();
    for upgrades in 1..=3 {
        upgrade(&cluster, upgrades);
        let after = cluster.status();
        assert_eq!(after.runner_pid, before.runner_pid);
        for instance in &before.instances {
            let now = instance_of(&after, &instance.id.to_string());
            assert_eq!((now.pid, now.run, &*now.state), (instance.pid, 1, "ready"));
        }
    }
    // Exit codes and readiness are those of the children that the previous version started.
    let pid = instance_of(&before, "idle/0").pid.unwrap();
    send(pid, Signal::KILL);
    let restarted = cluster.until_instance("idle/0", |it| it.is_ready() && it.run == 2);
    assert_eq!(
        restarted.last_failure.as_deref(),
        Some("was killed by SIGKILL")
    );
    cluster.down();
    let lines = cluster.lines("counter");
    assert!(lines.len() > 10);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"));
    }
    let events = read_events(&cluster.folders.events()).unwrap();
    assert_eq!(events.iter().filter(|it| it.event == "upgrade").count(), 3);
}

/// Replaces the runner by itself, for the `upgrades`th time.
pub(crate) fn upgrade(cluster: &Cluster, upgrades: u32) {
    cluster.request(&Request::Upgrade {
        executable: program(),
    });
    eventually("the next version answers", || {
        let status = palm_runner::api::Client::connect(&cluster.folders.api())
            .and_then(|mut client| client.status());
        status.is_ok_and(|status| status.upgrades == upgrades)
    });
}

fn fails() {
    let endless = r#""$0" notify READY=1; while :; do echo x; sleep 0.05; done"#;
    let cluster = Cluster::start(vec![script("a/0", endless)]);
    cluster.until_ready();
    let missing = Request::Upgrade {
        executable: "/no/such/file".into(),
    };
    let refused = cluster.client().command(&missing);
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );
    // It exists and cannot be executed.
    cluster.request(&Request::Upgrade {
        executable: "/etc/passwd".into(),
    });
    eventually("the failure is an event", || {
        let events = read_events(&cluster.folders.events()).unwrap();
        events
            .iter()
            .any(|it| it.event == "upgrade" && it.why.contains("/etc/passwd"))
    });
    let count = cluster.lines("a").len();
    eventually("lines are still read", || cluster.lines("a").len() > count);
    assert_eq!(cluster.status().upgrades, 0);
    cluster.down();
}
