use expect_test::{Expect, expect};

use super::*;

fn places() -> Places {
    Places {
        runtime_dir: "/run/palm".into(),
        file_dir: "/srv/images".into(),
        addresses: BTreeMap::new(),
    }
}

fn cluster(text: &str) -> Cluster {
    Cluster::parse("cluster.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// Compares everything that differs between instances, a paragraph for each.
#[track_caller]
fn check(text: &str, expected: Expect) {
    let instances = cluster(text)
        .instances(&Scale::default(), &places())
        .unwrap();
    let mut found = String::new();
    for it in &instances {
        let args = it.args.join(" ");
        let Instance {
            readiness,
            after,
            stop_order,
            ..
        } = it;
        found += &format!("{}: {} {args}\n", it.id(), it.command.display());
        found += &format!("  ready: {readiness:?}, after {after:?}, stop {stop_order}\n");
        for (name, value) in &it.env {
            found += &format!("  {name}={value}\n");
        }
        for (name, secret) in &it.secrets {
            found += &format!("  {name}={secret:?}\n");
        }
    }
    expected.assert_eq(&found);
}

#[test]
fn programs_are_wired_by_their_db_addresses() {
    check(
        r#"
        name = "images"
        [components.worker]
        kind = "worker"
        master = "master"
        program = "bin/images"
        component = "Resizer"
        args = ["--quality", "80"]
        options = { concurrency = 4, link_options = { idle_timeout = "5s" } }
        replicas = 2
        [components.even]
        kind = "pipeline"
        name = "steps"
        from = "master"
        topic = "even"
        to_client = true
        program = "images"
        [components.master]
        kind = "master"
        name = "images"
        program = "bin/images"
        after = ["redis"]
        [components.redis]
        kind = "process"
        command = "redis-server"
        args = ["--port", "0", "--unixsocket", "redis.sock"]
        "#,
        expect![[r#"
            redis/0: redis-server --port 0 --unixsocket redis.sock
              ready: Running, after [], stop 6
            master/0: /srv/images/bin/images run
              ready: Notify, after ["redis"], stop 1
              PALM_WIRING={"version":1,"kind":"master","name":"images","bind":"ipc:///run/palm/master.db","options":{}}
            worker/0: /srv/images/bin/images run --quality 80
              ready: Notify, after ["master"], stop 2
              PALM_WIRING={"version":1,"kind":"worker","component":"Resizer","name":"worker/0","connect":["ipc:///run/palm/master.db"],"options":{"concurrency":4,"link_options":{"idle_timeout":"5s"}}}
            worker/1: /srv/images/bin/images run --quality 80
              ready: Notify, after ["master"], stop 2
              PALM_WIRING={"version":1,"kind":"worker","component":"Resizer","name":"worker/1","connect":["ipc:///run/palm/master.db"],"options":{"concurrency":4,"link_options":{"idle_timeout":"5s"}}}
            even/0: images run
              ready: Notify, after ["master"], stop 3
              PALM_WIRING={"version":1,"kind":"pipeline","name":"steps","bind":"ipc:///run/palm/even.db","connect":["ipc:///run/palm/master.db"],"options":{"pipelined":false,"previous":"even"}}
        "#]],
    );
}

#[test]
fn commands_learn_addresses_by_placeholders_and_programs_bind_those_that_are_named() {
    check(
        r#"
        name = "mixed"
        trust_network = true
        [components.server]
        kind = "server"
        program = "server"
        [components.step]
        kind = "pipeline"
        from = "server"
        command = "./step.py"
        args = ["--db", "{db}", "--pub={pub}", "--sub", "{server.pub}"]
        [components.master]
        kind = "master"
        command = "master"
        env = { PYLM_DB = "{db}", PYLM_PULL = "{pull}", TOKEN = { file = "secrets/token" }, HOME_DIR = "{{{cluster}}}" }
        options = { pull_address = "tcp://127.0.0.1:5555" }
        [components.worker]
        kind = "worker"
        master = "master"
        program = "w"
        [components.client]
        kind = "job"
        command = "client"
        calls = ["server.foo step.bar"]
        [components.other_client]
        kind = "job"
        command = "client"
        args = ["{instance}", "{master.db}"]
        [expose]
        master = "tcp://0.0.0.0:5559"
        "#,
        expect![[r#"
            server/0: server run
              ready: Notify, after [], stop 1
              PALM_WIRING={"version":1,"kind":"server","name":"server","bind":"ipc:///run/palm/server.db","options":{"pub_address":"ipc:///run/palm/server.pub"}}
            master/0: master 
              ready: Address("tcp://127.0.0.1:5559"), after [], stop 1
              HOME_DIR={mixed}
              PALM_TRUST_NETWORK=1
              PYLM_DB=tcp://0.0.0.0:5559
              PYLM_PULL=tcp://127.0.0.1:5555
              TOKEN=File("/srv/images/secrets/token")
            step/0: /srv/images/step.py --db ipc:///run/palm/step.db --pub=ipc:///run/palm/step.pub --sub ipc:///run/palm/server.pub
              ready: Address("ipc:///run/palm/step.db"), after ["server"], stop 3
            worker/0: w run
              ready: Notify, after ["master"], stop 2
              PALM_WIRING={"version":1,"kind":"worker","name":"worker/0","connect":["tcp://127.0.0.1:5559"],"options":{}}
            client/0: client 
              ready: Exit, after ["server", "step"], stop 0
            other_client/0: client other_client/0 tcp://127.0.0.1:5559
              ready: Exit, after ["master", "worker"], stop 0
        "#]],
    );
}

#[test]
fn addresses_of_the_file_come_before_those_that_were_chosen() {
    let text = r#"
        name = "a"
        [components.pinned]
        kind = "server"
        command = "a"
        address = "tcp://*:5555"
        [components.chosen]
        kind = "server"
        program = "a"
        [components.new]
        kind = "server"
        program = "a"
        "#;
    let text = text.replacen("name", "trust_network = true\nname", 1);
    let mut places = places();
    for key in ["pinned.db", "chosen.db"] {
        places
            .addresses
            .insert(key.to_owned(), "tcp://127.0.0.1:7000".to_owned());
    }
    let addresses = cluster(&text).addresses(&places);
    let addresses: Vec<_> = addresses
        .iter()
        .map(|(key, address)| format!("{key} {address}"))
        .collect();
    assert_eq!(
        addresses,
        [
            "chosen.db tcp://127.0.0.1:7000",
            "new.db ipc:///run/palm/new.db",
            "pinned.db tcp://127.0.0.1:5555",
        ]
    );
    // They stay, although others are chosen for the same file.
    let chosen = Places {
        addresses: cluster(&text).addresses(&places),
        ..places
    };
    assert_eq!(cluster(&text).addresses(&chosen), chosen.addresses);
}

const SCALED: &str = r#"
    name = "a"
    [components.master]
    kind = "master"
    program = "a"
    [components.worker]
    kind = "worker"
    master = "master"
    program = "a"
    replicas = { min = 1, max = 4, start = 2 }
    [components.debugger]
    kind = "process"
    command = "debugger"
    profiles = ["debug"]
    "#;

#[track_caller]
fn check_scale(replicas: &[(&str, u32)], profiles: &[&str], expected: Result<&str, &str>) {
    let scale = Scale {
        replicas: replicas
            .iter()
            .map(|(key, count)| ((*key).to_owned(), *count))
            .collect(),
        profiles: profiles.iter().map(|&profile| profile.to_owned()).collect(),
    };
    match cluster(SCALED).instances(&scale, &places()) {
        Ok(instances) => {
            let ids: Vec<_> = instances.iter().map(|it| it.id().to_string()).collect();
            assert_eq!(Ok(ids.join(" ").as_str()), expected);
        }
        Err(error) => assert_eq!(Err(error.to_string().as_str()), expected),
    }
}

#[test]
fn scale_replaces_the_number_of_the_file_within_its_bounds() {
    check_scale(&[], &[], Ok("master/0 worker/0 worker/1"));
    check_scale(&[("worker", 1)], &[], Ok("master/0 worker/0"));
    check_scale(
        &[("worker", 4)],
        &["debug"],
        Ok("master/0 debugger/0 worker/0 worker/1 worker/2 worker/3"),
    );
    check_scale(&[("master", 0)], &[], Ok("worker/0 worker/1"));
    check_scale(
        &[("worker", 5)],
        &[],
        Err("`worker` has 1 to 4 instances, and not 5: its bounds are `replicas` in the file"),
    );
    check_scale(
        &[("master", 2)],
        &[],
        Err("`master` is a master, which has one instance: scale its workers, or use a hub"),
    );
    check_scale(
        &[("wroker", 2)],
        &[],
        Err("the cluster has no component `wroker`: did you mean `worker`?"),
    );
    check_scale(
        &[],
        &["production"],
        Err("no component has the profile `production`: there are `debug`"),
    );
}

#[test]
fn paths_of_sockets_are_not_cut() {
    let places = Places {
        runtime_dir: format!("/{}", "x".repeat(98)).into(),
        ..places()
    };
    let error = cluster(SCALED)
        .instances(&Scale::default(), &places)
        .unwrap_err();
    assert!(
        matches!(error, InstancesError::PathTooLong { .. }),
        "{error}"
    );
}

#[test]
fn an_unchanged_file_has_the_same_fingerprints() {
    let instances = || {
        cluster(SCALED)
            .instances(&Scale::default(), &places())
            .unwrap()
    };
    let plan = crate::plan(&instances(), &instances());
    assert!(plan.is_empty());
}
