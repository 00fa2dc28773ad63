//! Processes and runners that end.

use libtest_mimic::Trial;
use palm_plan::instance::{Readiness, RestartPolicy};
use palm_runner::api::Request;
use palm_runner::runner::{Progress, read_events};
use rustix::process::Signal;

use crate::setup::{
    Cluster, counter, eventually, idle, instance_of, is_alive, script, send, trial,
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("killed_processes_are_restarted_and_explained", killed),
        trial("exit_is_explained_by_the_last_lines", explained),
        trial("job_completes", job),
        trial("runner_that_is_killed_leaves_a_clean_start", runner_killed),
        trial("stop_by_signal_drains_all", stopped_by_signal),
        trial("end_of_the_terminal_stops_all_unless_ignored", hangup),
        trial("rolling_restart_replaces_one_after_the_other", rolling),
        trial("stopped_instance_starts_again", stop_and_restart),
    ]
}

fn killed() {
    let cluster = Cluster::start(vec![idle("a/0"), idle("b/0"), idle("b/1")]);
    let before = cluster.until_ready();
    for instance in &before.instances {
        send(instance.pid.unwrap(), Signal::KILL);
    }
    let after = cluster.until("all were restarted", |status| {
        status
            .instances
            .iter()
            .all(|it| it.is_ready() && it.run == 2)
    });
    for instance in &after.instances {
        assert_eq!((instance.exits, instance.failures), (1, 1));
        assert_eq!(
            instance.last_failure.as_deref(),
            Some("was killed by SIGKILL")
        );
        let old = instance_of(&before, &instance.id.to_string()).pid;
        assert_ne!(instance.pid, old);
    }
    eventually("the memory is known", || {
        // A process that executes its program has none for a moment.
        let status = cluster.status();
        status.instances.iter().all(|it| it.memory_bytes > Some(0))
    });
    cluster.down();
    let events = read_events(&cluster.folders.events()).unwrap();
    let of_b: Vec<_> = events
        .iter()
        .filter(|it| {
            it.instance
                .as_ref()
                .is_some_and(|id| id.to_string() == "b/1")
        })
        .map(|it| (it.run.unwrap(), &*it.event))
        .collect();
    let expected = [
        (1, "starting"),
        (1, "ready"),
        (1, "backoff"),
        (2, "starting"),
        (2, "ready"),
        (2, "draining"),
        (2, "stopped"),
    ];
    assert_eq!(of_b, expected);
    assert_eq!(events[0].event, "up");
}

fn explained() {
    let panics = "echo \"thread 'main' panicked at src/main.rs:1:1:\" >&2; echo 'no such file' >&2; exit 101";
    let mut failing = script("a/0", panics);
    failing.restart.max = Some(1);
    let mut late = script("late/0", "exec sleep 1000");
    late.ready_timeout = std::time::Duration::from_millis(300);
    late.restart.policy = RestartPolicy::Never;
    let cluster = Cluster::start(vec![failing, late]);
    let failed = cluster.until_instance("a/0", |it| it.state == "failed");
    let expected = "exited with 101: thread 'main' panicked at src/main.rs:1:1: no such file; it failed 2 times in a row";
    assert_eq!(failed.why, expected);
    let late = cluster.until_instance("late/0", |it| it.state == "failed");
    let expected = "has not reported READY=1 within 300 ms, and was killed by SIGTERM";
    assert_eq!(late.why, format!("{expected}; it is not restarted"));
    cluster.down();
}

fn job() {
    let mut job = script("job/0", "echo done; exit 0");
    job.readiness = Readiness::Exit;
    let mut next = idle("next/0");
    next.after = vec!["job".to_owned()];
    let cluster = Cluster::start(vec![job, next]);
    let status = cluster.until_ready();
    assert_eq!(instance_of(&status, "job/0").state, "completed");
    assert_eq!(cluster.lines("job/0"), ["done"]);
    cluster.down();
}

fn runner_killed() {
    // One of them ignores the SIGTERM that it receives when its runner dies; another one has a child that does not
    // receive it.
    let stubborn = script(
        "stubborn/0",
        r#"trap '' TERM; "$0" notify READY=1; while :; do sleep 0.1; done"#,
    );
    let mut stubborn = stubborn;
    stubborn.drain = std::time::Duration::from_millis(500);
    let mut parent = script("parent/0", r#"sleep 1000 & "$0" notify READY=1; wait"#);
    parent.drain = stubborn.drain;
    let mut counting = counter("counter/0");
    counting.drain = stubborn.drain;
    let all = vec![stubborn, parent, counting];
    let cluster = Cluster::start(all.clone());
    let before = cluster.until_ready();
    send(cluster.runner_pid(), Signal::KILL);
    cluster.until_ended();
    let counter_pid = instance_of(&before, "counter/0").pid.unwrap();
    eventually("SIGTERM ends a component", || !is_alive(counter_pid));
    let stubborn_pid = instance_of(&before, "stubborn/0").pid.unwrap();
    assert!(is_alive(stubborn_pid));
    cluster.start_again(all);
    let progress = cluster.progress.borrow().clone();
    let leftovers = progress.iter().find_map(|it| match it {
        Progress::Leftovers(names) => Some(names.join(" ")),
        Progress::Running => None,
    });
    let leftovers = leftovers.unwrap();
    assert!(
        leftovers.contains("stubborn/0") && leftovers.contains("parent/0"),
        "{leftovers}"
    );
    let after = cluster.until_ready();
    assert!(after.instances.iter().all(|it| it.run == 2), "{after:?}");
    assert!(!cluster.processes().contains(&stubborn_pid));
    cluster.down();
}

fn stopped_by_signal() {
    let drains =
        r#"trap 'echo draining; exit 0' TERM; "$0" notify READY=1; while :; do sleep 0.1; done"#;
    let cluster = Cluster::start(vec![script("a/0", drains)]);
    cluster.until_ready();
    send(cluster.runner_pid(), Signal::TERM);
    cluster.until_ended();
    assert!(cluster.lines("a").contains(&"draining".to_owned()));
    assert_eq!(cluster.processes(), Vec::<u32>::new());
    assert!(!cluster.folders.runtime().exists());
}

fn hangup() {
    let cluster = Cluster::start_noticing_hangup(vec![idle("a/0")]);
    cluster.until_ready();
    send(cluster.runner_pid(), Signal::HUP);
    cluster.until_ended();
    assert_eq!(cluster.processes(), Vec::<u32>::new());
    let cluster = Cluster::start_ignoring_hangup(vec![idle("a/0")]);
    cluster.until_ready();
    send(cluster.runner_pid(), Signal::HUP);
    // A later event: the runner restarts a process.
    send(
        instance_of(&cluster.status(), "a/0").pid.unwrap(),
        Signal::KILL,
    );
    cluster.until_instance("a/0", |it| it.is_ready() && it.run == 2);
    assert!(!cluster.status().stopping);
    cluster.down();
}

fn rolling() {
    let ids = ["w/0", "w/1", "w/2"];
    let cluster = Cluster::start(ids.map(idle).into());
    cluster.until_ready();
    cluster.request(&Request::Restart {
        ids: ids.map(|id| id.parse().unwrap()).into(),
        rolling: true,
    });
    let status = cluster.until("all were restarted", |status| {
        let ready = status.instances.iter().filter(|it| it.is_ready()).count();
        assert!(ready >= 2, "{status:?}");
        status.instances.iter().all(|it| it.settled && it.run == 2)
    });
    assert_eq!(status.rolling.done, 3);
    cluster.down();
}

fn stop_and_restart() {
    let cluster = Cluster::start(vec![idle("a/0"), idle("b/0")]);
    cluster.until_ready();
    let ids = vec!["a/0".parse().unwrap()];
    cluster.request(&Request::Stop { ids: ids.clone() });
    cluster.until_instance("a/0", |it| it.state == "stopped");
    assert_eq!(instance_of(&cluster.status(), "b/0").run, 1);
    cluster.request(&Request::Restart {
        ids,
        rolling: false,
    });
    cluster.until_instance("a/0", |it| it.is_ready() && it.run == 2);
    cluster.down();
}
