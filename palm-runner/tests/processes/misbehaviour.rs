//! Children that do what no program should.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::setup::{Cluster, counter, instance_of, script, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("descendants_that_leave_their_group_are_killed", escape),
        trial("child_that_ignores_sigterm_is_killed", stubborn),
        trial("flood_of_output_is_bounded_and_costs_others_nothing", flood),
        trial("output_is_kept_line_by_line_whatever_it_is", bytes),
        trial("child_that_closes_its_output_continues", closed),
    ]
}

fn escape() {
    // A daemon: two forks, a session of its own, no parent, and no output.
    let escapes = r#"(setsid sh -c 'trap "" TERM HUP; sleep 1000 & sleep 1000' >/dev/null 2>&1 &)
        "$0" notify READY=1; exec sleep 1000"#;
    let cluster = Cluster::start(vec![script("a/0", escapes)]);
    let status = cluster.until_ready();
    let pid = instance_of(&status, "a/0").pid.unwrap();
    crate::setup::eventually("the daemon runs", || cluster.processes().len() >= 4);
    let first = cluster.processes();
    crate::setup::send(pid, rustix::process::Signal::KILL);
    cluster.until_instance("a/0", |it| it.is_ready() && it.run == 2);
    assert!(first.into_iter().all(|pid| !crate::setup::is_alive(pid)));
    cluster.down();
}

fn stubborn() {
    let ignores = r#"trap '' TERM; "$0" notify READY=1; while :; do sleep 0.1; done"#;
    let mut ignores = script("a/0", ignores);
    ignores.drain = Duration::from_millis(300);
    let cluster = Cluster::start(vec![ignores]);
    cluster.until_ready();
    cluster.down();
}

fn flood() {
    // 100 MB in lines of 100 bytes.
    let floods =
        r#"yes "$(printf '%099d' 7)" | head -n 1000000; "$0" notify READY=1; exec sleep 1000"#;
    let cluster = Cluster::start(vec![script("flood/0", floods), counter("counter/0")]);
    cluster.until_ready();
    let memory = cluster.memory_of_runner();
    assert!(memory < 64 << 20, "{memory} bytes");
    cluster.down();
    let counted = cluster.lines("counter");
    for (number, line) in counted.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"));
    }
    assert!(counted.len() > 10);
    let lines = cluster.lines("flood");
    assert_eq!(lines.len(), 1_000_000);
    assert!(lines.iter().all(|line| line.len() == 99));
}

fn bytes() {
    let writes = r#"printf 'half '; "$0" notify READY=1; sleep 1.5; printf 'line\n\377\376 \303\251\n'
        printf '\033]0;title\007\033[31mred\033[0m\033[2J\n' >&2; printf 'a\r\nno end'; exit 3"#;
    let mut writes = script("a/0", writes);
    writes.restart.policy = palm_plan::instance::RestartPolicy::Never;
    let cluster = Cluster::start(vec![writes]);
    let failed = cluster.until_instance("a/0", |it| it.state == "failed");
    assert_eq!(failed.why, "exited with 3: red; it is not restarted");
    let mut lines = cluster.lines("a");
    lines.sort();
    let expected = [
        "\u{1b}[31mred\u{1b}[0m",
        "a",
        "half line",
        "no end",
        "\u{fffd}\u{fffd} é",
    ];
    assert_eq!(lines, expected);
    cluster.down();
}

fn closed() {
    let closes =
        r#"echo before; exec >&- 2>&-; "$0" notify READY=1 STATUS=silent; exec sleep 1000"#;
    let cluster = Cluster::start(vec![script("a/0", closes)]);
    let ready = cluster.until_instance("a/0", |it| it.is_ready());
    assert_eq!(ready.why, "silent");
    cluster.down();
    assert_eq!(cluster.lines("a"), ["before"]);
}
