//! Changes of a cluster while a client uses it: no answer is lost, and none comes twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libtest_mimic::Trial;
use palm::prelude::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::component::Numbers;
use crate::setup::{Cluster, LIMIT, trial};

/// A master and two workers, which this program is.
pub(crate) const CLUSTER: &str = r#"
    [components.master]
    kind = "master"
    name = "numbers"
    command = "PROGRAM"
    args = ["master", "{db}"]
    ready = "address"
    restart = { policy = "always", backoff = "100ms..1s" }

    [components.worker]
    kind = "worker"
    master = "master"
    command = "PROGRAM"
    args = ["worker", "{master.db}", "{instance}"]
    replicas = { min = 1, max = 8, start = 2 }
    restart = { policy = "always", backoff = "100ms..1s" }
"#;

/// A master and four workers of a program of `palm::main!`, which is this one.
const PROGRAMS: &str = r#"
    [components.master]
    kind = "master"
    name = "numbers"
    program = "PROGRAM"

    [components.worker]
    kind = "worker"
    master = "master"
    program = "PROGRAM"
    replicas = 4
"#;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("job_is_complete_although_each_component_is_killed", killed),
        trial("scaling_and_rolling_restarts_lose_no_answer", changed),
        trial(
            "rolling_restart_drains_a_worker_once_the_one_before_has_joined",
            rolled,
        ),
        trial("worker_without_its_master_is_not_ready_and_says_so", alone),
        trial(
            "calls_and_jobs_find_the_components_of_the_nearest_file",
            nearest,
        ),
    ]
}

/// Runs a job of so many calls, and `change` at the same time, which receives the number of answers until now.
fn job(cluster: &Cluster, calls: u64, change: impl FnOnce(&AtomicU64) + Send) {
    let answered = Arc::new(AtomicU64::new(0));
    let address = cluster.db("master");
    let counter = answered.clone();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = async move {
        let client = Client::connect("numbers", &address).await.unwrap();
        let numbers = (0..calls).map(|number| number.to_string());
        let mut answers = client.job(Numbers::DOUBLE, numbers);
        let mut found = HashSet::new();
        while let Some(answer) = answers.next().await {
            let answer: u64 = answer.unwrap().parse().unwrap();
            assert!(found.insert(answer), "{answer} came twice");
            counter.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(found, (0..calls).map(|number| 2 * number).collect());
    };
    std::thread::scope(|scope| {
        let job = scope.spawn(move || {
            runtime.block_on(async { tokio::time::timeout(LIMIT, client).await.unwrap() });
        });
        change(&answered);
        job.join().unwrap();
    });
    assert_eq!(answered.load(Ordering::Relaxed), calls);
}

/// Waits for an answer after those until now, so that the job is under way.
fn until_further_answers(answered: &AtomicU64) {
    let before = answered.load(Ordering::Relaxed);
    let begin = std::time::Instant::now();
    while answered.load(Ordering::Relaxed) < before + 100 {
        assert!(begin.elapsed() < LIMIT, "no further answers after {before}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn killed() {
    let cluster = Cluster::new(CLUSTER);
    cluster.succeed(&["up", "--wait"]);
    let before = cluster.status();
    job(&cluster, 100_000, |answered| {
        for instance in &before.instances {
            until_further_answers(answered);
            let pid = Pid::from_raw(instance.pid.unwrap().try_into().unwrap()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            cluster.until("it was restarted", |status| {
                let it = status
                    .instances
                    .iter()
                    .find(|it| it.id == instance.id)
                    .unwrap();
                it.run == 2 && it.is_ready()
            });
        }
    });
    let ps = cluster.succeed(&["ps"]);
    assert_eq!(ps.matches("was killed by SIGKILL").count(), 3, "{ps}");
    assert!(
        cluster.status().instances.iter().all(|it| it.exits == 1),
        "{ps}"
    );
    cluster.succeed(&["down"]);
}

fn changed() {
    let cluster = Cluster::new(CLUSTER);
    cluster.succeed(&["up", "--wait"]);
    job(&cluster, 60_000, |answered| {
        for count in ["worker=8", "worker=2"] {
            until_further_answers(answered);
            cluster.succeed(&["scale", count]);
        }
        until_further_answers(answered);
        cluster.succeed(&["restart", "--rolling", "worker"]);
        until_further_answers(answered);
        cluster.succeed(&["restart", "master"]);
    });
    let status = cluster.status();
    let runs: Vec<_> = status
        .instances
        .iter()
        .map(|it| (it.id.to_string(), it.run))
        .collect();
    let expected = [("master/0", 2), ("worker/0", 2), ("worker/1", 2)];
    assert_eq!(runs, expected.map(|(id, run)| (id.to_owned(), run)));
    cluster.succeed(&["down"]);
}

fn rolled() {
    let cluster = Cluster::new(PROGRAMS);
    cluster.succeed(&["up", "--wait"]);
    job(&cluster, 60_000, |answered| {
        until_further_answers(answered);
        cluster.succeed(&["restart", "--rolling", "worker"]);
        until_further_answers(answered);
    });
    // The order of what the master has seen.
    let log = cluster.succeed(&["logs", "master"]);
    let seen = log.lines().filter_map(|line| {
        let (_, worker) = line.split_once("worker=")?;
        let worker = worker.split_whitespace().next()?.to_owned();
        let what = ["worker connected", "worker draining"];
        let what = what.into_iter().find(|what| line.contains(what))?;
        Some((worker, what))
    });
    let seen: Vec<_> = seen.skip(4).collect();
    let expected = (0..4).flat_map(|number| {
        let worker = format!("worker/{number}");
        [
            (worker.clone(), "worker draining"),
            (worker, "worker connected"),
        ]
    });
    assert_eq!(seen, expected.collect::<Vec<_>>(), "{log}");
    cluster.succeed(&["down"]);
}

fn alone() {
    // Nothing listens at the master's address, although its process is ready.
    let cluster = Cluster::new(
        r#"
        [components.master]
        kind = "master"
        name = "numbers"
        command = "sh"
        args = ["-c", "exec sleep 1000", "{db}"]
        ready = "running"

        [components.worker]
        kind = "worker"
        master = "master"
        program = "PROGRAM"
    "#,
    );
    let error = cluster.fail(&["up", "--wait", "--timeout", "3"]);
    let cause = format!(
        ": waits for its master at {}: no socket exists at this path",
        cluster.db("master")
    );
    let expected = "worker: worker/0 has not reported READY=1 since ";
    assert!(
        error.contains(expected) && error.contains(&cause),
        "{error}"
    );
    let ps = cluster.succeed(&["ps"]);
    assert!(ps.contains(&cause[2..]), "{ps}");
    cluster.succeed(&["down"]);
}

fn nearest() {
    let cluster = Cluster::new(CLUSTER);
    let call = ["call", "numbers.double", "21"];
    let error = cluster.fail(&call);
    assert_eq!(
        error,
        "error: the cluster does not run: `palm up` starts it\n"
    );
    cluster.succeed(&["up", "--wait"]);
    assert_eq!(cluster.succeed(&call).trim(), "42");
    let error = cluster.fail(&["call", "number.double", "21"]);
    assert_eq!(
        error,
        "error: the cluster has no `number`; it has numbers\n"
    );
    cluster.succeed(&["cache", "set", "key", "value"]);
    assert_eq!(cluster.succeed(&["cache", "get", "key"]).trim(), "value");
    cluster.succeed(&["down"]);
}
