//! The metrics as Prometheus reads them, and the rules for alerts of the guide. Needs `PALM_PROMETHEUS`, the path of
//! `prometheus`, with `promtool` next to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use palm::inspect::Inspector;
use palm::monitor::Exporter;
use palm::prelude::*;
use reqwest::Client as Http;
use serde_json::Value;
use tempfile::TempDir;

use super::documents::path;
use super::process::Process;
use super::setup::{ANY, SOON, check_for, connect, soon, unbound_socket};

const LIMIT: Duration = Duration::from_secs(120);
const HERE: &str = "127.0.0.1:0";
/// Messages of each load.
const CALLS: u64 = 3000;

struct Text;

#[palm::server(name = "text")]
impl Text {
    #[palm::method]
    async fn double(&self, text: String) -> Result<String, String> {
        tokio::task::yield_now().await;
        match text.ends_with('7') {
            true => Err("seven".to_owned()),
            false => Ok(text.repeat(2)),
        }
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn double(&self, text: String) -> String {
        tokio::task::yield_now().await;
        text.repeat(2)
    }
}

fn prometheus() -> PathBuf {
    let program = std::env::var_os("PALM_PROMETHEUS");
    program
        .expect("PALM_PROMETHEUS is the path of `prometheus`")
        .into()
}

/// Runs `promtool`, and fails unless it succeeds, and prints nothing if `is_silent`.
#[track_caller]
fn promtool(arguments: &[&str], input: &str, is_silent: bool) {
    let mut command = Command::new(prometheus().with_file_name("promtool"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(output.status.success(), "{printed}\n{input}");
    assert!(!is_silent || printed.is_empty(), "{printed}\n{input}");
}

/// Returns the YAML block of the guide that begins with `first`.
fn guide_block(first: &str) -> String {
    let guide = fs::read_to_string(path("docs/book/src/observe.md")).unwrap();
    let blocks = guide.split("```yaml\n").skip(1);
    let mut blocks = blocks.map(|block| block.split_once("```").unwrap().0);
    blocks
        .find(|block| block.starts_with(first))
        .unwrap()
        .to_owned()
}

/// A running Prometheus.
struct Server {
    url: String,
    http: Http,
    _process: Process,
    _folder: TempDir,
}

impl Server {
    /// Starts a server that scrapes these targets five times a second, and waits until it is ready.
    async fn start(targets: &[&str], rules: &Path) -> Self {
        Self::start_with(targets, rules, &[]).await
    }

    async fn start_with(targets: &[&str], rules: &Path, options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let at = unbound_socket();
        let configuration = serde_json::json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "1s" },
            "rule_files": [rules],
            "scrape_configs": [{ "job_name": "palm", "static_configs": [{ "targets": targets }] }],
        });
        // JSON is YAML.
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new(prometheus());
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={at}"))
            .args(options);
        let server = Self {
            url: format!("http://{at}"),
            http: Http::new(),
            _process: Process::spawn("prometheus", command),
            _folder: folder,
        };
        let ready = async {
            let url = format!("{}/-/ready", server.url);
            while !matches!(server.http.get(&url).send().await, Ok(it) if it.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON * 2, ready)
            .await
            .expect("Prometheus starts");
        server
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}{path}", self.url), query).unwrap();
        let response = soon("an answer of Prometheus", self.http.get(url).send());
        let text = response.await.unwrap().text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "success", "{answer:#}");
        answer["data"].clone()
    }

    /// Returns the sum of a query's results; 0 if there are none.
    async fn query(&self, query: &str) -> f64 {
        let data = self
            .get("/api/v1/query", &[("query", &format!("sum({query})"))])
            .await;
        let value = data["result"][0]["value"][1].as_str();
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until the sum of a query's results is `expected`.
    async fn until(&self, query: &str, expected: f64) {
        let poll = async {
            while self.query(query).await != expected {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon(query, poll).await;
    }
}

#[test]
#[ignore = "needs PALM_PROMETHEUS, the path of prometheus"]
fn prometheus_rates_equal_the_calls_of_a_load() {
    check_for(LIMIT, async {
        let server = Text.bind(ANY).monitor(HERE).spawn().await.unwrap();
        let master = Master::new("master")
            .bind(ANY)
            .monitor(HERE)
            .spawn()
            .await
            .unwrap();
        let worker = Hand
            .connect(master.db_address())
            .name("hand")
            .spawn()
            .await
            .unwrap();
        let clients = [
            connect("text", &server).await,
            connect("master", &master).await,
        ];
        let urls = [&server, &master].map(|it| it.address("monitor_address").unwrap());
        let targets = urls.map(|url| url.strip_prefix("http://").unwrap());
        let folder = TempDir::new().unwrap();
        let rules = folder.path().join("rules.yml");
        fs::write(&rules, guide_block("groups:")).unwrap();
        let prometheus = Server::start(&targets, &rules).await;

        let by_function = r#"palm_calls_total{component="text",function="double"}"#;
        let by_worker = r#"palm_worker_calls_total{component="master",worker="hand"}"#;
        let errors = r#"palm_call_errors_total{component="text",function="double"}"#;
        // The counters are known before they grow.
        for counter in [by_function, by_worker, errors] {
            prometheus
                .until(&format!("count_over_time({counter}[1m]) >= bool 5"), 1.0)
                .await;
            assert_eq!(prometheus.query(counter).await, 0.0);
        }
        let texts = || (0..CALLS).map(|number| number.to_string());
        let answers: Vec<_> = clients[0].job(Text::DOUBLE, texts()).collect().await;
        let failures = answers.iter().filter(|answer| answer.is_err());
        assert_eq!(failures.count() as u64, CALLS / 10);
        let answers: Vec<_> = clients[1]
            .job(Hand::DOUBLE, texts())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(answers.len() as u64, CALLS);

        for (counter, expected) in [
            (by_function, CALLS),
            (by_worker, CALLS),
            (errors, CALLS / 10),
        ] {
            prometheus.until(counter, expected as f64).await;
            let grown = format!("max_over_time({counter}[1m]) - min_over_time({counter}[1m])");
            assert_eq!(prometheus.query(&grown).await, expected as f64);
            // Prometheus extrapolates to the ends of the range, by half an interval of 200 ms at most.
            let increase = prometheus.query(&format!("increase({counter}[1m])")).await;
            let rate = prometheus.query(&format!("rate({counter}[1m])")).await * 60.0;
            for found in [increase, rate] {
                let ratio = found / expected as f64;
                assert!(
                    (0.999..1.15).contains(&ratio),
                    "{counter}: {found} of {expected}"
                );
            }
        }
        let rules = prometheus.get("/api/v1/rules", &[]).await;
        let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
        assert!(rules.len() >= 5, "{rules:#?}");
        for rule in rules {
            assert_ne!(rule["health"], "err", "{rule:#}");
        }
        for component in [worker, server, master] {
            component.shutdown().await.unwrap();
        }
    });
}

#[test]
#[ignore = "needs PALM_PROMETHEUS, the path of prometheus"]
fn native_histograms_have_the_durations_of_calls() {
    check_for(LIMIT, async {
        let server = Text.bind(ANY).monitor(HERE).spawn().await.unwrap();
        let client = connect("text", &server).await;
        let url = server.address("monitor_address").unwrap();
        let folder = TempDir::new().unwrap();
        let rules = folder.path().join("rules.yml");
        fs::write(&rules, guide_block("groups:")).unwrap();
        let native = ["--enable-feature=native-histograms"];
        let targets = [url.strip_prefix("http://").unwrap()];
        let prometheus = Server::start_with(&targets, &rules, &native).await;
        let texts = (0..CALLS).map(|number| number.to_string());
        client.job(Text::DOUBLE, texts).collect::<Vec<_>>().await;

        let durations = r#"palm_call_duration_seconds{component="text",function="double"}"#;
        let count = format!("histogram_count({durations})");
        prometheus.until(&count, CALLS as f64).await;
        let report = server.report().await;
        let working = &report.functions[0].working;
        for quantile in [0.1, 0.5, 0.9] {
            let found = prometheus
                .query(&format!("histogram_quantile({quantile}, {durations})"))
                .await;
            let expected = working.quantile(quantile).unwrap().as_secs_f64();
            // The width of a bucket.
            let ratio = found / expected;
            assert!(
                (0.9..1.1).contains(&ratio),
                "{quantile}: {found}, {expected}"
            );
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
#[ignore = "needs PALM_PROMETHEUS, the path of prometheus"]
fn prometheus_finds_no_mistake_in_metrics_and_rules() {
    check_for(LIMIT, async {
        let server = Text.bind(ANY).monitor(HERE).spawn().await.unwrap();
        let master = Master::new("master")
            .bind(ANY)
            .monitor(HERE)
            .spawn()
            .await
            .unwrap();
        let worker = Hand
            .connect(master.db_address())
            .monitor(HERE)
            .spawn()
            .await
            .unwrap();
        let client = connect("master", &master).await;
        client.eval(Hand::DOUBLE, "x").await.unwrap();
        let inspector = Inspector::new(master.db_address()).unwrap();
        let exporter = Exporter::bind(inspector, HERE).await.unwrap();
        let components =
            [&server, &master, &worker].map(|it| it.address("monitor_address").unwrap().to_owned());
        let urls: Vec<_> = components.into_iter().chain([exporter.url()]).collect();
        let serving = tokio::spawn(exporter.serve());
        for url in urls {
            let response = soon(
                "the metrics",
                Http::new().get(format!("{url}/metrics")).send(),
            );
            let metrics = response.await.unwrap().text().await.unwrap();
            promtool(&["check", "metrics"], &metrics, true);
        }
        serving.abort();
        let folder = TempDir::new().unwrap();
        let rules = folder.path().join("rules.yml");
        fs::write(&rules, guide_block("groups:")).unwrap();
        promtool(&["check", "rules", rules.to_str().unwrap()], "", false);
        let configuration = folder.path().join("prometheus.yml");
        fs::write(&configuration, guide_block("scrape_configs:")).unwrap();
        promtool(
            &["check", "config", configuration.to_str().unwrap()],
            "",
            false,
        );
        for component in [worker, server, master] {
            component.shutdown().await.unwrap();
        }
    });
}
