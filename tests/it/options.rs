//! Options from files, the command line and the environment.

use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser};
use palm::component::{MasterOptions, PipelineOptions, ServerOptions, WorkerOptions};
use palm::http::{GatewayOptions, ListenerOptions};
use palm::parts::HttpConnection;
use palm::prelude::*;
use palm::socket::SocketOptions;
use palm::{ClientOptions, LinkOptions, Server};

use super::documents::read;
use super::setup::{ANY, check, connect};

/// A program with an argument of its own.
#[derive(Parser)]
struct Program<T: Args> {
    #[command(flatten)]
    palm: T,
    #[arg(long)]
    folder: Option<String>,
}

fn parse<T: Args>(arguments: &[&str]) -> Result<T, String> {
    let arguments = ["program"].iter().chain(arguments);
    Program::try_parse_from(arguments)
        .map(|program: Program<T>| program.palm)
        .map_err(|error| error.to_string())
}

#[track_caller]
fn rejected(toml: &str, expected: &str) {
    let error = toml::from_str::<ServerOptions>(toml).unwrap_err();
    assert!(error.message().contains(expected), "{error}");
}

#[test]
fn options_of_a_file_are_those_of_the_methods() {
    let links: LinkOptions = toml::from_str(
        "idle_timeout = \"5s\"\nmax_task_bytes = \"64MiB\"\nmax_sessions = 7\nslow_consumer_timeout = \"none\"",
    )
    .unwrap();
    let expected = LinkOptions::new()
        .idle_timeout(Duration::from_secs(5))
        .max_task_bytes(64 << 20)
        .max_sessions(7)
        .slow_consumer_timeout(None);
    assert_eq!(links, expected);
    let sockets: SocketOptions =
        serde_json::from_str(r#"{"queue_len": 100, "max_message_bytes": 1000}"#).unwrap();
    assert_eq!(
        sockets,
        SocketOptions::new().queue_len(100).max_message_bytes(1000)
    );
    let gateway: GatewayOptions =
        toml::from_str("bearer_tokens = [\"a\", \"b\"]\ntitle = \"Images\"").unwrap();
    assert_eq!(
        gateway,
        GatewayOptions::new()
            .bearer_tokens(["a", "b"])
            .title("Images")
    );
}

#[test]
fn debug_shows_no_tokens() {
    let gateway = GatewayOptions::new().bearer_tokens(["sesame"]);
    let connection = HttpConnection::connect("http://127.0.0.1:1").bearer_token("sesame");
    for text in [format!("{gateway:?}"), format!("{connection:?}")] {
        assert!(
            text.contains("bearer_token") && !text.contains("sesame"),
            "{text}"
        );
    }
}

#[test]
fn unknown_option_is_rejected_with_the_nearest_name() {
    rejected(
        "concurency = 4",
        "unknown option `concurency`; did you mean `concurrency`?",
    );
    rejected(
        "[link_options]\nidle_timout = \"1s\"",
        "unknown option `link_options.idle_timout`; did you mean `idle_timeout`?",
    );
    // A server has no master.
    rejected("prefetch = 4", "unknown option `prefetch`");
    assert!(toml::from_str::<WorkerOptions>("prefetch = 4").is_ok());
}

#[test]
fn value_of_another_form_is_rejected() {
    rejected(
        "drain_limit = 30",
        "`drain_limit` is 30, expected a duration with a unit, such as \"30s\" or \"250ms\"",
    );
    rejected(
        "[queue_limits]\nbytes = \"many\"",
        "`bytes` is \"many\", expected a size, such as \"64MiB\"",
    );
    rejected(
        "concurrency = -1",
        "`concurrency` is -1, expected a whole number",
    );
    rejected(
        "own_thread = \"maybe\"",
        "`own_thread` is \"maybe\", expected true or false",
    );
    rejected(
        "log_level = \"loud\"",
        "`log_level` is \"loud\", expected one of",
    );
    rejected(
        "queue_limits = 3",
        "a table of the options of `queue_limits`",
    );
}

#[test]
fn options_of_clients_and_listeners_have_the_names_of_their_methods() {
    let expected = ClientOptions::new()
        .timeout(Duration::from_secs(5))
        .window(7)
        .session("night")
        .link_options(LinkOptions::new().heartbeat(Duration::from_secs(1)));
    let file: ClientOptions = toml::from_str(
        "timeout = \"5s\"\nwindow = 7\nsession = \"night\"\n[link_options]\nheartbeat = \"1s\"",
    )
    .unwrap();
    assert_eq!(file, expected);
    let (timeout, window) = (["--timeout", "5s"], ["--window", "7"]);
    let (session, links) = (["--session", "night"], ["--link-options-heartbeat", "1s"]);
    let arguments = [timeout, window, session, links].concat();
    assert_eq!(parse::<ClientOptions>(&arguments).unwrap(), expected);

    let expected = ListenerOptions::new()
        .allowed_hosts(["images.example.org"])
        .max_connections(9);
    let file: ListenerOptions =
        toml::from_str("allowed_hosts = [\"images.example.org\"]\nmax_connections = 9").unwrap();
    assert_eq!(file, expected);
    let arguments = [
        "--allowed-hosts",
        "images.example.org",
        "--max-connections",
        "9",
    ];
    assert_eq!(parse::<ListenerOptions>(&arguments).unwrap(), expected);
}

#[test]
fn arguments_are_those_of_the_methods() {
    let links = parse::<LinkOptions>(&["--idle-timeout", "5s", "--enabled=false"]).unwrap();
    let expected = LinkOptions::new().idle_timeout(Duration::from_secs(5));
    assert_eq!(links, expected.enabled(false));
    let error = parse::<ServerOptions>(&["--drain-limit", "5"]).unwrap_err();
    assert!(error.contains("expected a duration with a unit"), "{error}");
    let error = parse::<ServerOptions>(&["--prefetch", "5"]).unwrap_err();
    assert!(
        error.contains("unexpected argument '--prefetch'"),
        "{error}"
    );
    let master = parse::<MasterOptions>(&["--link-options-max-deliver", "1", "--links-only"]);
    let expected =
        "{\"link_options.max_deliver\": \"\\\"1\\\"\", \"links_only\": \"\\\"true\\\"\"}";
    assert_eq!(format!("{:?}", master.unwrap()), expected);
}

#[test]
fn help_names_each_argument_with_its_variable() {
    let help = Program::<PipelineOptions>::command()
        .render_long_help()
        .to_string();
    for line in [
        "--concurrency <NUMBER>",
        "[env: PALM_CONCURRENCY=]",
        "--link-options-idle-timeout <TIME>",
        "[env: PALM_LINK_OPTIONS_IDLE_TIMEOUT=]",
        "Sets the time without a sign of life after which a peer counts as lost. Default: 15 s",
        "--queue-limits-bytes <SIZE>",
        "--folder <FOLDER>",
    ] {
        assert!(help.contains(line), "`{line}` is not in:\n{help}");
    }
    // Links in the documentation are not shown.
    assert!(!help.contains("]("), "{help}");
}

#[test]
fn component_runs_with_the_options_of_a_file_and_arguments() {
    check(async {
        let file: ServerOptions =
            toml::from_str("name = \"of_file\"\nconcurrency = 0\n[link_options]\nmax_sessions = 0")
                .unwrap();
        let math = || {
            Server::builder("math").method("double", |text: String| async move { text.repeat(2) })
        };
        let error = math()
            .bind(ANY)
            .options(file.clone())
            .spawn()
            .await
            .unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains("`of_file`: 2 mistakes"), "{error}");

        // The command line comes last, so it counts.
        let arguments = ["--concurrency", "2", "--link-options-max-sessions", "10"];
        let arguments: ServerOptions = parse(&arguments).unwrap();
        let server = math().bind(ANY).options(file).options(arguments);
        let server = server.spawn().await.unwrap();
        let client = connect("of_file", &server).await;
        assert_eq!(client.eval("of_file.double", "ab").await.unwrap(), "abab");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn names_of_options_are_methods_of_the_builder() {
    let api = read("docs/public-api.txt");
    let command = Program::<PipelineOptions>::command();
    let mut found = 0;
    for argument in command.get_arguments() {
        let Some(name) = argument.get_id().as_str().strip_prefix("palm.") else {
            continue;
        };
        let mut owner = "Builder<C, K>".to_owned();
        for method in name.split('.') {
            let declared = format!("::{owner}::{method}(self, ");
            assert!(api.contains(&declared), "`{name}`: no method `{declared}`");
            // The group `link_options` is the type `LinkOptions`.
            owner = method
                .split('_')
                .map(|word| word[..1].to_uppercase() + &word[1..])
                .collect();
        }
        found += 1;
    }
    assert!(found > 30, "only {found} options were found");
}
