//! Faults of the machine: a full disk, steps of the clock, memory that is exhausted.
//!
//! They need privileges or other programs, so they are ignored; `.ci/run` runs them.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use libtest_mimic::Trial;
use palm_plan::instance::{Readiness, RestartPolicy};
use palm_runner::logs::{Entry, History, Selection};
use palm_runner::runner::{ClusterEvent, read_events};
use palm_runner::state::ClusterStatus;
use rustix::process::Signal;

use crate::setup::{
    Cluster, counter, eventually, idle, instance_of, is_alive, program, script, send, trial,
};
use crate::upgrade::upgrade;

pub(crate) fn tests() -> Vec<Trial> {
    let tests = vec![
        // tmpfs: needs root and the program `unshare`.
        trial("full_disk_stops_logs_and_no_component", full_disk),
        // Needs libfaketime.
        trial("steps_of_the_clock_change_no_state", clock_steps),
        // Needs root and control groups.
        trial("component_killed_for_its_memory_is_explained", memory),
    ];
    let ignore = |test: Trial| test.with_ignored_flag(true);
    tests.into_iter().map(ignore).collect()
}

/// Runs [`on_full_disk`] with a file system of 4 MiB of its own.
fn full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mount = r#"mount -t tmpfs -o size=4m none "$TMPDIR" && exec "$0" full_disk"#;
    let ended = Command::new("unshare")
        .args(["-m", "sh", "-c", mount])
        .arg(program())
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{text}");
}

pub(crate) fn on_full_disk() {
    let tell = r#""$0" notify READY=1; until [ -e "$TMPDIR/full" ]; do sleep 0.05; done; "#;
    // One line, and then silence.
    let quiet = script("quiet/0", &format!("{tell} echo unheard; exec sleep 1000"));
    // It ends before its lines can be written.
    let mut brief = script(
        "brief/0",
        &format!("{tell} seq 100000; echo why >&2; exit 7"),
    );
    brief.restart.policy = RestartPolicy::Never;
    let cluster = Cluster::start(vec![counter("counter/0"), quiet, brief, idle("idle/0")]);
    let before = cluster.until_ready();
    let folder = PathBuf::from(std::env::var_os("TMPDIR").unwrap());
    fill(&folder.join("ballast"));
    File::create(folder.join("full")).unwrap();
    let problem = |status: &ClusterStatus, of: &str| {
        let begin = format!("logs of {of}: ");
        let mut problems = status.problems.iter();
        problems.find(|it| it.starts_with(&begin)).cloned()
    };
    let status = cluster.until("the problem is said", |status| {
        problem(status, "counter/0").is_some() && problem(status, "quiet/0").is_some()
    });
    let said = problem(&status, "counter/0").unwrap();
    assert!(said.contains("No space left on device"), "{said}");
    // The component continues to write, and its lines are read.
    cluster.until("further lines are lost", |status| {
        problem(status, "counter/0").is_some_and(|it| it != said)
    });
    let failed = cluster.until_instance("brief/0", |it| it.state == "failed");
    assert_eq!(failed.why, "exited with 7: why; it is not restarted");
    // A component can be restarted meanwhile.
    let idle_pid = instance_of(&before, "idle/0").pid.unwrap();
    send(idle_pid, Signal::KILL);
    cluster.until_instance("idle/0", |it| it.is_ready() && it.run == 2);
    let counter_of = |status: &ClusterStatus| {
        let counter = instance_of(status, "counter/0");
        (counter.pid, counter.run, counter.is_ready())
    };
    // So can the runner be replaced.
    upgrade(&cluster, 1);
    cluster.until("the problem is still said", |status| {
        problem(status, "counter/0").is_some()
    });
    assert_eq!(counter_of(&cluster.status()), counter_of(&before));

    fs::remove_file(folder.join("ballast")).unwrap();
    cluster.until("logs are written again", |status| {
        status.problems.is_empty()
    });
    let logged = cluster.lines("counter").len();
    eventually("further lines are written", || {
        cluster.lines("counter").len() > logged
    });
    assert_eq!(counter_of(&cluster.status()), counter_of(&before));
    cluster.down();

    // No line is missing but those that the log counts.
    let mut next = 0;
    let mut lost = 0;
    for Entry { text, .. } in entries(&cluster, "counter/0") {
        if let Some(number) = text.strip_prefix("line ") {
            assert_eq!(number, next.to_string());
            next += 1;
        } else if let Some(lines) = lost_lines(&text) {
            lost += lines;
            next += lines;
        }
    }
    assert!(lost > 0 && next > lost, "{lost} of {next}");
    let quiet = entries(&cluster, "quiet/0");
    assert!(quiet.iter().any(|it| lost_lines(&it.text) == Some(1)));

    let events = read_events(&cluster.folders.events()).unwrap();
    let of = |name: &str| -> Vec<&ClusterEvent> {
        let is_of = |it: &&ClusterEvent| {
            it.instance
                .as_ref()
                .is_some_and(|id| id.to_string() == name)
        };
        events.iter().filter(is_of).collect()
    };
    let named = |name: &str, event: &str| {
        let mut all = of(name).into_iter();
        all.find(|it| it.event == event)
            .unwrap_or_else(|| panic!("{name} has no event `{event}`: {events:#?}"))
            .why
            .clone()
    };
    assert!(named("counter/0", "logs stopped").contains("No space left"));
    assert_eq!(named("quiet/0", "logs resumed"), "1 line was lost");
    // All but what was in the space that was left.
    let why = named("brief/0", "logs lost");
    assert!(why.contains(" lines were lost: No space left"), "{why}");
    // Events of that time were kept.
    let runs = of("idle/0").into_iter().filter(|it| it.run == Some(2));
    let runs: Vec<_> = runs.map(|it| it.event.as_str()).collect();
    assert_eq!(runs[..2], ["starting", "ready"]);
}

/// Writes until the file system is full.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [64 * 1024, 4096, 1] {
        let bytes = vec![b'x'; size];
        let full = loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }
}

fn lost_lines(text: &str) -> Option<u64> {
    let (count, rest) = text.strip_prefix("palm: ")?.split_once(" line")?;
    rest.contains("lost").then(|| count.parse().ok())?
}

fn entries(cluster: &Cluster, name: &str) -> Vec<Entry> {
    let selection = Selection {
        names: vec![name.to_owned()],
        ..Selection::default()
    };
    History::new(&cluster.folders.logs(), selection).collect()
}

fn clock_steps() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("time");
    // The runner and its processes read it whenever they ask for the time. It is replaced, so that it is never empty.
    let set = |step: &str| {
        let next = folder.path().join("next");
        fs::write(&next, step).unwrap();
        fs::rename(next, &file).unwrap();
    };
    set("+0");
    let mut command = Command::new("env");
    command
        .arg(format!("LD_PRELOAD={}", libfaketime().display()))
        .arg(format!("FAKETIME_TIMESTAMP_FILE={}", file.display()))
        .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"])
        .arg(program());

    let hour = Duration::from_secs(3600);
    let mut waiting = script("waiting/0", "exit 3");
    waiting.restart.backoff = hour..=hour;
    let mut late = script("late/0", "exec sleep 1000");
    late.ready_timeout = hour;
    let mut watched = script(
        "watched/0",
        r#""$0" notify READY=1; while :; do "$0" notify WATCHDOG=1; sleep 0.2; done"#,
    );
    watched.readiness = Readiness::Notify;
    let mut failing = script("failing/0", "sleep 0.1; exit 4");
    failing.restart.backoff = Duration::from_millis(50)..=Duration::from_millis(50);
    let cluster = Cluster::start_by_command(
        command,
        vec![counter("counter/0"), waiting, late, watched, failing],
    );
    let state = |status: &ClusterStatus, name: &str| {
        let it = instance_of(status, name);
        (it.state.clone(), it.run, it.exits)
    };
    let steady = ["counter/0", "waiting/0", "late/0", "watched/0"];
    let before = cluster.until("the states before", |status| {
        let wanted = ["ready", "backoff", "starting", "ready"];
        let mut all = steady.iter().zip(wanted);
        all.all(|(name, wanted)| instance_of(status, name).state == wanted)
    });

    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let mut stamps = vec![stamp(now)];
    let is_back = [false, true, false];
    for (index, (step, shown)) in [("+1d", now + day), ("-2d", now - 2 * day), ("+0", now)]
        .into_iter()
        .enumerate()
    {
        set(step);
        let since = stamp(shown);
        stamps.push(since.clone());
        eventually("lines have the new time", || {
            let last = entries(&cluster, "counter/0").pop();
            last.is_some_and(|it| it.time >= since && it.time < stamp(shown + day / 2))
        });
        // A later event: a process that fails is started again and again, with the same delay.
        let run = instance_of(&cluster.status(), "failing/0").run;
        let status = cluster.until("restarts continue", |status| {
            instance_of(status, "failing/0").run >= run + 3
        });
        eventually("the step is an event", || {
            let events = read_events(&cluster.folders.events()).unwrap();
            let steps = events.iter().filter(|it| it.event == "clock");
            let found = steps.map(|it| it.why.ends_with(" s back"));
            found.eq(is_back[..=index].iter().copied())
        });
        for name in steady {
            assert_eq!(state(&status, name), state(&before, name), "{name}, {step}");
            let since = instance_of(&status, name).since_ms;
            assert!(since < 600_000, "{name} since {since} ms");
        }
    }
    cluster.down();

    // The lines of an instance keep their order, and none is missing.
    let lines = cluster.lines("counter/0");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"));
    }
    // Lines since a time are those that have a later one: of the clock as it was.
    let since = |index: usize| {
        let selection = Selection {
            names: vec!["counter".to_owned()],
            since: Some(stamps[index].clone()),
            ..Selection::default()
        };
        History::new(&cluster.folders.logs(), selection).count()
    };
    let [first, forward, back, _] = [0, 1, 2, 3].map(since);
    assert!(
        0 < forward && forward < first && first < back,
        "{forward} {first} {back}"
    );
}

fn stamp(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}

fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let file = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    let mut files = file.filter(|it| it.exists());
    files.next().expect("the package libfaketime is installed")
}

fn memory() {
    let group = Group::new(96 << 20);
    // The shell joins the group, and becomes the runner.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
        .arg(group.0.join("cgroup.procs"))
        .arg(program());
    let mut hungry = script(
        "hungry/0",
        r#""$0" notify READY=1; echo allocating; exec "$0" allocate"#,
    );
    hungry.restart.backoff = Duration::from_millis(300)..=Duration::from_secs(60);
    let cluster = Cluster::start_by_command(command, vec![hungry, idle("idle/0"), counter("b/0")]);
    let failed = cluster.until_instance("hungry/0", |it| it.failures >= 2 && it.state == "backoff");
    let expected = "was killed by the kernel: out of memory: allocating; starts again in ";
    assert!(failed.why.starts_with(expected), "{}", failed.why);
    // It is restarted with growing delays.
    let events = read_events(&cluster.folders.events()).unwrap();
    let backoffs = events.iter().filter(|it| it.event == "backoff");
    let delays: Vec<_> = backoffs
        .map(|it| it.why.rsplit_once("starts again in ").unwrap().1.to_owned())
        .collect();
    assert_eq!(delays[..2], ["300 ms (failure 1)", "600 ms (failure 2)"]);
    // A kill by a person is told apart.
    let status = cluster.status();
    for name in ["idle/0", "b/0"] {
        let other = instance_of(&status, name);
        assert!(other.is_ready() && other.run == 1, "{other:?}");
    }
    cluster.request(&palm_runner::api::Request::Stop {
        ids: vec!["hungry/0".parse().unwrap()],
    });
    cluster.until_instance("hungry/0", |it| it.state == "stopped");
    let pid = instance_of(&status, "idle/0").pid.unwrap();
    send(pid, Signal::KILL);
    let killed = cluster.until_instance("idle/0", |it| it.is_ready() && it.run == 2);
    assert_eq!(
        killed.last_failure.as_deref(),
        Some("was killed by SIGKILL")
    );
    assert!(!is_alive(pid));
    cluster.down();
}

/// A control group with a limit of its memory, in the hierarchy of version 2 or 1.
struct Group(PathBuf);

impl Group {
    fn new(bytes: u64) -> Self {
        let name = format!("palm-test-{}", std::process::id());
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = match unified {
            true => "/sys/fs/cgroup",
            false => "/sys/fs/cgroup/memory",
        };
        let group = Path::new(root).join(name);
        fs::create_dir(&group).unwrap();
        let this = Self(group);
        let (limit, swap) = match unified {
            true => ("memory.max", "memory.swap.max"),
            false => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        };
        fs::write(this.0.join(limit), bytes.to_string()).unwrap();
        // A kernel that does not count swap has no file for it.
        let swap_bytes = if unified { 0 } else { bytes };
        let _ = fs::write(this.0.join(swap), swap_bytes.to_string());
        this
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It is empty once its last process was reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
