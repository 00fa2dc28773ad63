//! Every example, run both ways: as a whole, and each role in a process of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Longest wait for a process to be done.
const EXAMPLE_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn server() {
    check(
        "server",
        &["server"],
        &[(1, "Client got:  b'you sent me a message'")],
    )
    .await;
}

#[tokio::test]
async fn calls() {
    check("calls", &["server"], &[(1, "1000 answers, 0 lost")]).await;
}

#[tokio::test]
async fn typed() {
    let servers = ["master", "worker", "splitter", "counter", "reporter"];
    let lines = [
        (1, "On counting"),
        (1, "11 words in 3 sentences"),
        (1, "documents.parse: there is only a title"),
    ];
    check("typed", &servers, &lines).await;
}

#[tokio::test]
async fn http_gateway() {
    let lines = [(1, "b'acknowledged'")];
    check("http_gateway", &["master", "worker1"], &lines).await;
}

#[tokio::test]
async fn http_worker() {
    let lines = [(10, "b'a message processed online'")];
    check("http_worker", &["web_worker", "master"], &lines).await;
}

#[tokio::test]
async fn http_api() {
    let lines = [
        (1, "greet: 200 Hello, World!"),
        (1, "count: 200 4"),
        (1, "languages: 200 [\"en\"]"),
        (1, "words: 200 \"one\" \"two\""),
        (1, "note: 204 "),
    ];
    check("http_api", &["master", "worker"], &lines).await;
}

#[tokio::test]
async fn parallel() {
    let lines = [(10, "b'<worker> processed a message'")];
    check("parallel", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn cache() {
    let lines = [
        (1, "b' cached data '"),
        (10, "b'<worker> cached data a message'"),
    ];
    check("cache", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn scatter() {
    let lines = [
        (1, "b' cached data '"),
        (30, "b'<worker> cached data a message'"),
    ];
    check("scatter", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn gather() {
    let lines = [
        (1, "b' cached data '"),
        (29, "b'<worker> cached data a message'"),
        (1, "b'final message'"),
    ];
    check("gather", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn pipeline() {
    let lines = [(1, "Client got:  b'and I pipelined you sent me a message'")];
    check("pipeline", &["server", "pipeline"], &lines).await;
}

#[tokio::test]
async fn tee() {
    let lines = [(1, "Client got:  b'and I pipelined you sent me a message'")];
    check("tee", &["server", "pipeline", "silent_pipeline"], &lines).await;
}

#[tokio::test]
async fn stream_control() {
    let lines = [(5, "Client got:  b'and I pipelined you sent me a message'")];
    let servers = ["server", "even_pipeline", "odd_pipeline"];
    check("stream_control", &servers, &lines).await;
}

#[tokio::test]
async fn sink() {
    let line = "Client got:  b'and gathered and I pipelined you sent me a message'";
    let servers = ["server", "even_pipeline", "odd_pipeline", "sink"];
    check("sink", &servers, &[(10, line)]).await;
}

#[tokio::test]
async fn master_pipeline() {
    let lines = [(10, "b'and I pipelined <worker> processed a message'")];
    let servers = ["master", "pipeline", "worker1", "worker2"];
    check("master_pipeline", &servers, &lines).await;
}

#[tokio::test]
async fn hub() {
    let lines = [(
        1,
        "Client got:  b'<worker> processed you sent me a message'",
    )];
    check("hub", &["server", "hub", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn components() {
    let lines = [(10, "b'<worker> processed a message'")];
    check("components", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn quickstart() {
    let output = done("quickstart", spawn("quickstart", &[])).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    for number in 1..=6 {
        let image = format!(" made photo {number} small");
        let made = printed.lines().filter(|line| line.ends_with(&image));
        assert_eq!(made.count(), 1, "{image} in\n{printed}");
    }
    assert!(printed.contains("WorkerPush: 6 messages"), "{printed}");
}

#[tokio::test]
async fn help_names_the_roles() {
    let output = done("help", spawn("sink", &["--help"])).await;
    let printed = String::from_utf8(output.stdout).unwrap();
    for role in ["server", "even_pipeline", "odd_pipeline", "sink", "client"] {
        assert!(printed.contains(&format!("- {role}:")), "{printed}");
    }
}

#[tokio::test]
async fn logs_go_to_standard_error_at_the_level_of_the_environment() {
    let misspelt = "PALM_LOG=\"inof\" is not a filter: `inof` is not a level, did you mean `info`?; using `info`\n";
    const INFO: &str = " - my_server - INFO - ";
    for (palm, rust, logged, absent) in [
        ("", "", INFO, "PALM_LOG"),
        ("", "warn", "", INFO),
        ("warn", "info", "", INFO),
        ("info", "warn", INFO, "PALM_LOG"),
        ("off,palm=info", "off", INFO, "PALM_LOG"),
        ("inof", "warn", misspelt, "RUST_LOG"),
        ("inof", "warn", INFO, "RUST_LOG"),
    ] {
        let ports = Ports::take();
        let arguments = ["--port-offset", &ports.offset.to_string()];
        let variables = [("PALM_LOG", palm), ("RUST_LOG", rust)];
        let output = done("server", spawn_with("server", &arguments, &variables)).await;
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, "Client got:  b'you sent me a message'\n");
        let logs = String::from_utf8(output.stderr).unwrap();
        assert!(
            logs.contains(logged),
            "{variables:?}: {logged:?} in\n{logs}"
        );
        assert!(
            !logs.contains(absent),
            "{variables:?}: {absent:?} in\n{logs}"
        );
    }
}

/// Runs an example as a whole, then each of its `servers` and the client in processes of their own;
/// both times the client's lines have to be `expected`, in any order, and all have to exit with 0.
async fn check(example: &str, servers: &[&str], expected: &[(usize, &str)]) {
    let expected = expected
        .iter()
        .map(|&(count, line)| (line.to_owned(), count))
        .collect();

    let ports = Ports::take();
    let offset = ports.offset.to_string();
    let whole = done(example, spawn(example, &["--port-offset", &offset])).await;
    assert_lines(&whole, &expected);

    let ports = Ports::take();
    let offset = ports.offset.to_string();
    let role = |role| spawn(example, &[role, "--port-offset", &offset]);
    let running: Vec<Child> = servers.iter().copied().map(role).collect();
    let client = done("client", role("client")).await;
    assert_lines(&client, &expected);
    for server in &running {
        terminate(server).await;
    }
    let ended = servers.iter().zip(running);
    join_all(ended.map(|(name, server)| done(name, server))).await;
}

fn spawn(example: &str, arguments: &[&str]) -> Child {
    spawn_with(example, arguments, &[])
}

/// `variables` of the environment: those that set the level of logs are unset otherwise.
fn spawn_with(example: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    // Of this executable's path, `<profile>/deps/<name>`, the first is where `examples` is.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    Command::new(&path)
        .args(arguments)
        .env_remove("PALM_LOG")
        .env_remove("RUST_LOG")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo build --examples` makes it",
                path.display()
            )
        })
}

/// Waits for a process, which has to succeed.
async fn done(name: &str, process: Child) -> Output {
    let output = timeout(EXAMPLE_TIMEOUT, process.wait_with_output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("`{name}` is not done within {EXAMPLE_TIMEOUT:?}"))
        .unwrap();
    assert!(output.status.success(), "`{name}`: {output:#?}");
    output
}

/// SIGTERM. Nothing that is safe and at hand sends one but the shell.
async fn terminate(process: &Child) {
    let id = process.id().expect("it runs until it is told to stop");
    let kill = format!("kill -TERM {id}");
    let status = Command::new("sh").args(["-c", &kill]).status().await;
    assert!(status.unwrap().success());
}

fn assert_lines(output: &Output, expected: &BTreeMap<String, usize>) {
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut lines = BTreeMap::new();
    for line in printed.lines() {
        *lines.entry(without_names(line)).or_default() += 1;
    }
    assert_eq!(&lines, expected, "{printed}");
}

/// The line, with a worker's name as `<worker>`.
fn without_names(line: &str) -> String {
    let line = line
        .replace("worker1", "<worker>")
        .replace("worker2", "<worker>");
    // A default name is a type, a host and a process id, as in `MyWorker@node7:4711`.
    if let Some(rest) = line.strip_prefix("b'")
        && let Some((name, rest)) = rest.split_once(' ')
        && let Some((_, place)) = name.split_once('@')
        && let Some((_, process)) = place.rsplit_once(':')
        && process
            .split('/')
            .all(|number| number.parse::<u32>().is_ok())
    {
        return format!("b'<worker> {rest}");
    }
    line
}

/// A range of ports for one run of an example, which no other run has at the same time, in this
/// process or another.
struct Ports {
    /// What is added to the ports of the documentation.
    offset: u16,
    /// A port of the range that no example uses: who has it has the range.
    _lock: TcpListener,
}

impl Ports {
    /// The ports of the documentation.
    const DOCUMENTED: std::ops::RangeInclusive<u16> = 5555..=5581;
    const LOCK: u16 = 5582;
    /// Below the ports that systems give to outgoing connections.
    const RANGES: u16 = 600;

    fn take() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);

        // Processes that run at the same time begin at places of their own.
        let first = (std::process::id() % u32::from(Self::RANGES)) as u16;
        for _ in 0..Self::RANGES {
            let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % Self::RANGES;
            let offset = 1000 + number * 40;
            let free = |port| TcpListener::bind(("127.0.0.1", port + offset));
            if let Ok(lock) = free(Self::LOCK)
                && Self::DOCUMENTED.into_iter().all(|port| free(port).is_ok())
            {
                return Self {
                    offset,
                    _lock: lock,
                };
            }
        }
        panic!("no range of ports is free");
    }
}
