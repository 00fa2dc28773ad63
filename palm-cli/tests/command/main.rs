//! Runs the command against components on the loopback interface.

#![allow(missing_docs, clippy::unwrap_used)]

mod cluster_file;

use std::future::Future;
use std::process::{Output, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use palm::prelude::*;
use palm::testing::Cluster;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// Time within which a test must end.
const LIMIT: Duration = Duration::from_secs(60);

fn check(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(LIMIT, body).await.is_ok() });
    runtime.shutdown_background();
    assert!(done, "not done within {LIMIT:?}");
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_palm"));
    command
        .args(arguments)
        .env_remove("PALM_ADDRESS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the command with this standard input, and returns its exit code, standard output and standard error.
async fn palm(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child: Child = command(arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that fails early does not read.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// [`palm`] for a command that succeeds; returns its standard output.
async fn succeed(arguments: &[&str], input: &[u8]) -> String {
    let (code, stdout, stderr) = palm(arguments, input).await;
    assert_eq!((code, &*stderr), (0, ""), "{arguments:?}: {stdout}");
    stdout
}

/// A server.
struct Text;

#[palm::server(name = "text")]
impl Text {
    #[palm::method]
    fn double(&self, text: String) -> Result<String, String> {
        match text.is_empty() {
            true => Err("the text is empty".to_owned()),
            false => Ok(text.repeat(2)),
        }
    }
}

async fn server() -> (palm::testing::ClusterHandle, String) {
    let cluster = Cluster::new().server(Text).start().await.unwrap();
    let address = cluster.handle("text").unwrap().db_address().to_owned();
    (cluster, address)
}

#[test]
fn call_writes_the_result_as_it_is() {
    check(async {
        let (cluster, address) = server().await;
        let call = ["call", "text.double", "--address", &address];
        assert_eq!(succeed(&call, b"a\nb").await, "a\nba\nb");
        let argument = ["call", "text.double", "x", "--address", &address];
        assert_eq!(succeed(&argument, b"").await, "xx");
        let (code, stdout, stderr) = palm(&call, b"").await;
        assert_eq!((code, &*stdout), (1, ""));
        assert!(stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains("the text is empty"), "{stderr}");
        let json = [&call[..], &["-o", "json"]].concat();
        assert_eq!(
            succeed(&json, b"a\n\"").await,
            "{\"value\":\"a\\n\\\"a\\n\\\"\"}\n"
        );
        let echo = ["call", "text.echo", "-a", &address, "-o", "json"];
        assert_eq!(succeed(&echo, b"\xff").await, "{\"base64\":\"/w==\"}\n");
        let (code, stdout, stderr) = palm(&json, b"").await;
        let failure: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((code, &failure["error"]["kind"]), (1, &"Failed".into()));
        assert!(stderr.contains("the text is empty"), "{stderr}");
        let misspelt = ["call", "text.duoble", "x", "--address", &address];
        let (code, _, stderr) = palm(&misspelt, b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("double"), "{stderr}");
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn job_writes_a_line_for_each_result_and_counts_failures() {
    check(async {
        let (cluster, address) = server().await;
        let job = ["job", "text.double", "--lines", "-a", &address];
        let results = succeed(&job, b"a\nb\nc").await;
        let mut lines: Vec<_> = results.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["aa", "bb", "cc"]);
        let (code, stdout, stderr) = palm(&job, b"a\n\nb\n").await;
        assert_eq!((code, stdout.lines().count()), (1, 2));
        assert!(stderr.contains("1 of 3 answers are failures"), "{stderr}");
        let json = ["job", "text.double", "-a", &address, "-o", "json"];
        let (code, stdout, stderr) = palm(&json, b"a\n\nb\n").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("1 of 3 answers are failures"), "{stderr}");
        let objects = stdout.lines().map(|it| serde_json::from_str(it).unwrap());
        let objects: Vec<Value> = objects.collect();
        let values = objects.iter().filter_map(|it| it["value"].as_str());
        assert_eq!(
            values.collect::<std::collections::BTreeSet<_>>(),
            ["aa", "bb"].into()
        );
        let failures = objects
            .iter()
            .filter(|it| it["error"]["function"] == "text.double");
        assert_eq!((objects.len(), failures.count()), (3, 1), "{stdout}");
        for object in &objects {
            let expected = [json!("aa"), Value::Null, json!("bb")];
            let input = object["input"].as_u64().unwrap() as usize;
            assert_eq!(object["value"], expected[input], "{stdout}");
        }
        let null = ["job", "text.double", "--null", "-a", &address];
        assert_eq!(succeed(&null, b"a\nb").await, "a\nba\nb\0");
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn job_answers_each_line_before_the_input_ends() {
    check(async {
        let (cluster, address) = server().await;
        let mut child = command(&["job", "text.double", "-a", &address])
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for text in ["a", "b"] {
            stdin
                .write_all(format!("{text}\n").as_bytes())
                .await
                .unwrap();
            let result = lines.next_line().await.unwrap();
            assert_eq!(result, Some(text.repeat(2)));
        }
        // The reader leaves, as `head` does.
        drop(lines);
        stdin.write_all(b"c\n").await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cache_is_read_changed_and_watched() {
    check(async {
        let (cluster, address) = server().await;
        let cache = |rest: &[&'static str]| {
            let mut arguments = vec!["cache".to_owned(), "-a".to_owned(), address.clone()];
            arguments.extend(rest.iter().map(|it| (*it).to_owned()));
            arguments
        };
        let run = async |rest: &[&'static str], input: &[u8]| {
            let arguments = cache(rest);
            let arguments: Vec<_> = arguments.iter().map(|it| &**it).collect();
            palm(&arguments, input).await
        };
        let watch = cache(&["watch", "k"]);
        let watch: Vec<_> = watch.iter().map(|it| &**it).collect();
        let mut watch = command(&watch).spawn().unwrap();
        let mut changes = BufReader::new(watch.stdout.take().unwrap()).lines();
        // Set until the watch, which begins some time, sees it.
        let first = loop {
            assert_eq!(run(&["set", "k1"], b"one").await.0, 0);
            let line = tokio::time::timeout(Duration::from_millis(100), changes.next_line()).await;
            if let Ok(line) = line {
                break line.unwrap();
            }
        };
        assert_eq!(first.as_deref(), Some("k1\tone"));
        assert_eq!(run(&["get", "k1"], b"").await.1, "one");
        let object = run(&["get", "k1", "-o", "json"], b"").await.1;
        assert_eq!(object, "{\"key\":\"k1\",\"value\":\"one\"}\n");
        assert_eq!(run(&["set", "k2", "two"], b"").await.0, 0);
        assert_eq!(run(&["scan", "k"], b"").await.1, "k1\tone\nk2\ttwo\n");
        let json = run(&["scan", "k1", "-o", "json"], b"").await.1;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["key"], &json["value"]),
            (&"k1".into(), &"one".into())
        );
        assert_eq!(run(&["delete", "k1"], b"").await.0, 0);
        let (code, stdout, stderr) = run(&["get", "k1"], b"").await;
        assert_eq!((code, &*stdout), (1, ""));
        assert!(stderr.contains("`k1` does not exist"), "{stderr}");
        loop {
            match changes.next_line().await.unwrap().as_deref() {
                Some("k1\t(removed)") => break,
                Some("k1\tone" | "k2\ttwo") => {}
                other => panic!("{other:?}"),
            }
        }
        cluster.shutdown().await.unwrap();
    });
}

/// A worker that waits until the test ends.
struct Gated(std::sync::Arc<Semaphore>);

#[palm::worker(server = "master")]
impl Gated {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        let _permit = self.0.acquire().await.unwrap();
        text
    }
}

/// A step that follows the master.
struct Next;

#[palm::pipeline(name = "next")]
impl Next {
    #[palm::method]
    fn step(&self, text: String) -> String {
        text
    }
}

#[test]
fn inspect_and_graph_show_the_cluster_and_the_bottleneck() {
    check(async {
        let gate = std::sync::Arc::new(Semaphore::new(0));
        let cluster = Cluster::new()
            .master(Master::new("master"))
            .worker_with(Gated(gate.clone()), |it| it.name("one").concurrency(1))
            .worker_with(Gated(gate.clone()), |it| it.name("two").concurrency(1))
            .pipeline(Next)
            .start()
            .await
            .unwrap();
        let client = cluster
            .client_builder("master")
            .unwrap()
            .connect()
            .await
            .unwrap();
        let calls = tokio::spawn(async move {
            let inputs = (0..50).map(|number| number.to_string());
            let job = client.job("master.wait", inputs);
            job.collect::<Vec<_>>().await
        });
        let next = cluster.handle("next").unwrap().db_address().to_owned();
        let master = cluster.handle("master").unwrap().db_address().to_owned();

        // Until all calls have arrived.
        let all: Value = loop {
            let json = succeed(&["inspect", &next, "--all", "-o", "json"], b"").await;
            let json: Value = serde_json::from_str(&json).unwrap();
            let sentence = json["bottleneck"]["sentence"].as_str().unwrap();
            if sentence.contains("with 50 messages") {
                break json;
            }
        };
        let subject = &all["bottleneck"]["subject"];
        assert_eq!(subject, "the 2 workers of `master`", "{all:#}");
        let components = all["components"].as_array().unwrap();
        let mut names: Vec<_> = components
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["master", "next"]);

        let table = succeed(&["inspect", &next, "--all"], b"").await;
        for expected in ["master → one", "master → two", "master → next", "100 %"] {
            assert!(table.contains(expected), "{expected}: {table}");
        }
        let one = succeed(&["inspect", &master, "--measure", "0"], b"").await;
        assert!(one.starts_with("master, master, ready, tcp://"), "{one}");
        assert!(one.contains("\n  wait "), "{one}");
        let graph = succeed(&["graph", &next], b"").await;
        assert!(graph.contains("worker one"), "{graph}");
        assert!(graph.contains("└► next  pipeline, ready"), "{graph}");
        assert!(
            graph.contains("Bottleneck: the 2 workers of `master`."),
            "{graph}"
        );
        let svg = succeed(&["graph", &next, "--svg", "--measure", "0"], b"").await;
        assert!(svg.starts_with("<svg "), "{svg}");
        for text in ["2 workers, waiting ", "pipeline, ready", &*next, &*master] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let dot = succeed(&["graph", &next, "--dot", "--measure", "0"], b"").await;
        assert!(dot.starts_with("digraph palm {"), "{dot}");
        assert!(
            dot.contains(&format!("\"{master}\" -> \"{next}\"")),
            "{dot}"
        );

        gate.add_permits(2);
        for answer in calls.await.unwrap() {
            answer.unwrap();
        }
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn exporter_serves_the_metrics_of_all_components_and_which_one_is_away() {
    check(async {
        let cluster = Cluster::new()
            .server(Text)
            .pipeline(Next)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        for _ in 0..7 {
            client.eval(Text::DOUBLE, "x").await.unwrap();
        }
        let text = cluster.handle("text").unwrap().db_address().to_owned();
        let next = cluster.handle("next").unwrap().db_address().to_owned();
        let exporter = ["exporter", &next, "--listen", "127.0.0.1:0"];
        let mut child = command(&exporter).spawn().unwrap();
        let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = messages.next_line().await.unwrap().unwrap();
        let at = line.strip_prefix("serving http://").unwrap();
        let at = at.strip_suffix("/metrics").unwrap().to_owned();
        let (status, metrics) = get(&at, "/metrics").await;
        assert_eq!(status, 200, "{metrics}");
        for series in [
            format!("palm_up{{instance=\"{text}\"}} 1"),
            format!("palm_up{{instance=\"{next}\"}} 1"),
            format!(
                "palm_calls_total{{instance=\"{text}\",component=\"text\",kind=\"server\",function=\"double\"}} 7"
            ),
        ] {
            assert!(metrics.contains(&series), "{series}: {metrics}");
        }
        assert_eq!(get(&at, "/readyz").await, (200, "ready\n".to_owned()));
        client.close().await;
        cluster.shutdown().await.unwrap();
        let (_, metrics) = get(&at, "/metrics").await;
        for address in [&text, &next] {
            let series = format!("palm_up{{instance=\"{address}\"}} 0");
            assert!(metrics.contains(&series), "{series}: {metrics}");
        }
        let (status, reason) = get(&at, "/readyz").await;
        assert_eq!(status, 503);
        assert!(reason.contains("connection refused"), "{reason}");

        let exposed = ["exporter", &*next, "--listen", "0.0.0.0:0"];
        let (code, _, stderr) = palm(&exposed, b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("PALM_TRUST_NETWORK=1"), "{stderr}");
    });
}

/// A server whose calls wait until the test ends.
struct GatedServer(std::sync::Arc<Semaphore>);

#[palm::server(name = "gated")]
impl GatedServer {
    #[palm::method]
    async fn wait(&self, text: String) -> String {
        let _permit = self.0.acquire().await.unwrap();
        text
    }
}

#[test]
fn drain_waits_until_the_component_has_answered_and_stopped() {
    check(async {
        let gate = std::sync::Arc::new(Semaphore::new(0));
        let server = GatedServer(gate.clone()).bind("tcp://127.0.0.1:0");
        let server = server.concurrency(4).spawn().await.unwrap();
        let address = server.db_address().to_owned();
        let client = Client::connect("gated", &*address).await.unwrap();
        let calls = tokio::spawn(async move {
            let inputs = (0..4).map(|number| number.to_string());
            client.job("gated.wait", inputs).collect::<Vec<_>>().await
        });
        // Until all calls run.
        loop {
            let json = succeed(&["inspect", &address, "-o", "json", "--measure", "0"], b"").await;
            let json: Value = serde_json::from_str(&json).unwrap();
            if json["functions"][0]["running"] == 4 {
                break;
            }
        }
        let mut child = command(&["drain", &address]).spawn().unwrap();
        let mut messages = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = messages.next_line().await.unwrap();
        let line = line.unwrap();
        assert!(
            line.starts_with(&format!("{address}: draining, ")),
            "{line}"
        );
        gate.add_permits(4);
        let output = child.wait_with_output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let drained = format!("{address}: drained in ");
        assert!(stdout.starts_with(&drained), "{stdout}");
        for answer in calls.await.unwrap() {
            answer.unwrap();
        }
        server.join().await.unwrap();
        let (code, _, stderr) = palm(&["drain", &address], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("connection refused"), "{stderr}");
    });
}

#[test]
fn configure_shows_and_changes_settings_and_names_mistakes() {
    check(async {
        let (cluster, address) = server().await;
        let changes = ["configure", &*address, "concurrency=3", "drain_limit=1m"];
        let settings = "concurrency = 3\ndrain_limit = 1m\nlog_level = default\n";
        assert_eq!(succeed(&changes, b"").await, settings);
        let json = succeed(&["configure", &address, "-o", "json"], b"").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["concurrency"], "3");
        let misspelt = ["configure", &*address, "concurency=9", "drain_limit=2m"];
        let (code, stdout, stderr) = palm(&misspelt, b"").await;
        assert_eq!((code, &*stdout), (1, ""));
        let expected = "unknown setting `concurency`; did you mean `concurrency`?";
        assert!(stderr.contains(expected), "{stderr}");
        // Nothing was changed.
        assert_eq!(succeed(&["configure", &address], b"").await, settings);
        let (code, _, stderr) = palm(&["configure", &address, "loud"], b"").await;
        assert_eq!(code, 2);
        assert!(stderr.contains("name=value"), "{stderr}");
        cluster.shutdown().await.unwrap();
    });
}

/// Returns the status and the body of an HTTP response.
async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

#[test]
fn failures_and_usage_have_their_exit_codes() {
    check(async {
        for arguments in [
            &["inspect", "tcp://127.0.0.1:9"][..],
            &["inspect", "--all", "tcp://127.0.0.1:9"],
            &["graph", "tcp://127.0.0.1:9"],
            &["cache", "-a", "tcp://127.0.0.1:9", "get", "k"],
            &[
                "call",
                "a.b",
                "x",
                "-a",
                "tcp://127.0.0.1:9",
                "--connect-timeout",
                "1",
            ],
        ] {
            let (code, stdout, stderr) = palm(arguments, b"").await;
            assert_eq!((code, &*stdout), (1, ""), "{arguments:?}: {stderr}");
            assert!(
                stderr.contains("connection refused"),
                "{arguments:?}: {stderr}"
            );
        }
        for arguments in [&["trace"][..], &["inspect", "nowhere"], &["call", "double"]] {
            let (code, stdout, stderr) = palm(arguments, b"").await;
            assert_eq!((code, &*stdout), (2, ""), "{arguments:?}: {stderr}");
        }
        let help = succeed(&["--help"], b"").await;
        assert!(help.contains("Exit codes:"), "{help}");
    });
}

#[test]
fn colours_are_written_only_if_asked_for() {
    check(async {
        let run = async |name: &str, value: &str| {
            let mut command = command(&["inspect", "tcp://127.0.0.1:9"]);
            let output = command.env(name, value).output().await.unwrap();
            String::from_utf8(output.stderr).unwrap()
        };
        assert!(run("CLICOLOR_FORCE", "1").await.contains('\u{1b}'));
        assert!(!run("NO_COLOR", "1").await.contains('\u{1b}'));
    });
}

#[test]
fn completions_and_manual_pages_are_generated() {
    check(async {
        let bash = succeed(&["completions", "bash"], b"").await;
        assert!(bash.contains("inspect"), "{bash}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("man1");
        succeed(&["man", path.to_str().unwrap()], b"").await;
        let page = std::fs::read_to_string(path.join("palm-inspect.1")).unwrap();
        assert!(page.contains(".TH palm"), "{page}");
    });
}

#[test]
fn trace_lists_calls_and_shows_the_path_of_one() {
    check(async {
        let (cluster, address) = server().await;
        let (code, _, stderr) = palm(&["trace", &address], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("no component remembers a call"), "{stderr}");
        succeed(&["call", "text.double", "x", "-a", &address], b"").await;
        let (code, ..) = palm(&["call", "text.double", "", "-a", &address], b"").await;
        assert_eq!(code, 1);

        let calls = succeed(&["trace", &address], b"").await;
        let outcomes: Vec<_> = calls
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().nth(1).unwrap())
            .collect();
        assert_eq!(outcomes, ["failed", "completed"], "{calls}");
        let failed = calls.lines().nth(1).unwrap();
        let id = failed.split_whitespace().next().unwrap();

        let path = succeed(&["trace", &address, id], b"").await;
        for expected in ["text", "step", "text.double", "Failed"] {
            assert!(path.contains(expected), "{path}");
        }
        let json = succeed(&["trace", &address, id, "-o", "json"], b"").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 1, "{json}");
        assert_eq!(json[0]["failure"], "Failed");

        let (code, _, stderr) = palm(&["trace", &address, "other"], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("`other`"), "{stderr}");
        cluster.shutdown().await.unwrap();
    });
}
