//! `palm inspect` and `palm graph` of the cluster of a file, whose processes end and return.

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::load;
use crate::setup::{Cluster, palm, trial};

/// The cluster, in which what was killed stays away for long enough to be seen.
fn file() -> String {
    let slow = load::CLUSTER.replace("100ms..1s", "1h..1h");
    let other = r#"
        [components.other]
        kind = "process"
        command = "sleep"
        args = ["1000"]
    "#;
    slow + other
}

pub(crate) fn tests() -> Vec<Trial> {
    vec![trial(
        "killed_processes_are_shown_with_their_reason_until_they_return",
        gaps,
    )]
}

/// Kills an instance, and waits until the runner knows.
fn kill(cluster: &Cluster, id: &str) {
    let status = cluster.status();
    let killed = |it: &&palm_runner::state::InstanceStatus| it.id.to_string() == id;
    let pid = status.instances.iter().find(killed).unwrap().pid.unwrap();
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    cluster.until("it ended", |status| {
        status.instances.iter().find(killed).unwrap().state == "backoff"
    });
}

fn inspect(cluster: &Cluster) -> Value {
    let text = cluster.succeed(&["inspect", "-o", "json", "--measure", "0.2"]);
    serde_json::from_str(&text).unwrap()
}

fn gaps() {
    let cluster = Cluster::new(&file());
    let stopped = cluster.fail(&["inspect"]);
    let expected = "error: the cluster does not run: `palm up` starts it\n";
    assert_eq!(stopped, expected);
    let elsewhere = tempfile::tempdir().unwrap();
    let output = palm(elsewhere.path()).arg("inspect").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("state the address of a component"),
        "{error}"
    );
    let of_file = cluster.succeed(&["graph"]);
    assert!(
        of_file.contains("worker") && !of_file.contains("processes"),
        "{of_file}"
    );
    cluster.succeed(&["up", "--wait"]);

    let all = inspect(&cluster);
    let components: Vec<_> = all["components"].as_array().unwrap().iter().collect();
    assert_eq!(components.len(), 1, "{all:#}");
    assert_eq!(components[0]["key"], "master");
    assert_eq!(components[0]["problem"], Value::Null);
    let processes = all["processes"].as_array().unwrap();
    let ready: Vec<_> = processes
        .iter()
        .map(|it| (&it["key"], &it["ready"]))
        .collect();
    assert_eq!(
        ready,
        [("master", 1), ("other", 1), ("worker", 2)]
            .map(|(key, ready)| (Value::from(key), Value::from(ready)))
            .each_ref()
            .map(|(key, ready)| (key, ready))
    );
    for process in processes
        .iter()
        .flat_map(|it| it["instances"].as_array().unwrap())
    {
        assert!(
            process["memory_bytes"].as_u64().unwrap() > 100_000,
            "{process}"
        );
        assert!(process["cpu"].as_f64().is_some(), "{process}");
        assert_eq!(process["exits"], 0);
    }

    kill(&cluster, "worker/1");
    let reason = "worker/1 was killed by SIGKILL; starts again in ";
    let graph = cluster.succeed(&["graph", "--measure", "0"]);
    let line = graph.lines().find(|line| line.starts_with("worker "));
    let cells: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(cells[..5], ["worker", "worker", "1", "of", "2"], "{graph}");
    assert!(
        line.unwrap().ends_with("1  worker/1 was killed by SIGKILL"),
        "{graph}"
    );
    assert!(graph.contains(&format!("\n  {reason}")), "{graph}");

    // A component that others connect to: its row has the reason of its process.
    kill(&cluster, "master/0");
    let all = inspect(&cluster);
    let problem = all["components"][0]["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("master/0 was killed by SIGKILL; starts again in "),
        "{all:#}"
    );
    assert_eq!(all["components"][0]["name"], "master");
    assert_eq!(all["processes"][0]["instances"][0]["exits"], 1);
    let dot = cluster.succeed(&["graph", "--dot", "--measure", "0"]);
    assert!(dot.contains(reason), "{dot}");

    // Both return, also as seen from another folder.
    cluster.succeed(&["restart", "master", "worker/1"]);
    let file = cluster.folder.path().join("cluster.toml");
    let output = palm(elsewhere.path())
        .args(["inspect", "--measure", "0", "--file"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains("starts again") && !text.contains("unreachable"),
        "{text}"
    );
    assert!(
        text.contains("numbers") && text.contains("2 of 2"),
        "{text}"
    );
    // The file itself, whether the cluster runs or not.
    assert_eq!(cluster.succeed(&["graph", "cluster.toml"]), of_file);
    cluster.succeed(&["down"]);
}
