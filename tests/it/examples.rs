//! Every example is run as a whole, and with each role in a process of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::process::{Ended, Process};

/// Time within which a process must end.
const EXAMPLE_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn example_server_prints_the_expected_lines() {
    check(
        "server",
        &["server"],
        &[(1, "Client got:  b'you sent me a message'")],
    )
    .await;
}

#[tokio::test]
async fn example_calls_prints_the_expected_lines() {
    check("calls", &["server"], &[(1, "1000 answers, 0 lost")]).await;
}

#[tokio::test]
async fn example_middleware_prints_the_expected_lines() {
    let lines = [
        (1, "25 answers with the token"),
        (
            1,
            "`math.reverse` was denied in `math`: the call has no valid token",
        ),
    ];
    check("middleware", &["server"], &lines).await;
}

#[tokio::test]
async fn example_closures_prints_the_expected_lines() {
    let lines = [
        (1, "double: 42"),
        (1, "divide: 3"),
        (1, "divide: division by zero"),
        (1, "upper: PALM"),
        (1, "count: 1"),
        (1, "count: 2"),
    ];
    check("closures", &["server", "master", "worker"], &lines).await;
}

#[tokio::test]
async fn example_typed_prints_the_expected_lines() {
    let servers = ["master", "worker", "splitter", "counter", "reporter"];
    let lines = [
        (1, "On counting"),
        (1, "11 words in 3 sentences"),
        (1, "documents.parse: there is only a title"),
    ];
    check("typed", &servers, &lines).await;
}

#[tokio::test]
async fn example_http_gateway_prints_the_expected_lines() {
    let lines = [(1, "b'acknowledged'")];
    check("http_gateway", &["master", "worker1"], &lines).await;
}

#[tokio::test]
async fn example_http_worker_prints_the_expected_lines() {
    let lines = [(10, "b'a message processed online'")];
    check("http_worker", &["web_worker", "master"], &lines).await;
}

#[tokio::test]
async fn example_http_api_prints_the_expected_lines() {
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
async fn example_parallel_prints_the_expected_lines() {
    let lines = [(10, "b'<worker> processed a message'")];
    check("parallel", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_cache_prints_the_expected_lines() {
    let lines = [
        (1, "b' cached data '"),
        (10, "b'<worker> cached data a message'"),
    ];
    check("cache", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_scatter_prints_the_expected_lines() {
    let lines = [
        (1, "b' cached data '"),
        (30, "b'<worker> cached data a message'"),
    ];
    check("scatter", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_gather_prints_the_expected_lines() {
    let lines = [
        (1, "b' cached data '"),
        (29, "b'<worker> cached data a message'"),
        (1, "b'final message'"),
    ];
    check("gather", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_pipeline_prints_the_expected_lines() {
    let lines = [(1, "Client got:  b'and I pipelined you sent me a message'")];
    check("pipeline", &["server", "pipeline"], &lines).await;
}

#[tokio::test]
async fn example_tee_prints_the_expected_lines() {
    let lines = [(1, "Client got:  b'and I pipelined you sent me a message'")];
    check("tee", &["server", "pipeline", "silent_pipeline"], &lines).await;
}

#[tokio::test]
async fn example_stream_control_prints_the_expected_lines() {
    let lines = [(5, "Client got:  b'and I pipelined you sent me a message'")];
    let servers = ["server", "even_pipeline", "odd_pipeline"];
    check("stream_control", &servers, &lines).await;
}

#[tokio::test]
async fn example_sink_prints_the_expected_lines() {
    let line = "Client got:  b'and gathered and I pipelined you sent me a message'";
    let servers = ["server", "even_pipeline", "odd_pipeline", "sink"];
    check("sink", &servers, &[(10, line)]).await;
}

#[tokio::test]
async fn example_master_pipeline_prints_the_expected_lines() {
    let lines = [(10, "b'and I pipelined <worker> processed a message'")];
    let servers = ["master", "pipeline", "worker1", "worker2"];
    check("master_pipeline", &servers, &lines).await;
}

#[tokio::test]
async fn example_hub_prints_the_expected_lines() {
    let lines = [(
        1,
        "Client got:  b'<worker> processed you sent me a message'",
    )];
    check("hub", &["server", "hub", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_components_prints_the_expected_lines() {
    let lines = [(10, "b'<worker> processed a message'")];
    check("components", &["master", "worker1", "worker2"], &lines).await;
}

#[tokio::test]
async fn example_quickstart_prints_the_expected_lines() {
    let output = done("quickstart", spawn("quickstart", &[])).await;
    let printed = output.stdout;
    for number in 1..=6 {
        let image = format!(" made photo {number} small");
        let made = printed.lines().filter(|line| line.ends_with(&image));
        assert_eq!(made.count(), 1, "{image} in\n{printed}");
    }
    assert!(printed.contains("WorkerPush: 6 messages"), "{printed}");
}

#[tokio::test]
async fn example_standalone_prints_the_expected_lines() {
    let ports = Ports::take();
    let address = |port: u16| format!("tcp://127.0.0.1:{}", port + ports.offset);
    let db = address(5559);
    let master = ["master", "--name", "test", "--db", &db];
    let pushed = ["--pull", &address(5555), "--pub", &address(5556)];
    let workers = ["--wpush", &address(5557), "--wpull", &address(5558)];
    let master = spawn("standalone", &[&master[..], &pushed, &workers].concat());
    let worker = spawn("standalone", &["worker", "--name", "worker1", "--db", &db]);
    let launcher = [
        "launcher",
        "--server",
        "test",
        "--function",
        "foo",
        "--db",
        &db,
    ];
    let output = done("launcher", spawn("standalone", &launcher)).await;
    let mut lines: Vec<_> = output.stdout.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<_> = (1..=10)
        .map(|number| format!("worker1 processed message {number}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    for process in [worker, master] {
        process.terminate().unwrap();
        done("standalone", process).await;
    }
}

#[tokio::test]
async fn example_tour_prints_the_expected_lines() {
    let output = done("tour", spawn("tour", &[])).await;
    let expected = [
        "3 words",
        "Failed: the text is empty",
        "1000 of Some(1000) texts, 500500 words",
        "cancelled",
        "the method was dropped",
        "200 OK: 4",
        "Some(b\"hello\")",
        "brown fox quick the",
        "500 answers, 1 lost connection",
    ];
    assert_eq!(output.stdout.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn example_help_lists_the_roles() {
    let output = done("help", spawn("sink", &["--help"])).await;
    let printed = output.stdout;
    for role in ["server", "even_pipeline", "odd_pipeline", "sink", "client"] {
        assert!(printed.contains(&format!("- {role}:")), "{printed}");
    }
}

#[tokio::test]
async fn logs_are_written_to_stderr_at_the_level_of_the_environment() {
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
        assert_eq!(output.stdout, "Client got:  b'you sent me a message'\n");
        let logs = output.stderr;
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

/// Runs an example as a whole, then each of its `servers` and the client in processes of their own.
///
/// Both times the client must print the `expected` lines, in any order, and all processes must exit with 0.
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
    let running: Vec<Process> = servers.iter().copied().map(role).collect();
    let client = done("client", role("client")).await;
    assert_lines(&client, &expected);
    for server in &running {
        server.terminate().unwrap();
    }
    let ended = servers.iter().zip(running);
    join_all(ended.map(|(name, server)| done(name, server))).await;
}

fn spawn(example: &str, arguments: &[&str]) -> Process {
    spawn_with(example, arguments, &[])
}

/// Starts an example with `variables` in its environment. Variables that set the log level are unset otherwise.
fn spawn_with(example: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = command(example);
    command.args(arguments).envs(variables.iter().copied());
    Process::spawn(example, command)
}

/// Returns the command that runs an example, without the variables that set the log level.
pub(crate) fn command(example: &str) -> Command {
    // This executable is `<profile>/deps/<name>`, and the examples are in `<profile>/examples`.
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let shown = path.display();
    assert!(
        path.exists(),
        "no {shown}: `cargo build --examples` makes it"
    );
    let mut command = Command::new(path);
    command.env_remove("PALM_LOG").env_remove("RUST_LOG");
    command
}

/// Waits until a process has ended with success.
async fn done(name: &str, process: Process) -> Ended {
    let ended = process.output(EXAMPLE_TIMEOUT).await;
    assert!(ended.status.success(), "`{name}`: {ended:#?}");
    ended
}

fn assert_lines(ended: &Ended, expected: &BTreeMap<String, usize>) {
    let printed = &ended.stdout;
    let mut lines = BTreeMap::new();
    for line in printed.lines() {
        *lines.entry(without_names(line)).or_default() += 1;
    }
    assert_eq!(&lines, expected, "{printed}");
}

/// Returns the line with a worker's name replaced by `<worker>`.
fn without_names(line: &str) -> String {
    let line = line
        .replace("worker1", "<worker>")
        .replace("worker2", "<worker>");
    // A default name is a type, a host and a process id, as in `MyWorker@node7:4711`.
    if let Some(rest) = line.strip_prefix("b'")
        && let Some((name, rest)) = rest.split_once(' ')
        && let Some((_, location)) = name.split_once('@')
        && let Some((_, process)) = location.rsplit_once(':')
        && process
            .split('/')
            .all(|number| number.parse::<u32>().is_ok())
    {
        return format!("b'<worker> {rest}");
    }
    line
}

/// A set of ports for one run of an example, which no other run uses at the same time, in this process or another.
struct Ports {
    /// The offset that is added to the ports of the documentation.
    offset: u16,
    /// A port of the set that no example uses. Binding it locks the set.
    _lock: TcpListener,
}

impl Ports {
    /// The ports of the documentation.
    const DOCUMENTED: [u16; 12] = [
        5555, 5556, 5557, 5558, 5559, 5560, 5561, 5570, 5571, 5580, 5581, 8888,
    ];
    const LOCK: u16 = 5582;
    /// The number of sets, all below the ports of [`unbound`](super::setup::unbound) and those that systems use for outgoing
    /// connections. No two sets have a port in common.
    const SETS: u16 = 500;

    fn take() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);

        // Concurrent processes begin their search at different sets.
        let first = (std::process::id() % u32::from(Self::SETS)) as u16;
        for _ in 0..Self::SETS {
            let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % Self::SETS;
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
        panic!("no set of ports is free");
    }
}
