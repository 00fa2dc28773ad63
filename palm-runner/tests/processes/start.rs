//! What can go wrong at the start.

use std::io::Read as _;
use std::net::TcpListener;

use libtest_mimic::Trial;
use palm_plan::instance::Readiness;
use palm_runner::api::{ClientError, Request, Wanted};

use crate::setup::{Cluster, eventually, idle, script, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial("second_runner_names_the_first", locked),
        trial("missing_program_and_folder_are_named", missing),
        trial("port_in_use_names_its_process", occupied),
        trial("address_that_accepts_connections_makes_ready", address),
        trial("change_applies_to_what_changed_alone", apply),
        trial("api_is_for_its_user_and_refuses_other_versions", api),
    ]
}

fn locked() {
    let cluster = Cluster::start(vec![idle("a/0")]);
    let mut second = cluster.spawn(vec![idle("a/0")]);
    let mut text = String::new();
    second
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    eventually("the second runner ends", || {
        second.try_wait().unwrap().is_some()
    });
    let pid = cluster.runner_pid();
    let expected = format!(
        "the cluster `test` is run by process {pid}: `palm ps` shows it, `palm down` stops it\n"
    );
    assert_eq!(text, expected);
    cluster.until_ready();
    cluster.down();
}

fn missing() {
    let mut no_command = idle("a/0");
    no_command.command = "no-such-command".into();
    let mut no_file = idle("b/0");
    no_file.command = "/no/such/file".into();
    let mut no_program = idle("c/0");
    no_program.command = "/etc/passwd".into();
    let mut no_folder = idle("d/0");
    no_folder.working_dir = "/no/such/folder".into();
    let cluster = Cluster::start(vec![no_command, no_file, no_program, no_folder]);
    let status = cluster.until("all have failed", |status| {
        status
            .instances
            .iter()
            .all(|it| it.failures > 0 && it.state == "backoff")
    });
    let reasons = [
        "the command `no-such-command` is not in any folder of PATH",
        "the program `/no/such/file` does not exist",
        "`/etc/passwd` is not executable: `chmod +x /etc/passwd` changes that",
        "the working directory `/no/such/folder` does not exist",
    ];
    for (instance, reason) in status.instances.iter().zip(reasons) {
        let begin = format!("could not be started: {reason}; starts again in ");
        assert!(instance.why.starts_with(&begin), "{}", instance.why);
    }
    cluster.down();
}

fn occupied() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let mut instance = idle("a/0");
    instance.readiness = Readiness::Address(address.clone());
    let cluster = Cluster::start(vec![instance]);
    let failed = cluster.until_instance("a/0", |it| it.failures > 0 && it.state == "backoff");
    let expected = format!("could not be started: {address} is in use by processes-");
    assert!(failed.why.starts_with(&expected), "{}", failed.why);
    let process = format!("(process {})", std::process::id());
    assert!(failed.why.contains(&process), "{}", failed.why);
    cluster.down();
}

fn address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ipc");
    let mut instance = script("a/0", "exec sleep 1000");
    instance.readiness = Readiness::Address(format!("ipc://{}", path.display()));
    let cluster = Cluster::start(vec![instance]);
    let starting = cluster.until_instance("a/0", |it| it.state == "starting");
    assert!(
        starting
            .why
            .starts_with("does not accept connections at ipc://"),
        "{}",
        starting.why
    );
    // The test is the one who listens in place of the process.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    cluster.until_ready();
    cluster.down();
}

fn apply() {
    let cluster = Cluster::start(vec![idle("a/0"), idle("b/0"), idle("b/1")]);
    let before = cluster.until_ready();
    let pids = |status: &palm_runner::state::ClusterStatus| -> Vec<_> {
        status
            .instances
            .iter()
            .map(|it| (it.id.to_string(), it.pid))
            .collect()
    };
    let mut wanted = cluster.client().wanted().unwrap();
    cluster.request(&Request::Apply(wanted.clone()));
    assert_eq!(pids(&cluster.status()), pids(&before));
    // Another change came first.
    let stale = cluster.client().command(&Request::Apply(wanted.clone()));
    assert!(matches!(stale, Err(ClientError::Refused(reason)) if reason.contains("try again")));
    wanted.revision += 1;
    wanted.instances.retain(|it| it.index == 0);
    wanted.instances[0]
        .env
        .insert("X".to_owned(), "1".to_owned());
    wanted.instances.push(idle("c/0"));
    cluster.request(&Request::Apply(wanted));
    let after = cluster.until("the change is done", |status| {
        let runs: Vec<_> = status
            .instances
            .iter()
            .map(|it| (it.id.to_string(), it.run))
            .collect();
        let expected = [("a/0", 2), ("b/0", 1), ("c/0", 1)];
        let expected = expected.map(|(id, run)| (id.to_owned(), run));
        runs == expected
            && status
                .instances
                .iter()
                .all(|it| it.settled && it.is_ready())
    });
    assert_eq!(pids(&after)[1], pids(&before)[1]);
    let Wanted { revision, .. } = cluster.client().wanted().unwrap();
    assert_eq!(revision, 2);
    cluster.down();
}

fn api() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;
    let cluster = Cluster::start(vec![idle("a/0")]);
    let metadata = std::fs::metadata(cluster.folders.api()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut stream = BufReader::new(UnixStream::connect(cluster.folders.api()).unwrap());
    for (request, expected) in [
        (r#"{"version":99,"request":"status"}"#, "version 99"),
        (r#"{"version":1,"request":"statsu"}"#, "malformed"),
        ("nonsense", "malformed"),
    ] {
        writeln!(stream.get_mut(), "{request}").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(
            line.starts_with("{\"refused\":") && line.contains(expected),
            "{line}"
        );
    }
    cluster.down();
}
