use std::collections::BTreeMap;
use std::time::Duration;

use palm_plan::instance::{Instance, Readiness, Restart, RestartPolicy};
use palm_plan::{InstanceId, Kind};
use proptest::prelude::*;

use super::*;

/// An instance of a component that reports READY=1.
pub(crate) fn instance(id: &str) -> Instance {
    let id: InstanceId = id.parse().unwrap();
    Instance {
        component: id.component,
        index: id.index,
        kind: Kind::Worker,
        command: "program".into(),
        args: Vec::new(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        working_dir: "/".into(),
        readiness: Readiness::Notify,
        ready_timeout: at(60),
        restart: Restart {
            policy: RestartPolicy::Always,
            backoff: at(1)..=at(60),
            max: None,
            reset_after: at(100),
        },
        drain: at(30),
        after: Vec::new(),
        stop_order: 0,
    }
}

fn after(id: &str, component: &str) -> Instance {
    Instance {
        after: vec![component.to_owned()],
        ..instance(id)
    }
}

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn exit(kind: ExitKind) -> Exit {
    Exit {
        kind,
        cause: None,
        last_lines: Vec::new(),
    }
}

/// A supervisor whose actions are carried out as the runner would: process ids count from 1, and SIGTERM ends nothing
/// unless a test says so.
struct Cluster {
    supervisor: Supervisor,
    now: Time,
    last_pid: u32,
    /// What happened, such as `start a/0`.
    log: Vec<String>,
}

impl Cluster {
    fn new(instances: impl IntoIterator<Item = Instance>) -> Self {
        let mut supervisor = Supervisor::default();
        supervisor.apply(
            instances.into_iter().collect(),
            Stopped::Start,
            |_| 0,
            at(0),
        );
        let mut cluster = Self {
            supervisor,
            now: at(0),
            last_pid: 0,
            log: Vec::new(),
        };
        cluster.tick();
        cluster
    }

    fn apply(&mut self, instances: impl IntoIterator<Item = Instance>) {
        let instances = instances.into_iter().collect();
        self.supervisor
            .apply(instances, Stopped::Start, |_| 0, self.now);
        self.tick();
    }

    fn tick(&mut self) {
        for action in self.supervisor.tick(self.now) {
            self.log.push(match &action {
                Action::Start { id, .. } => format!("start {id}"),
                Action::Terminate { id, .. } => format!("term {id}"),
                Action::Kill { id, .. } => format!("kill {id}"),
                Action::Forget { id } => format!("forget {id}"),
            });
            if let Action::Start { id, .. } = action {
                self.last_pid += 1;
                self.supervisor.started(&id, self.last_pid, self.now);
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pause(1);
        }
    }

    /// The runner does nothing for so long.
    fn pause(&mut self, seconds: u64) {
        self.now += at(seconds);
        self.tick();
    }

    fn ready(&mut self, name: &str) {
        self.supervisor.ready(&id(name), self.now);
        self.tick();
    }

    fn end(&mut self, name: &str, kind: ExitKind) {
        let pid = self.supervisor.pid(&id(name)).unwrap();
        self.supervisor.exited(&id(name), pid, exit(kind), self.now);
        self.tick();
    }

    fn restart(&mut self, names: &[&str], is_rolling: bool) {
        let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        self.supervisor.restart(&ids, is_rolling, self.now);
        self.tick();
    }

    fn stop(&mut self, names: &[&str]) {
        let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
        self.supervisor.stop(&ids);
        self.tick();
    }

    #[track_caller]
    fn expect(&mut self, actions: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), actions);
    }

    fn state(&self, name: &str) -> String {
        let state = self.supervisor.instances[&id(name)].state();
        match self.supervisor.why(&id(name), self.now) {
            why if why.is_empty() => state.to_owned(),
            why => format!("{state}: {why}"),
        }
    }
}

#[test]
fn start_follows_readiness() {
    let mut cluster = Cluster::new([instance("master/0"), after("worker/0", "master")]);
    cluster.expect(&["start master/0"]);
    let state = cluster.state("worker/0");
    assert_eq!(state, "pending: waits for `master`, which is starting");
    cluster.wait(3);
    let state = cluster.state("master/0");
    assert_eq!(state, "starting: has not reported READY=1 since 3 s");
    cluster.ready("master/0");
    cluster.expect(&["start worker/0"]);
    cluster.ready("worker/0");
    assert_eq!(cluster.state("worker/0"), "ready");
}

#[test]
fn unexpected_exit_restarts_after_a_delay_that_doubles() {
    let mut cluster = Cluster::new([instance("a/0")]);
    cluster.ready("a/0");
    for (delay, kind) in [
        (1, 1),
        (2, 101),
        (4, 0),
        (8, 1),
        (16, 1),
        (32, 1),
        (60, 1),
        (60, 1),
    ] {
        cluster.log.clear();
        cluster.end("a/0", ExitKind::Code(kind));
        assert!(cluster.state("a/0").starts_with("backoff: exited with"));
        cluster.wait(delay - 1);
        cluster.expect(&[]);
        cluster.wait(1);
        cluster.expect(&["start a/0"]);
    }
    // Ready for long enough: the delays begin again.
    cluster.ready("a/0");
    cluster.wait(100);
    cluster.end("a/0", ExitKind::Signal(9));
    let state = cluster.state("a/0");
    assert_eq!(
        state,
        "backoff: was killed by SIGKILL; starts again in 1 s (failure 1)"
    );
}

#[test]
fn instance_fails_after_the_last_restart_and_says_why() {
    let mut limited = instance("a/0");
    limited.restart.max = Some(2);
    let mut cluster = Cluster::new([limited.clone(), after("b/0", "a")]);
    for _ in 0..3 {
        cluster.end("a/0", ExitKind::Code(1));
        cluster.wait(60);
    }
    let state = cluster.state("a/0");
    assert_eq!(state, "failed: exited with 1; it failed 3 times in a row");
    let state = cluster.state("b/0");
    let expected = "pending: waits for `a`, which exited with 1; it failed 3 times in a row";
    assert_eq!(state, expected);
    cluster.log.clear();
    // A person tries again.
    cluster.apply([limited, after("b/0", "a")]);
    cluster.expect(&["start a/0"]);
    cluster.ready("a/0");
    cluster.expect(&["start b/0"]);
}

#[test]
fn job_completes_and_its_dependents_start() {
    let job = |policy| {
        let mut job = instance("job/0");
        job.readiness = Readiness::Exit;
        job.restart.policy = policy;
        job
    };
    for policy in [
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ] {
        let mut cluster = Cluster::new([job(policy), after("a/0", "job")]);
        cluster.wait(1000);
        cluster.expect(&["start job/0"]);
        assert_eq!(cluster.state("job/0"), "running: runs since 1000 s");
        cluster.end("job/0", ExitKind::Code(0));
        assert_eq!(cluster.state("job/0"), "completed: exited with 0");
        cluster.expect(&["start a/0"]);
        // The same file does not run it again.
        cluster.apply([job(policy), after("a/0", "job")]);
        cluster.expect(&[]);
    }
    let mut cluster = Cluster::new([job(RestartPolicy::Never), after("a/0", "job")]);
    cluster.end("job/0", ExitKind::Code(3));
    let expected = "pending: waits for `job`, which exited with 3; it is not restarted";
    assert_eq!(cluster.state("a/0"), expected);
}

#[test]
fn status_from_before_a_process_is_ready_is_forgotten() {
    let mut cluster = Cluster::new([instance("a/0")]);
    let report = |cluster: &mut Cluster, text: &str| {
        let text = text.to_owned();
        cluster.supervisor.status_text(&id("a/0"), text);
    };
    report(&mut cluster, "waits for its master");
    cluster.ready("a/0");
    assert_eq!(cluster.state("a/0"), "ready");
    report(&mut cluster, "3 tasks");
    assert_eq!(cluster.state("a/0"), "ready: 3 tasks");
}

#[test]
fn stopped_and_failed_instances_remain_so_when_others_are_scaled() {
    let mut fails = instance("c/0");
    fails.restart.policy = RestartPolicy::Never;
    let all = || [instance("a/0"), instance("b/0"), fails.clone()];
    let mut cluster = Cluster::new(all());
    cluster.end("c/0", ExitKind::Code(1));
    cluster.stop(&["a/0", "b/0"]);
    cluster.end("a/0", ExitKind::Code(0));
    cluster.expect(&[
        "start a/0",
        "start b/0",
        "start c/0",
        "term a/0",
        "term b/0",
    ]);
    let scale = |cluster: &mut Cluster, instances: Vec<Instance>| {
        let now = cluster.now;
        cluster
            .supervisor
            .apply(instances, Stopped::Remain, |_| 0, now);
        cluster.tick();
    };
    scale(
        &mut cluster,
        all().into_iter().chain([instance("d/0")]).collect(),
    );
    // One of them drains still.
    cluster.end("b/0", ExitKind::Code(0));
    cluster.expect(&["start d/0"]);
    let mut other = instance("a/0");
    other.args = vec!["--other".into()];
    scale(&mut cluster, vec![other, instance("b/0")]);
    cluster.expect(&["start a/0", "forget c/0", "term d/0"]);
    cluster.apply([instance("b/0")]);
    cluster.expect(&["term a/0", "start b/0"]);
}

#[test]
fn status_of_a_process_that_is_not_ready_in_time_is_part_of_the_reason() {
    let mut cluster = Cluster::new([instance("a/0")]);
    let status = "waits for its master at ipc:///m: connection refused";
    cluster
        .supervisor
        .status_text(&id("a/0"), status.to_owned());
    cluster.wait(3);
    let expected = format!("starting: has not reported READY=1 since 3 s: {status}");
    assert_eq!(cluster.state("a/0"), expected);
    cluster.wait(57);
    cluster
        .supervisor
        .status_text(&id("a/0"), "draining".to_owned());
    let why = format!("has not reported READY=1 within 60 s ({status})");
    let expected = format!("draining: {why} and is restarted; it is killed in 30 s: draining");
    assert_eq!(cluster.state("a/0"), expected);
    cluster.end("a/0", ExitKind::Code(0));
    let expected = format!("backoff: {why}, and exited with 0; starts again in 1 s (failure 1)");
    assert_eq!(cluster.state("a/0"), expected);
}

/// process-compose 403: a process that missed its readiness was killed for good.
#[test]
fn process_that_is_not_ready_in_time_is_restarted_by_its_policy() {
    let mut slow = instance("a/0");
    slow.restart.policy = RestartPolicy::OnFailure;
    let mut cluster = Cluster::new([slow]);
    cluster.wait(60);
    cluster.expect(&["start a/0", "term a/0"]);
    let state = cluster.state("a/0");
    let expected =
        "draining: has not reported READY=1 within 60 s and is restarted; it is killed in 30 s";
    assert_eq!(state, expected);
    cluster.wait(30);
    cluster.expect(&["kill a/0"]);
    cluster.end("a/0", ExitKind::Signal(9));
    let state = cluster.state("a/0");
    let expected = "backoff: has not reported READY=1 within 60 s, and was killed by SIGKILL; starts again in 1 s (failure 1)";
    assert_eq!(state, expected);
    cluster.wait(1);
    cluster.expect(&["start a/0"]);
    // It exits with 0 on SIGTERM, which is not the success that `on-failure` means.
    cluster.wait(60);
    cluster.end("a/0", ExitKind::Code(0));
    cluster.wait(2);
    cluster.expect(&["term a/0", "start a/0"]);
    // The same for a process that was ready once.
    cluster.ready("a/0");
    let why = "does not accept connections".to_owned();
    cluster.supervisor.not_ready(&id("a/0"), why, cluster.now);
    cluster.wait(60);
    cluster.expect(&["term a/0"]);
    cluster.end("a/0", ExitKind::Signal(15));
    let state = cluster.state("a/0");
    let expected = "backoff: does not accept connections for 60 s, and was killed by SIGTERM; ";
    assert!(state.starts_with(expected), "{state}");
}

/// process-compose 530: a restart of a process that waits wedged it, or started it twice.
#[test]
fn restart_while_pending_or_in_backoff_starts_one_process() {
    let mut cluster = Cluster::new([instance("a/0"), after("b/0", "a")]);
    for is_rolling in [false, true] {
        cluster.restart(&["b/0"], is_rolling);
    }
    assert!(cluster.state("b/0").starts_with("pending: waits for `a`"));
    cluster.expect(&["start a/0"]);
    cluster.ready("a/0");
    cluster.expect(&["start b/0"]);
    cluster.wait(1);
    cluster.expect(&[]);
    cluster.end("b/0", ExitKind::Code(1));
    cluster.restart(&["b/0"], false);
    cluster.restart(&["b/0"], false);
    cluster.expect(&["start b/0", "term b/0"]);
    cluster.restart(&["b/0"], false);
    cluster.end("b/0", ExitKind::Signal(15));
    cluster.expect(&["start b/0"]);
}

/// process-compose 544: a dependent that starts late was skipped after its dependency was not ready for a moment.
#[test]
fn dependent_waits_while_its_dependency_is_not_ready_for_a_moment() {
    let mut cluster = Cluster::new([instance("a/0")]);
    cluster.ready("a/0");
    cluster
        .supervisor
        .not_ready(&id("a/0"), "is busy".to_owned(), cluster.now);
    cluster.apply([instance("a/0"), after("b/0", "a")]);
    cluster.expect(&["start a/0"]);
    let state = cluster.state("b/0");
    assert_eq!(state, "pending: waits for `a`, which is not ready");
    cluster.ready("a/0");
    cluster.expect(&["start b/0"]);
    // Losing the dependency later does not stop the dependent.
    cluster.end("a/0", ExitKind::Signal(9));
    cluster.expect(&[]);
}

/// process-compose 217: the time to start is separate from how often a ready process is asked.
#[test]
fn slow_start_is_not_a_failure_before_its_timeout() {
    let mut slow = instance("db/0");
    slow.ready_timeout = at(600);
    let mut cluster = Cluster::new([slow, after("backend/0", "db")]);
    cluster.wait(599);
    cluster.expect(&["start db/0"]);
    cluster.ready("db/0");
    cluster.expect(&["start backend/0"]);
}

#[test]
fn watchdog_replaces_a_hung_process_but_not_after_a_pause_of_the_runner() {
    let mut cluster = Cluster::new([instance("a/0"), instance("silent/0")]);
    cluster.ready("a/0");
    cluster.ready("silent/0");
    cluster.log.clear();
    cluster.supervisor.heard(&id("a/0"), cluster.now);
    cluster.wait(29);
    cluster.expect(&[]);
    // The runner was stopped: it has not read the signs of life that were sent meanwhile.
    cluster.pause(1000);
    cluster.wait(29);
    cluster.expect(&[]);
    cluster.wait(1);
    cluster.expect(&["term a/0"]);
    let state = cluster.state("a/0");
    let expected = "draining: has sent no WATCHDOG=1 for 30 s and is restarted; ";
    assert!(state.starts_with(expected), "{state}");
    cluster.end("a/0", ExitKind::Signal(9));
    let state = cluster.state("a/0");
    let expected = "backoff: has sent no WATCHDOG=1 for 30 s, and was killed by SIGKILL; ";
    assert!(state.starts_with(expected), "{state}");
}

#[test]
fn process_that_starts_is_not_late_after_a_pause_of_the_runner() {
    let mut cluster = Cluster::new([instance("a/0")]);
    cluster.wait(30);
    // Its report that it is ready may wait unread.
    cluster.pause(1000);
    cluster.wait(29);
    cluster.expect(&["start a/0"]);
    cluster.wait(1);
    cluster.expect(&["term a/0"]);
}

#[test]
fn stop_follows_the_order_of_the_graph() {
    let ordered = |name, stop_order| Instance {
        stop_order,
        ..instance(name)
    };
    let mut cluster = Cluster::new([ordered("a/0", 2), ordered("b/0", 1), ordered("c/0", 1)]);
    for name in ["a/0", "b/0", "c/0"] {
        cluster.ready(name);
    }
    cluster.log.clear();
    cluster.supervisor.stop_all();
    cluster.tick();
    cluster.expect(&["term b/0", "term c/0"]);
    cluster.end("b/0", ExitKind::Code(0));
    cluster.expect(&[]);
    cluster.end("c/0", ExitKind::Signal(15));
    cluster.expect(&["term a/0"]);
    cluster.supervisor.kill_all(cluster.now);
    cluster.tick();
    cluster.expect(&["kill a/0"]);
    cluster.end("a/0", ExitKind::Signal(9));
    assert!(cluster.supervisor.is_idle());
    assert_eq!(cluster.state("a/0"), "stopped: was killed by SIGKILL");
}

#[test]
fn same_plan_changes_nothing_and_another_one_restarts_what_changed_in_turn() {
    let workers = |argument: &str, count| {
        let worker = |index| Instance {
            index,
            args: vec![argument.to_owned()],
            ..instance("worker/0")
        };
        let mut all: Vec<_> = (0..count).map(worker).collect();
        all.push(instance("master/0"));
        all
    };
    let mut cluster = Cluster::new(workers("old", 2));
    for name in ["master/0", "worker/0", "worker/1"] {
        cluster.ready(name);
    }
    cluster.log.clear();
    cluster.apply(workers("old", 2));
    cluster.expect(&[]);
    cluster.apply(workers("new", 2));
    cluster.expect(&["term worker/0"]);
    cluster.end("worker/0", ExitKind::Code(0));
    cluster.expect(&["start worker/0"]);
    cluster.wait(1);
    cluster.expect(&[]);
    cluster.ready("worker/0");
    cluster.expect(&["term worker/1"]);
    cluster.end("worker/1", ExitKind::Code(0));
    cluster.ready("worker/1");
    let rolling = cluster.supervisor.rolling_status();
    assert_eq!(
        (rolling.done, rolling.waiting, rolling.failure),
        (2, 0, None)
    );
    cluster.log.clear();
    // Scaling down stops and forgets.
    cluster.apply(workers("new", 1));
    cluster.expect(&["term worker/1"]);
    cluster.end("worker/1", ExitKind::Code(0));
    cluster.expect(&["forget worker/1"]);
}

#[test]
fn rolling_restart_ends_when_the_new_version_fails() {
    let mut cluster = Cluster::new([instance("w/0"), instance("w/1")]);
    for name in ["w/0", "w/1"] {
        cluster.ready(name);
    }
    cluster.restart(&["w/0", "w/1"], true);
    cluster.end("w/0", ExitKind::Code(0));
    for _ in 0..3 {
        cluster.end("w/0", ExitKind::Code(101));
        cluster.wait(60);
    }
    let rolling = cluster.supervisor.rolling_status();
    let expected = "w/0 exited with 101; starts again in 4 s (failure 3)";
    assert_eq!(rolling.failure.as_deref(), Some(expected));
    assert_eq!(cluster.state("w/1"), "ready");
    cluster.restart(&["w/0"], false);
    assert_eq!(cluster.supervisor.rolling_status().failure, None);
}

#[test]
fn stopped_instance_stays_stopped_until_it_is_wanted_again() {
    let mut cluster = Cluster::new([instance("a/0")]);
    cluster.ready("a/0");
    cluster.stop(&["a/0"]);
    cluster.end("a/0", ExitKind::Code(0));
    cluster.wait(1000);
    cluster.expect(&["start a/0", "term a/0"]);
    assert_eq!(cluster.state("a/0"), "stopped: exited with 0");
    cluster.restart(&["a/0"], true);
    cluster.expect(&["start a/0"]);
}

#[test]
fn program_that_cannot_be_started_is_explained_and_tried_again() {
    let mut supervisor = Supervisor::default();
    supervisor.apply(vec![instance("a/0")], Stopped::Start, |_| 7, at(0));
    let start = Action::Start {
        id: id("a/0"),
        run: 8,
    };
    assert_eq!(supervisor.tick(at(0)), [start]);
    supervisor.start_failed(&id("a/0"), "`program` does not exist".to_owned(), at(0));
    let why = supervisor.why(&id("a/0"), at(0));
    let expected =
        "could not be started: `program` does not exist; starts again in 1 s (failure 1)";
    assert_eq!(why, expected);
}

/// What happens to a cluster of three instances.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Ready(usize),
    NotReady(usize),
    End(usize, i32),
    Heard(usize),
    Restart(usize, bool),
    Stop(usize),
    Apply(u8, bool),
    StopAll,
    KillAll,
    Upgrade,
}

const NAMES: [&str; 4] = ["a/0", "b/0", "c/0", "c/1"];

fn step() -> impl Strategy<Value = Step> {
    let index = 0..NAMES.len();
    prop_oneof![
        4 => (0_u64..70).prop_map(Step::Wait),
        4 => index.clone().prop_map(Step::Ready),
        1 => index.clone().prop_map(Step::NotReady),
        3 => (index.clone(), 0..3).prop_map(|(index, code)| Step::End(index, code)),
        1 => index.clone().prop_map(Step::Heard),
        2 => (index.clone(), any::<bool>()).prop_map(|(it, rolling)| Step::Restart(it, rolling)),
        1 => index.prop_map(Step::Stop),
        1 => (0_u8..16, any::<bool>()).prop_map(|(mask, changed)| Step::Apply(mask, changed)),
        1 => Just(Step::StopAll),
        1 => Just(Step::KillAll),
        1 => Just(Step::Upgrade),
    ]
}

fn all(mask: u8, is_changed: bool) -> Vec<Instance> {
    let mut instances: Vec<_> = NAMES.map(instance).into();
    instances[1].after = vec!["a".to_owned()];
    instances[2].after = vec!["b".to_owned()];
    instances[3].restart.max = Some(2);
    instances[3].restart.policy = RestartPolicy::OnFailure;
    for (order, instance) in instances.iter_mut().enumerate() {
        instance.stop_order = order as u32 / 2;
        if is_changed {
            instance.args.push("changed".to_owned());
        }
    }
    let mut bit = 0;
    instances.retain(|_| {
        bit += 1;
        mask & (1 << (bit - 1)) != 0
    });
    instances
}

fn run(cluster: &mut Cluster, step: &Step) {
    let has_process =
        |cluster: &Cluster, index: usize| cluster.supervisor.pid(&id(NAMES[index])).is_some();
    match *step {
        Step::Wait(seconds) => cluster.now += at(seconds),
        Step::Ready(index) => cluster.supervisor.ready(&id(NAMES[index]), cluster.now),
        Step::NotReady(index) => {
            let why = "is busy".to_owned();
            cluster
                .supervisor
                .not_ready(&id(NAMES[index]), why, cluster.now);
        }
        Step::End(index, code) if has_process(cluster, index) => {
            cluster.end(NAMES[index], ExitKind::Code(code));
        }
        Step::End(..) => {}
        Step::Heard(index) => cluster.supervisor.heard(&id(NAMES[index]), cluster.now),
        Step::Restart(index, rolling) => cluster.restart(&[NAMES[index]], rolling),
        Step::Stop(index) => cluster.stop(&[NAMES[index]]),
        Step::Apply(mask, changed) => cluster.apply(all(mask, changed)),
        Step::StopAll => cluster.supervisor.stop_all(),
        Step::KillAll => cluster.supervisor.kill_all(cluster.now),
        Step::Upgrade => {
            let text = serde_json::to_string(&cluster.supervisor).unwrap();
            cluster.supervisor = serde_json::from_str(&text).unwrap();
        }
    }
    cluster.tick();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever happens, an instance has at most one process, and only signals to that one.
    #[test]
    fn instance_has_at_most_one_process(steps in prop::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::new(all(15, false));
        let mut running = BTreeMap::<String, bool>::new();
        let mut check = |cluster: &mut Cluster| {
            for line in std::mem::take(&mut cluster.log) {
                let (action, name) = line.split_once(' ').unwrap();
                let is_running = running.entry(name.to_owned()).or_default();
                match action {
                    "start" => {
                        prop_assert!(!*is_running, "{name} was started twice");
                        *is_running = true;
                    }
                    "forget" => prop_assert!(!*is_running, "{name} was forgotten while it runs"),
                    _ => prop_assert!(*is_running, "{action} without a process"),
                }
                *is_running &= cluster.supervisor.pid(&id(name)).is_some();
            }
            for (name, is_running) in &mut running {
                *is_running &= cluster.supervisor.pid(&id(name)).is_some();
            }
            Ok(())
        };
        check(&mut cluster)?;
        for step in &steps {
            // An end and the next start can happen in one tick: the process has to be known as ended between them.
            if let Step::End(index, _) = step
                && let Some(pid) = cluster.supervisor.pid(&id(NAMES[*index])) {
                let exit = exit(ExitKind::Code(1));
                cluster.supervisor.exited(&id(NAMES[*index]), pid, exit, cluster.now);
                check(&mut cluster)?;
            }
            run(&mut cluster, step);
            check(&mut cluster)?;
        }
    }

    /// Once processes behave, all that should run does, whatever happened before.
    #[test]
    fn wanted_instances_become_ready_in_the_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::new(all(15, false));
        for step in &steps {
            run(&mut cluster, step);
        }
        cluster.apply(all(15, true));
        for _ in 0..200 {
            cluster.wait(1);
            for name in NAMES {
                let phase = cluster.supervisor.phase(&id(name)).cloned();
                match phase {
                    Some(Phase::Starting(_) | Phase::NotReady(..)) => cluster.ready(name),
                    Some(Phase::Draining(_)) => cluster.end(name, ExitKind::Signal(15)),
                    _ => {}
                }
                let heard = cluster.now;
                cluster.supervisor.heard(&id(name), heard);
            }
        }
        for status in cluster.supervisor.statuses(cluster.now) {
            prop_assert!(status.settled && status.is_ready(), "{status:?}");
        }
    }

    /// Once SIGKILL ends processes, a cluster stops, whatever happened before.
    #[test]
    fn cluster_stops_in_the_end(steps in prop::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::new(all(15, false));
        for step in &steps {
            run(&mut cluster, step);
        }
        // What was killed before has ended, too.
        for name in NAMES {
            if cluster.supervisor.is_killed(&id(name)) {
                cluster.end(name, ExitKind::Signal(9));
            }
        }
        cluster.supervisor.stop_all();
        for _ in 0..300 {
            cluster.wait(1);
            for name in NAMES {
                if cluster.supervisor.is_killed(&id(name)) {
                    cluster.end(name, ExitKind::Signal(9));
                }
            }
        }
        prop_assert!(cluster.supervisor.is_idle());
    }
}

impl Supervisor {
    fn is_killed(&self, id: &InstanceId) -> bool {
        let process = self.phase(id).and_then(Phase::process);
        let termination = process.and_then(|process| process.terminated.as_ref());
        termination.is_some_and(|termination| termination.killed)
    }
}
