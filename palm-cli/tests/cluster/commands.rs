//! The commands, with components that do nothing.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};

use crate::setup::{Cluster, LIMIT, palm, trial};

const IDLE: &str = r#"
    [components.a]
    kind = "process"
    command = "sh"
    args = ["-c", "echo INFO begin; exec sleep 1000"]

    [components.b]
    kind = "process"
    command = "sh"
    args = ["-c", "echo run $PALM_RUN of $PALM_INSTANCE; exec sleep 1000"]
    replicas = 2
    after = ["a"]
"#;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "commands_of_a_cluster_that_does_not_run_say_so",
            not_running,
        ),
        trial(
            "up_twice_changes_nothing_and_a_changed_file_what_changed",
            up_twice,
        ),
        trial("two_runs_of_up_at_once_start_one_cluster", up_at_once),
        trial("component_that_never_gets_ready_is_explained", never_ready),
        trial("master_that_never_gets_ready_is_explained", late_master),
        trial("scale_restart_stop_and_upgrade", changes),
        trial("commands_do_not_wait_for_a_job_that_runs", beside_a_job),
        trial("up_returns_what_came_of_its_own_change", own_change),
        trial(
            "component_that_was_scaled_can_be_renamed_or_removed",
            renamed,
        ),
        trial(
            "up_does_not_replace_what_runs_by_what_cannot_run",
            impossible,
        ),
        trial("logs_follow_restarts_and_new_replicas", follow),
        trial("log_files_that_cannot_be_written_are_said", unwritable),
        trial("logs_are_searched_with_context_in_earlier_runs", grep),
        trial("limits_of_logs_are_changed_without_a_restart", log_limits),
        trial(
            "up_on_a_terminal_shows_logs_and_stops_at_an_interrupt",
            foreground,
        ),
        trial(
            "mistakes_of_a_file_do_not_keep_a_cluster_from_being_stopped",
            mistakes,
        ),
    ]
}

fn not_running() {
    let cluster = Cluster::new(IDLE);
    for command in [
        vec!["ps"],
        vec!["status"],
        vec!["restart"],
        vec!["scale", "b=3"],
    ] {
        let error = cluster.fail(&command);
        assert_eq!(
            error,
            "error: the cluster does not run: `palm up` starts it\n"
        );
    }
    assert_eq!(cluster.succeed(&["down"]), "test does not run\n");
    assert_eq!(cluster.succeed(&["events"]), "");
    let empty = tempfile::tempdir().unwrap();
    let output = palm(empty.path()).arg("up").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("there is no cluster.toml in this folder"),
        "{error}"
    );
}

fn up_twice() {
    let cluster = Cluster::new(IDLE);
    let up = cluster.succeed(&["up", "--wait"]);
    assert!(
        up.starts_with("test runs: 3 of 3 are ready (process "),
        "{up}"
    );
    let pids = || -> Vec<_> { cluster.status().instances.iter().map(|it| it.pid).collect() };
    let before = pids();
    let (code, _, stderr) = cluster.palm(&["up"]);
    assert_eq!(code, 0);
    assert!(stderr.starts_with("test is run by process "), "{stderr}");
    assert!(
        stderr.ends_with(" already, and its file has not changed\n"),
        "{stderr}"
    );
    assert_eq!(pids(), before);
    cluster.write(&IDLE.replace("begin", "other"));
    let error = cluster.fail(&["up", "-d"]);
    assert!(
        error.contains("~ restart  a/0") && error.contains("--yes"),
        "{error}"
    );
    assert_eq!(pids(), before);
    cluster.succeed(&["up", "--wait", "--yes"]);
    assert_eq!(pids()[1..], before[1..]);
    assert_ne!(pids()[0], before[0]);
    cluster.succeed(&["down"]);
}

fn up_at_once() {
    let cluster = Cluster::new(IDLE);
    let start = || {
        let mut up = palm(cluster.folder.path());
        let up = up.args(["up", "--wait"]);
        up.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let all: Vec<_> = (0..3).map(|_| start().unwrap()).collect();
    let ended = all.into_iter().map(|up| up.wait_with_output().unwrap());
    let ended: Vec<_> = ended.collect();
    let runner = cluster.status().runner_pid;
    let mut started = 0;
    for output in &ended {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).unwrap();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        // Which of these sentences appears depends on how far the first one has come.
        let names_runner = format!("is run by process {runner}");
        match output.status.success() {
            true if error.is_empty() => started += 1,
            true => assert!(error.contains(&names_runner), "{out}{error}"),
            false => assert!(error.contains(&names_runner), "{out}{error}"),
        }
    }
    assert_eq!(started, 1, "{ended:?}");
    let status = cluster.status();
    assert!(
        status
            .instances
            .iter()
            .all(|it| it.run == 1 && it.is_ready())
    );
    let events = cluster.succeed(&["events"]);
    assert_eq!(events.matches(" up: ").count(), 1, "{events}");
    cluster.succeed(&["down"]);
}

fn late_master() {
    let cluster = Cluster::new(
        r#"
        [components.master]
        kind = "master"
        command = "sh"
        args = ["-c", "echo waiting for the database; exec sleep 1000", "{db}"]
        ready = "notify"
        ready_timeout = "200ms"
        restart = { policy = "always", backoff = "10ms..20ms" }

        [components.worker]
        kind = "worker"
        master = "master"
        command = "sh"
        args = ["-c", "exec sleep 1000", "{master.db}"]
    "#,
    );
    let error = cluster.fail(&["up", "--wait"]);
    let expected = "master: master/0 has not reported READY=1 within 200 ms, and was killed by SIGTERM: \
                    waiting for the database; starts again in ";
    assert!(error.contains(expected), "{error}");
    assert!(
        error.contains("worker: worker/0 waits for `master`"),
        "{error}"
    );
    let log = cluster.succeed(&["logs", "master"]);
    let expected =
        "palm: run 1 of master/0 has not reported READY=1 within 200 ms, and was killed by SIGTERM";
    assert!(log.contains(expected), "{log}");
    cluster.succeed(&["down"]);
}

fn never_ready() {
    let cluster = Cluster::new(
        r#"
        [components.a]
        kind = "process"
        command = "sh"
        args = ["-c", "echo no configuration >&2; exit 2"]
        restart = { policy = "always", backoff = "10ms..20ms" }
        ready = "notify"

        [components.b]
        kind = "process"
        command = "sleep"
        args = ["1000"]
        after = ["a"]
    "#,
    );
    let error = cluster.fail(&["up", "--wait"]);
    assert!(
        error.contains("a: a/0 exited with 2: no configuration; starts again in"),
        "{error}"
    );
    assert!(error.contains("b: b/0 waits for `a`"), "{error}");
    // It starts again and again: for a moment, it is not ready yet.
    eventually("the status explains it", || {
        cluster.fail(&["status"]).contains("no configuration")
    });
    cluster.succeed(&["down"]);
}

/// Adds a job that runs until it is stopped.
fn with_job(command: &str) -> String {
    format!(
        r#"{IDLE}
    [components.job]
    kind = "job"
    command = "sh"
    args = ["-c", "{command}"]
    restart = {{ policy = "never" }}
"#
    )
}

fn beside_a_job() {
    let cluster = Cluster::new(&with_job("exec sleep 1000"));
    cluster.succeed(&["up", "-d"]);
    cluster.until("the job runs", |status| {
        let jobs = status.instances.iter().filter(|it| it.is_running());
        jobs.count() == 1 && status.instances[0].is_ready()
    });
    // A wait for the job would end with an error.
    let fast = ["--timeout", "5"];
    let succeed = |command: &[&str]| cluster.succeed(&[command, &fast[..]].concat());
    let restarted = succeed(&["restart", "--rolling", "a", "b"]);
    assert_eq!(restarted, "restarted a/0, b/0, b/1\n");
    assert_eq!(succeed(&["scale", "b=3"]), "b: 3\n");
    assert_eq!(succeed(&["restart", "job"]), "restarted job/0\n");
    let status = cluster.succeed(&["status"]);
    assert_eq!(status, "test: 4 of 4 are ready, 1 job runs\n");
    let error = cluster.fail(&["status", "--wait", "--timeout", "1"]);
    assert!(error.contains("job: job/0 runs since "), "{error}");
    cluster.succeed(&["down"]);
}

fn own_change() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    for round in 0..5 {
        let end = format!("exit {}", round % 2);
        cluster.write(&with_job(&format!("echo round {round}; {end}")));
        let up = ["up", "--wait", "--yes"];
        match round % 2 {
            0 => {
                let up = cluster.succeed(&up);
                assert!(up.starts_with("test runs: 4 of 4 are ready"), "{up}");
            }
            _ => {
                let error = cluster.fail(&up);
                let expected = format!("exited with 1: round {round};");
                assert!(error.contains(&expected), "{error}");
            }
        }
    }
    cluster.succeed(&["down"]);
}

fn renamed() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    cluster.succeed(&["scale", "b=3"]);
    cluster.write(&IDLE.replace("components.b", "components.c"));
    // A change of another component is not rolled out by the way.
    let (code, _, stderr) = cluster.palm(&["scale", "a=1"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("was edited"), "{stderr}");
    assert_eq!(cluster.status().instances.len(), 4);
    let plan = cluster.succeed(&["plan"]);
    assert!(plan.contains("c/1") && !plan.contains("c/2"), "{plan}");
    let up = cluster.succeed(&["up", "--wait", "--yes"]);
    assert!(up.starts_with("test runs: 3 of 3 are ready"), "{up}");
    cluster.succeed(&["down"]);
}

fn impossible() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    let before = cluster.status().instances[0].pid;
    let command = r#"command = "no-such-command""#;
    cluster.write(&IDLE.replacen(r#"command = "sh""#, command, 1));
    let error = cluster.fail(&["up", "--wait", "--yes"]);
    assert!(error.contains("it is not in PATH"), "{error}");
    assert_eq!(cluster.status().instances[0].pid, before);
    cluster.succeed(&["down"]);
    let error = cluster.fail(&["up", "--wait"]);
    assert!(error.contains("it is not in PATH"), "{error}");
    // A component that does not run may be one that cannot.
    let unused = IDLE.replace("after = [\"a\"]", "");
    let unused = unused.replacen(
        r#"command = "sh""#,
        "command = \"no-such-command\"\nprofiles = [\"other\"]",
        1,
    );
    cluster.write(&unused);
    cluster.succeed(&["up", "--wait"]);
    cluster.succeed(&["down"]);
}

fn changes() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    assert_eq!(cluster.succeed(&["scale", "b=4"]), "b: 4\n");
    assert_eq!(cluster.status().instances.len(), 5);
    assert_eq!(cluster.succeed(&["scale", "b=1"]), "b: 1\n");
    assert_eq!(
        cluster.succeed(&["restart", "--rolling"]),
        "restarted a/0, b/0\n"
    );
    assert!(cluster.status().instances.iter().all(|it| it.run == 2));
    let error = cluster.fail(&["restart", "c"]);
    assert_eq!(error, "error: the cluster has no `c`; it has a, b\n");
    assert_eq!(cluster.succeed(&["stop", "b"]), "stopped b/0\n");
    let status = cluster.succeed(&["status"]);
    assert_eq!(status, "test: 1 of 1 are ready, 1 is stopped\n");
    // What was stopped remains so when others are scaled.
    assert_eq!(cluster.succeed(&["scale", "a=1"]), "a: 1\n");
    assert_eq!(cluster.status().instances[1].state, "stopped");
    let error = cluster.fail(&["restart", "b/1"]);
    assert_eq!(error, "error: the cluster has no `b/1`; it has b/0\n");
    assert_eq!(cluster.succeed(&["restart", "b"]), "restarted b/0\n");
    let drained = cluster.succeed(&["drain", "b/0"]);
    assert!(drained.ends_with("stopped b/0\n"), "{drained}");
    let before = cluster.status();
    let upgraded = cluster.succeed(&["upgrade"]);
    assert!(upgraded.starts_with(&format!("the runner (process {})", before.runner_pid)));
    let after = cluster.status();
    assert_eq!(after.instances[0].pid, before.instances[0].pid);
    assert_eq!(after.upgrades, 1);
    let events = cluster.succeed(&["events", "--tail", "3"]);
    assert!(events.contains(" upgrade: "), "{events}");
    let table = cluster.succeed(&["ps"]);
    assert!(
        table.contains("a/0") && table.contains("stopped"),
        "{table}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&cluster.succeed(&["ps", "-o", "json"])).unwrap();
    assert_eq!(json["instances"][1]["state"], "stopped");
    cluster.succeed(&["down"]);
}

fn follow() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    let mut follow = palm(cluster.folder.path());
    let mut follow = follow
        .args(["logs", "-f", "b"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = |wanted: &[&str]| {
        let mut found: Vec<_> = wanted
            .iter()
            .map(|_| lines.next().unwrap().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, wanted);
    };
    next(&["b/0 | run 1 of b/0", "b/1 | run 1 of b/1"]);
    cluster.succeed(&["restart", "b/1"]);
    next(&["b/1 | palm: run 1 of b/1 was killed by SIGTERM"]);
    next(&["b/1 | run 2 of b/1"]);
    cluster.succeed(&["scale", "b=3"]);
    next(&["b/2 | run 1 of b/2"]);
    follow.kill().unwrap();
    follow.wait().unwrap();
    cluster.succeed(&["down"]);
}

fn unwritable() {
    let cluster = Cluster::new(IDLE);
    let logs = cluster.folders.logs();
    std::fs::create_dir_all(&logs).unwrap();
    // A file in the place of a folder. A full disk has the same consequences: see the tests of the runner.
    std::fs::write(logs.join("a"), "").unwrap();
    cluster.succeed(&["up", "--wait"]);
    // It runs, and has no log file.
    assert_eq!(cluster.succeed(&["logs", "a"]), "");
    let warning = "warning: logs of a/0: 1 line was lost: ";
    for command in ["ps", "status"] {
        let shown = cluster.succeed(&[command]);
        assert!(shown.contains(warning), "{shown}");
    }
    let (code, shown, warnings) = cluster.palm(&["logs"]);
    assert_eq!(code, 0);
    assert!(
        warnings.contains(warning) && !shown.contains("INFO begin"),
        "{warnings}{shown}"
    );
    std::fs::remove_file(logs.join("a")).unwrap();
    cluster.until("lines are written again", |status| {
        status.problems.is_empty()
    });
    let (_, shown, warnings) = cluster.palm(&["logs", "a"]);
    assert!(shown.contains("palm: 1 line was lost: "), "{shown}");
    assert_eq!(warnings, "");
    let events = cluster.succeed(&["events"]);
    for event in [
        "a/0 run 1 logs stopped: ",
        "a/0 run 1 logs resumed: 1 line was lost",
    ] {
        assert!(events.contains(event), "{events}");
    }
    cluster.succeed(&["down"]);
}

fn grep() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    cluster.succeed(&["restart", "b/0"]);
    cluster.succeed(&["down"]);
    let found = cluster.succeed(&["logs", "--grep", "^run 1", "-C", "1", "b/0"]);
    assert_eq!(
        found,
        "b/0 | run 1 of b/0\nb/0 - palm: run 1 of b/0 was killed by SIGTERM\n"
    );
    let tail = cluster.succeed(&["logs", "-n", "1", "b/0"]);
    assert_eq!(tail, "b/0 | palm: run 2 of b/0 was killed by SIGTERM\n");
    let info = cluster.succeed(&["logs", "--level", "info", "--run", "1", "a"]);
    assert!(info.starts_with("a/0 | INFO begin\n"), "{info}");
    let error = cluster.fail(&["logs", "--grep", "("]);
    assert!(error.contains("`(` is not a regular expression"), "{error}");
    assert!(
        cluster
            .fail(&["logs", "x"])
            .contains("the cluster has no `x`; it has a, b")
    );
}

/// Polls a condition that no event announces.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn log_limits() {
    let writer = r#"
        [components.a]
        kind = "process"
        command = "sh"
        args = ["-c", "while :; do seq 1000; sleep 0.01; done"]
    "#;
    let cluster = Cluster::new(writer);
    cluster.succeed(&["up", "--wait"]);
    let pid = cluster.status().instances[0].pid;
    let folder = cluster.folders.logs().join("a/0");
    let names = || -> Vec<_> {
        let entries = std::fs::read_dir(&folder).unwrap();
        entries
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(names(), ["1.log"]);
    cluster.write(&format!(
        "logs = {{ file_size = \"64KiB\", runs = 2 }}\n{writer}"
    ));
    let plan = cluster.succeed(&["plan"]);
    assert!(
        plan.contains("~ update   logs  file_size, runs\n"),
        "{plan}"
    );
    let (code, _, stderr) = cluster.palm(&["up", "--wait"]);
    assert_eq!((code, &*stderr), (0, "~ update   logs  file_size, runs\n"));
    eventually("a file is rotated", || names().len() > 2);
    assert_eq!(cluster.status().instances[0].pid, pid);
    // The same file changes nothing.
    let (_, _, stderr) = cluster.palm(&["up", "--wait"]);
    assert!(stderr.ends_with("its file has not changed\n"), "{stderr}");
    // Only the last two runs are kept; a file that is being compressed is deleted afterwards.
    cluster.succeed(&["restart", "a"]);
    cluster.succeed(&["restart", "a"]);
    eventually("the files of the first run are deleted", || {
        !names().iter().any(|name| name.starts_with("1.log"))
    });
    cluster.succeed(&["down"]);
}

fn foreground() {
    let cluster = Cluster::new(IDLE);
    let mut up = palm(cluster.folder.path());
    let mut up = up.arg("up").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(up.stdout.take().unwrap()).lines();
    let mut first: Vec<_> = lines.by_ref().take(3).map(Result::unwrap).collect();
    first.sort();
    assert_eq!(
        first,
        [
            "a/0 | INFO begin",
            "b/0 | run 1 of b/0",
            "b/1 | run 1 of b/1"
        ]
    );
    let pid = Pid::from_raw(up.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(
        rest.iter()
            .filter(|line| line.contains("was killed by SIGTERM"))
            .count(),
        3,
        "{rest:?}"
    );
    assert_eq!(up.wait().unwrap().code(), Some(0));
}

fn mistakes() {
    let cluster = Cluster::new(IDLE);
    cluster.succeed(&["up", "--wait"]);
    cluster.write(&IDLE.replace("kind = \"process\"", "kind = \"proces\""));
    let error = cluster.fail(&["up"]);
    assert!(
        error.contains("proces") && error.contains("has mistakes"),
        "{error}"
    );
    assert!(cluster.succeed(&["ps"]).contains("ready"));
    cluster.succeed(&["down"]);
}
