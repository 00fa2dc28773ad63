use std::time::Duration;

use expect_test::{Expect, expect};

use super::*;
use crate::instance::{Readiness, Restart};
use crate::kind::Kind;

/// An instance `component/index` of a program with these arguments.
fn instance(id: &str, args: &[&str]) -> Instance {
    let id: InstanceId = id.parse().unwrap();
    Instance {
        stop_order: id.component.len().try_into().unwrap(),
        component: id.component,
        index: id.index,
        kind: Kind::Worker,
        command: "/bin/worker".into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        working_dir: "/".into(),
        readiness: Readiness::Notify,
        ready_timeout: Duration::from_secs(60),
        restart: Restart::default(),
        drain: Duration::from_secs(30),
        after: Vec::new(),
    }
}

fn check(running: &[Instance], wanted: &[Instance], expected: Expect) {
    let plan = plan(running, wanted);
    expected.assert_eq(&plan.to_string());
    // The runner keeps it in a file.
    let stored = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&stored).unwrap(), plan);
}

#[test]
fn plan_of_equal_instances_is_empty() {
    let all = [instance("a/0", &["x"]), instance("b/0", &[])];
    check(
        &all,
        &all,
        expect![[r#"
        nothing to do: 2 instances are unchanged
    "#]],
    );
    check(
        &[],
        &[],
        expect![[r#"
        nothing to do: no instance is wanted
    "#]],
    );
}

#[test]
fn plan_lists_each_change_with_its_reason() {
    let mut other_environment = instance("env/0", &[]);
    other_environment.env.insert("A".to_owned(), "1".to_owned());
    other_environment.working_dir = "/tmp".into();
    let mut other_drain = instance("drain/0", &[]);
    other_drain.drain = Duration::from_secs(1);
    let running = [
        instance("same/0", &[]),
        instance("worker/0", &["x"]),
        instance("env/0", &[]),
        instance("drain/0", &[]),
        instance("stopped-last/0", &[]),
        instance("stopped/1", &[]),
    ];
    let wanted = [
        instance("same/0", &[]),
        instance("worker/0", &["y"]),
        other_environment,
        other_drain,
        instance("worker/1", &["two words", "it's", "{}", "", "\u{1b}"]),
    ];
    check(
        &running,
        &wanted,
        expect![[r#"
            - stop     stopped/1
            - stop     stopped-last/0
            ~ restart  worker/0        args
            ~ restart  env/0           env.A, working_dir
            ~ update   drain/0         drain
            + start    worker/1        /bin/worker 'two words' 'it'\''s' '{}' '' '�'
            1 to start, 2 to restart, 1 to update, 2 to stop, 1 unchanged
        "#]],
    );
}

#[test]
fn fingerprint_covers_what_a_process_is_started_with() {
    let before = instance("a/0", &["x"]);
    let mut supervised = before.clone();
    supervised.drain = Duration::ZERO;
    supervised.restart.max = Some(1);
    supervised.after.push("b".to_owned());
    assert_eq!(before.fingerprint(), supervised.fingerprint());
    // It is stored, so another version of this crate has to return the same number.
    assert_eq!(before.fingerprint(), 5010367730441440678);
}
