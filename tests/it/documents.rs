//! The documents against the program: the numbers, defaults, names and errors that they state.
//!
//! Sentences of the documents are compared with the source text, so that a constant needs no public path.
//! [`Source`] reads a value, the functions [`time`], [`count`] and [`bytes`] write it as documents do, and a check
//! looks for the sentence that contains it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::error_chapter::code;

/// The documents for users and contributors, in addition to the chapters of the guide.
const DOCUMENTS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benches/README.md",
    "proto/README.md",
];

/// The folder of the chapters of the guide.
pub(crate) const BOOK: &str = "docs/book/src";

/// Returns all files of the guide but `SUMMARY.md`.
pub(crate) fn chapters() -> Vec<String> {
    let chapters = files(BOOK, "md").into_iter();
    let names = chapters.map(|file| {
        let file = file.strip_prefix(path("")).unwrap();
        file.to_str().unwrap().to_owned()
    });
    names.filter(|name| !name.ends_with("SUMMARY.md")).collect()
}

/// Returns all documents but the chapters that only include another document.
fn documents() -> Vec<String> {
    let chapters = chapters().into_iter();
    let own = chapters.filter(|chapter| !read(chapter).contains("{{#include"));
    DOCUMENTS
        .map(str::to_owned)
        .into_iter()
        .chain(own)
        .collect()
}

/// Returns a document with the documents that it includes, as mdBook renders it.
pub(crate) fn rendered(name: &str) -> String {
    let mut text = String::new();
    for line in read(name).lines() {
        let include = line.strip_prefix("{{#include ");
        match include.and_then(|include| include.strip_suffix("}}")) {
            Some(file) => text.push_str(&read(&format!("{BOOK}/{file}"))),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

pub(crate) fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All files below `folder` whose names end with `.extension`.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Returns the source files of all crates of palm but the facade.
pub(crate) fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let crates = names.filter(|name| name.starts_with("palm-"));
    crates
        .flat_map(|name| files(&format!("{name}/src"), "rs"))
        .collect()
}

/// Fails with all mistakes at once.
#[track_caller]
pub(crate) fn assert_none(found: &[String], what: &str) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// A value in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Millis(u64),
    Number(u64),
    Bool(bool),
    None,
}

impl Value {
    /// Reads an expression such as `Duration::from_secs(15)`, `64 * 1024 * 1024` or `Some(10_000)`.
    fn parse(expression: &str) -> Option<Self> {
        let expression = expression.trim().trim_start_matches("::std::time::");
        let inside = |name: &str| {
            let inside = expression.strip_prefix(name)?.strip_prefix('(')?;
            inside.strip_suffix(')')
        };
        if let Some(inside) = inside("Some") {
            return Self::parse(inside);
        }
        if let Some(seconds) = inside("Duration::from_secs") {
            return Some(Self::Millis(number(seconds)? * 1000));
        }
        if let Some(millis) = inside("Duration::from_millis") {
            return number(millis).map(Self::Millis);
        }
        match expression {
            "None" => Some(Self::None),
            "true" => Some(Self::Bool(true)),
            "false" => Some(Self::Bool(false)),
            _ => number(expression).map(Self::Number),
        }
    }

    /// Returns the ways in which documents write the value.
    fn spellings(self) -> Vec<String> {
        match self {
            Self::Millis(millis) => vec![time(millis)],
            Self::Number(number) if number >= 1024 && number.is_multiple_of(1024) => {
                vec![bytes(number), count(number)]
            }
            Self::Number(number) => vec![count(number)],
            Self::Bool(true) => vec!["yes".to_owned(), "`true`".to_owned()],
            Self::Bool(false) => vec!["no".to_owned(), "`false`".to_owned()],
            Self::None => vec!["none".to_owned()],
        }
    }
}

/// A product or a shift of integers.
fn number(expression: &str) -> Option<u64> {
    if let Some((left, right)) = expression.split_once("<<") {
        return Some(number(left)? << number(right)?);
    }
    expression.split('*').try_fold(1, |product, factor| {
        let factor: u64 = factor.trim().replace('_', "").parse().ok()?;
        Some(product * factor)
    })
}

fn time(millis: u64) -> String {
    match millis {
        millis if millis.is_multiple_of(1000) => format!("{} s", millis / 1000),
        millis => format!("{millis} ms"),
    }
}

/// Numbers of five digits and more are written in groups of three.
fn count(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "bytes"));
    format!("{} {name}", bytes / unit)
}

/// Returns whether the text contains the value, but not as a part of a larger number.
fn states(text: &str, value: &str) -> bool {
    text.match_indices(value).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + value.len()..];
        let is_longer = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        let is_group = after.strip_prefix(' ').is_some_and(|group| {
            group.len() >= 3 && group.bytes().take(3).all(|byte| byte.is_ascii_digit())
        });
        !before.is_some_and(|char| char.is_ascii_digit()) && !is_longer(after) && !is_group
    })
}

/// A source file, by its path below the `src` of its crate.
pub(crate) struct Source {
    name: &'static str,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(name: &'static str) -> Self {
        let end = format!("src/{name}");
        let file = sources().into_iter().find(|file| file.ends_with(&end));
        let file = file.unwrap_or_else(|| panic!("there is no {name}; correct this test"));
        let text = std::fs::read_to_string(file).unwrap();
        Self { name, text }
    }

    /// Returns the value of a constant (`const NAME: _ = value;`), of the field `name: value,`, or of the option
    /// `name: Type = value,`.
    #[track_caller]
    fn value(&self, name: &str) -> Value {
        let constant = format!("const {name}: ");
        let field = format!("{name}: ");
        let found = self.text.lines().find_map(|line| {
            let line = line.trim();
            let value = match line.split_once(&constant) {
                Some((_, constant)) => constant.split_once(" = ")?.1.strip_suffix(';')?,
                None => line.strip_prefix(&field)?.strip_suffix(',')?,
            };
            Value::parse(
                value
                    .rsplit_once(" = ")
                    .map_or(value, |(_, default)| default),
            )
        });
        found.unwrap_or_else(|| panic!("{} has no value of `{name}`; correct this test", self.name))
    }

    #[track_caller]
    fn millis(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Millis(millis) => millis,
            other => panic!("`{name}` in {} is {other:?}", self.name),
        }
    }

    #[track_caller]
    fn time(&self, name: &str) -> String {
        time(self.millis(name))
    }

    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => number,
            other => panic!("`{name}` in {} is {other:?}", self.name),
        }
    }

    #[track_caller]
    fn count(&self, name: &str) -> String {
        count(self.number(name))
    }

    #[track_caller]
    fn bytes(&self, name: &str) -> String {
        bytes(self.number(name))
    }

    /// Returns the messages and the bytes of a constant with both.
    #[track_caller]
    fn limit(&self, name: &str) -> Vec<String> {
        let begin = format!("const {name}: ");
        let Some((_, limit)) = self.text.split_once(&begin) else {
            panic!("{} has no `{name}`; correct this test", self.name);
        };
        let text = limit.split("};").next().unwrap().to_owned();
        let limit = Self {
            name: self.name,
            text,
        };
        vec![limit.count("messages"), limit.bytes("bytes")]
    }
}

/// Returns the variants of an enum, from its source.
pub(crate) fn variants(name: &str) -> BTreeSet<String> {
    let begin = format!("pub enum {name} {{\n");
    let sources = sources().into_iter();
    let mut texts = sources.map(|file| std::fs::read_to_string(file).unwrap());
    let source = texts.find(|text| text.contains(&begin)).unwrap();
    let (_, body) = source.split_once(&begin).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let end = |char: char| !char.is_alphanumeric();
    names
        .map(|line| line.split(end).next().unwrap().to_owned())
        .collect()
}

/// Returns the first cells of the table whose header begins with `header`, without backticks.
fn first_cells(document: &str, header: &str) -> BTreeSet<String> {
    let text = read(document);
    let (_, table) = text
        .split_once(header)
        .unwrap_or_else(|| panic!("{document}: {header}"));
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.split('|')
            .nth(1)
            .unwrap()
            .trim()
            .trim_matches('`')
            .to_owned()
    })
    .collect()
}

/// The sentences that a document must contain, each made with values of the program.
#[track_caller]
fn check_sentences(document: &str, sentences: &[String]) {
    let text = read(document);
    let missing: Vec<_> = sentences
        .iter()
        .filter(|it| !text.contains(*it))
        .cloned()
        .collect();
    assert_none(
        &missing,
        &format!("{document} does not say what the program does"),
    );
}

/// A row of a table, by the beginning of its first cell, and the parts that its other cells must contain.
#[track_caller]
fn check_rows(document: &str, rows: &[(&str, Vec<String>)]) {
    let text = read(document);
    let mut found = Vec::new();
    for (first, values) in rows {
        let begin = format!("| {first}");
        let Some(row) = text.lines().find(|line| line.starts_with(&begin)) else {
            found.push(format!("no row begins with `{first}`"));
            continue;
        };
        let missing = values.iter().filter(|value| !states(row, value));
        found.extend(missing.map(|value| format!("{value} is not in the row `{first}`")));
    }
    assert_none(
        &found,
        &format!("{document} does not say what the program does"),
    );
}

#[test]
fn guide_states_the_numbers_of_the_program() {
    let client = Source::new("client/builder.rs");
    let client_state = Source::new("client/state.rs");
    let handshake = Source::new("client/handshake.rs");
    let window = Source::new("client/job/window.rs");
    let routes = Source::new("client/routes/mod.rs");
    let pending = Source::new("parts/publish/pending.rs");
    let link = Source::new("link/options.rs");
    let peer = Source::new("link/server/peer.rs");
    let expiry = Source::new("link/dispatch/expiry.rs");
    let settings = Source::new("component/settings.rs");
    let pack = Source::new("payload/message_pack.rs");
    let probe = Source::new("socket/probe.rs");
    let watchdog = Source::new("watchdog.rs");
    let socket = Source::new("socket/options.rs");
    let queue = Source::new("queue/mod.rs");
    let batch = Source::new("message/batch.rs");
    let trimmer = Source::new("memory_trimmer.rs");
    let prefetch = Source::new("link/client/prefetch.rs");
    check_sentences(
        "docs/book/src/calls.md",
        &[
            format!(
                "the client's `timeout`, {} by default",
                client.time("timeout")
            ),
            format!(
                "within `connect_timeout`, {} by default",
                client.time("connect_timeout")
            ),
            format!("window, {} by default", client.count("window")),
            format!(
                "advances after {} without an answer",
                window.time("ANSWER_TIMEOUT")
            ),
            format!(
                "for up to {} for its descriptor",
                handshake.time("DESCRIPTOR_TIMEOUT")
            ),
            format!(
                "waits up to {} for components",
                routes.time("SEARCH_TIMEOUT")
            ),
            format!(
                "after {} if no component has ever followed",
                pending.time("NO_FOLLOWER_TIMEOUT")
            ),
            format!(
                "(`.pending_limits(..)`, {} by default)",
                pending.time("time")
            ),
            format!(
                "`close`** waits up to {}",
                client_state.time("FLUSH_TIMEOUT")
            ),
            format!("MessagePack to {} levels", pack.count("MAX_DEPTH")),
        ],
    );
    check_sentences(
        "docs/book/src/delivery.md",
        &[
            format!(
                "`max_deliver` workers ({} by default)",
                link.count("max_deliver")
            ),
            format!("`max_deliver` ({} by default)", link.count("max_deliver")),
            format!(
                "no sign of life for `idle_timeout` ({} by default)",
                link.time("idle_timeout")
            ),
            format!(
                "after `idle_timeout` ({} by default)",
                link.time("idle_timeout")
            ),
            format!(
                "within `reconnect_grace` ({} by default)",
                link.time("reconnect_grace")
            ),
            format!(
                "for longer than `session_expiry` ({} by default)",
                link.time("session_expiry")
            ),
            format!(
                "{} after its connection was closed",
                peer.time("CLIENT_RECONNECT_GRACE")
            ),
            format!(
                "`drain_limit` ({} by default)",
                settings.time("drain_limit")
            ),
            format!(
                "for `slow_consumer_timeout` ({} by default)",
                link.time("slow_consumer_timeout")
            ),
            format!(
                "They are kept for {}, up to {} messages and {}",
                pending.time("time"),
                pending.count("messages"),
                pending.bytes("bytes"),
            ),
        ],
    );
    check_sentences(
        "docs/book/src/errors.md",
        &[
            format!(
                "waits for `connect_timeout` ({})",
                client.time("connect_timeout")
            ),
            format!(
                "fails after {} with `UnknownFunction`",
                expiry.time("UNKNOWN_FUNCTION_TIMEOUT")
            ),
        ],
    );
    check_sentences(
        "docs/book/src/streams.md",
        &[
            format!(
                "`ClientBuilder::window` ({} by default)",
                client.count("window")
            ),
            format!(
                "until `slow_consumer_timeout` ({} by default)",
                link.time("slow_consumer_timeout")
            ),
        ],
    );
    check_rows(
        "docs/book/src/tuning.md",
        &[
            ("`heartbeat`", vec![link.time("heartbeat")]),
            ("`idle_timeout`", vec![link.time("idle_timeout")]),
            ("`reconnect_grace`", vec![link.time("reconnect_grace")]),
            ("`session_expiry`", vec![link.time("session_expiry")]),
            (
                "`slow_consumer_timeout`",
                vec![link.time("slow_consumer_timeout")],
            ),
            ("`max_deliver`", vec![link.count("max_deliver")]),
            ("`max_sessions`", vec![link.count("max_sessions")]),
            ("`max_unread_bytes`", vec![link.bytes("max_unread_bytes")]),
            ("`max_backlog_bytes`", vec![link.bytes("max_backlog_bytes")]),
        ],
    );
    check_sentences(
        "docs/book/src/tuning.md",
        &[
            format!("by default {}.", client.count("window")),
            format!(
                "at most {}, and none if a task takes longer",
                prefetch.count("MAX_PREFETCH")
            ),
            format!(
                "`queue_len` ({} messages for each peer)",
                socket.count("queue_len")
            ),
            format!("`max_connections` ({})", socket.count("max_connections")),
            format!(
                "`max_message_bytes` ({})",
                socket.bytes("max_message_bytes")
            ),
            format!(
                "at most {}, with their headers, travel in common frames of at most {}",
                bytes(batch.number("MAX_SMALL_BYTES")),
                bytes(batch.number("MAX_BATCH_BYTES")),
            ),
            format!(
                "after {} sessions have ended and none for {}",
                trimmer.count("MIN_ENDED_SESSIONS"),
                trimmer.time("QUIET_INTERVAL"),
            ),
        ],
    );
    check_rows(
        "docs/book/src/limits.md",
        &[
            (
                "a message, payload included",
                vec![socket.bytes("max_message_bytes")],
            ),
            (
                "connections of a socket",
                vec![socket.count("max_connections")],
            ),
            ("sessions of links", vec![link.count("max_sessions")]),
            ("components that a client", vec![routes.count("MAX_LINKS")]),
            ("the nesting of MessagePack", vec![pack.count("MAX_DEPTH")]),
        ],
    );
    check_rows(
        "docs/book/src/components.md",
        &[
            ("`drain_limit`", vec![settings.time("drain_limit")]),
            (
                "`queue_limits`",
                vec![queue.count("messages"), queue.bytes("bytes")],
            ),
            (
                "`pending_limits`",
                vec![
                    pending.time("time"),
                    pending.count("messages"),
                    pending.bytes("bytes"),
                ],
            ),
            ("`prefetch`", vec![prefetch.count("MAX_PREFETCH")]),
        ],
    );
    assert_eq!(
        probe.time("LOOKUP_TIMEOUT"),
        "1500 ms",
        "docs/book/src/errors.md says 1.5 s"
    );
    assert_eq!(
        watchdog.time("POLL_LIMIT"),
        "1 s",
        "the guide says that a method blocks its thread after a second"
    );
    let wait = Source::new("wait_cause.rs");
    assert_eq!(
        wait.time("SHORT_WAIT"),
        "300 ms",
        "docs/book/src/errors.md says 0.3 s"
    );
}

#[test]
fn architecture_states_the_bounds_of_queues() {
    let queue = Source::new("queue/mod.rs");
    let socket = Source::new("socket/options.rs");
    let pending = Source::new("parts/publish/pending.rs");
    let subscriptions = Source::new("link/subscriptions/mod.rs");
    let backlogs = Source::new("link/subscriptions/backlog.rs");
    let routes = Source::new("client/routes/mod.rs");
    let stale = Source::new("parts/publish/legacy/stale_subscription.rs");
    let memory = Source::new("message/frame_pool.rs");
    let executor = Source::new("executor/emit.rs");
    let cancel = Source::new("cancellation.rs");
    let client = Source::new("client/handshake.rs");
    let cache = Source::new("parts/control.rs");
    let link = Source::new("link/options.rs");
    let prefetch = Source::new("link/client/prefetch.rs");
    let changes = Source::new("cache/change_log.rs");
    let repeated = Source::new("cache/idempotency.rs");
    let file = Source::new("cache/file/writer.rs");
    let redis = Source::new("cache/redis/mod.rs");
    let registry = Source::new("discovery/function_registry.rs");
    let functions = Source::new("link/dispatch/eligibility.rs");
    let dispatch = Source::new("link/dispatch/mod.rs");
    let expiry = Source::new("link/dispatch/expiry.rs");
    let answering = Source::new("parts/request_loop.rs");
    let relay = Source::new("testing/faults/relay.rs");
    let handshake = Source::new("link/server/handshake.rs");
    let workers = Source::new("link/server/tasks.rs");
    check_rows(
        "ARCHITECTURE.md",
        &[
            ("of a socket, per peer", vec![socket.count("queue_len")]),
            (
                "between two parts",
                vec![queue.count("messages"), queue.bytes("bytes")],
            ),
            (
                "pending publications",
                vec![
                    pending.count("messages"),
                    pending.bytes("bytes"),
                    pending.time("time"),
                    pending.time("NO_FOLLOWER_TIMEOUT"),
                ],
            ),
            (
                "followers that a component lists",
                vec![
                    subscriptions.count("MAX_FOLLOWERS"),
                    subscriptions.bytes("MAX_FOLLOWER_BYTES"),
                ],
            ),
            (
                "links to the components that answer",
                vec![routes.count("MAX_LINKS"), routes.count("MAX_ROUTES")],
            ),
            (
                "answers under a possibly stale subscription",
                vec![
                    stale.count("MAX_WITHHELD_ANSWERS"),
                    stale.bytes("MAX_WITHHELD_BYTES"),
                    stale.time("STALE_TIMEOUT"),
                ],
            ),
            (
                "pooled memory of large frames",
                vec![memory.bytes("MAX_POOL_BYTES")],
            ),
            (
                "results that wait for the end of a call",
                vec![executor.bytes("MAX_COLLECTED_BYTES")],
            ),
            (
                "cancelled calls",
                vec![
                    cancel.count("MAX_CANCELLED"),
                    cancel.count("MAX_RELAYED_LISTS"),
                    client.count("MAX_PENDING_CANCELLATIONS"),
                ],
            ),
            (
                "cache requests under way",
                vec![
                    cache.count("MAX_RUNNING_REQUESTS"),
                    cache.count("MAX_WAITING_REQUESTS"),
                ],
            ),
            (
                "tasks with a worker over its link",
                vec![prefetch.count("MAX_PREFETCH")],
            ),
            (
                "tasks that wait in a master",
                [
                    workers.limit("MAX_WAITING_PER_CLIENT"),
                    dispatch.limit("MAX_WAITING"),
                ]
                .concat(),
            ),
            (
                "tasks of these that no connected worker can run",
                [
                    dispatch.limit("MAX_UNASSIGNABLE"),
                    dispatch.limit("MAX_WAITING"),
                ]
                .concat(),
            ),
            ("results under way from a worker", handshake.limit("WINDOW")),
            (
                "calls of a client over its link",
                [handshake.limit("WINDOW"), backlogs.limit("PAUSE_BACKLOG")].concat(),
            ),
            (
                "publications for a subscriber over its link",
                backlogs.limit("SUBSCRIBER_BACKLOG"),
            ),
            (
                "answers for a client over its link",
                backlogs.limit("PAUSE_BACKLOG"),
            ),
            (
                "answers of calls that already run",
                [
                    backlogs.limit("CLIENT_BACKLOG"),
                    vec![backlogs.time("CLIENT_STALL_TIMEOUT")],
                ]
                .concat(),
            ),
            ("sessions of links", vec![link.count("max_sessions")]),
            ("watchers that wait", vec![cache.count("MAX_WATCHERS")]),
            (
                "changes that are kept for watchers",
                vec![changes.count("MAX_CHANGES"), changes.bytes("MAX_BYTES")],
            ),
            (
                "cache requests that must not run twice",
                vec![repeated.count("MAX_REPLIES")],
            ),
            (
                "changes of a cache in a file",
                vec![file.count("QUEUE_LEN")],
            ),
            (
                "keys of a cache on Redis",
                vec![redis.count("MAX_CONCURRENT_REQUESTS")],
            ),
            (
                "functions that workers have registered",
                vec![registry.count("MAX_FUNCTIONS")],
            ),
            (
                "names of functions, and different lists",
                vec![
                    functions.count("MAX_NAMES"),
                    functions.count("MAX_NAME_LEN"),
                    functions.count("MAX_CLASSES"),
                ],
            ),
            (
                "names of functions that no worker has",
                vec![expiry.count("MAX_UNKNOWN_NAMES")],
            ),
            (
                "requests of REP and HTTP peers",
                vec![
                    answering.count("MAX_REQUESTS"),
                    answering.time("ANSWER_TIMEOUT"),
                ],
            ),
            (
                "bytes in a fault-injecting proxy",
                vec![relay.count("MAX_CONNECTIONS")],
            ),
        ],
    );
    check_sentences(
        "ARCHITECTURE.md",
        &[
            format!(
                "waits for it for `slow_consumer_timeout` ({})",
                link.time("slow_consumer_timeout")
            ),
            format!(
                "(`LinkOptions::idle_timeout`, {})",
                link.time("idle_timeout")
            ),
            format!("`session_expiry` ({};", link.time("session_expiry")),
            format!("`max_deliver` workers ({})", link.count("max_deliver")),
        ],
    );
}

#[test]
fn wire_contract_states_the_numbers_of_the_program() {
    let cancel = Source::new("cancellation.rs");
    let registry = Source::new("discovery/function_registry.rs");
    let subscriptions = Source::new("link/subscriptions/mod.rs");
    let pending = Source::new("parts/publish/pending.rs");
    let repeated = Source::new("cache/idempotency.rs");
    let changes = Source::new("cache/change_log.rs");
    let batch = Source::new("message/batch.rs");
    let pack = Source::new("link/framing.rs");
    let link = Source::new("link/options.rs");
    let session = Source::new("link/session/timers.rs");
    let handshake = Source::new("link/server/handshake.rs");
    let peer = Source::new("link/server/peer.rs");
    check_sentences(
        "proto/README.md",
        &[
            format!(
                "with `answer` after {} without sending",
                link.time("heartbeat")
            ),
            format!(
                "received nothing for its idle timeout, {},",
                link.time("idle_timeout")
            ),
            format!(
                "palm does for {} after the peer",
                link.time("session_expiry")
            ),
            format!("has {} to return", link.time("session_expiry")),
            format!("or alone after {}", session.time("ACK_DELAY")),
            format!(
                "every {} until something arrives",
                session.time("RETRY_INTERVAL")
            ),
            format!(
                "until all of its followers are back, but at most for {}",
                handshake.time("RESUBSCRIBE_LIMIT")
            ),
            format!(
                "{} after its connection was closed",
                peer.time("CLIENT_RECONNECT_GRACE")
            ),
            format!(
                "remembers the last {} cancelled calls for a minute",
                cancel.count("MAX_CANCELLED")
            ),
            format!(
                "by their names, {} of them",
                registry.count("MAX_FUNCTIONS")
            ),
            format!(
                "{} of them and {} at most",
                subscriptions.count("MAX_FOLLOWERS"),
                subscriptions.bytes("MAX_FOLLOWER_BYTES"),
            ),
            format!(
                "({}, {} messages, {} unless",
                pending.time("time"),
                pending.count("messages"),
                pending.bytes("bytes"),
            ),
            format!("`id` of at most {} bytes", repeated.count("MAX_ID_BYTES")),
            format!("two minutes, {} of them", repeated.count("MAX_REPLIES")),
            format!(
                "(palm keeps {} of all keys, up to {})",
                changes.count("MAX_CHANGES"),
                changes.bytes("MAX_BYTES")
            ),
            format!("`sizes` has at most {} entries", pack.count("MAX_MESSAGES")),
            format!(
                "consecutive messages of {} or less into common frames of at most {}",
                bytes(batch.number("MAX_SMALL_BYTES")),
                bytes(batch.number("MAX_BATCH_BYTES")),
            ),
        ],
    );
    let ready = Source::new("discovery/readiness.rs");
    assert_eq!(
        ready.time("LEGACY_TIMEOUT"),
        "250 ms",
        "proto/README.md says a quarter of a second"
    );
    let remote = Source::new("cache/remote.rs");
    assert_eq!(
        remote.time("MAX_REPEAT_TIME"),
        "60 s",
        "proto/README.md says one minute"
    );
    assert_eq!(
        repeated.time("REPLY_EXPIRY"),
        "120 s",
        "proto/README.md says two minutes"
    );
    assert_eq!(
        cancel.time("CANCEL_EXPIRY"),
        "60 s",
        "proto/README.md says a minute"
    );
}

#[test]
fn http_chapter_states_the_limits_of_the_program() {
    let listener = Source::new("http/listener.rs");
    let serve = Source::new("http/serve.rs");
    let gateway = Source::new("http/gateway/mod.rs");
    let pending_call = Source::new("http/gateway/pending_call.rs");
    let answering = Source::new("parts/request_loop.rs");
    let posted = Source::new("http/message_body.rs");
    check_rows(
        "docs/book/src/http.md",
        &[
            ("connections", vec![listener.count("max_connections")]),
            (
                "the head of a request",
                vec![
                    listener.time("header_timeout"),
                    serve.bytes("MAX_HEAD_BYTES"),
                ],
            ),
            (
                "the time in which a client reads",
                vec![listener.time("write_timeout")],
            ),
            (
                "silence of an HTTP/2 client",
                vec![time(2 * serve.millis("PING_INTERVAL"))],
            ),
            (
                "requests under way in a gateway",
                vec![pending_call.count("MAX_CALLS")],
            ),
            (
                "the body of a request",
                vec![gateway.bytes("max_request_bytes")],
            ),
            (
                "bodies of all requests",
                vec![gateway.bytes("max_memory_bytes")],
            ),
            ("the time of a request", vec![gateway.time("timeout")]),
            (
                "waiting for a worker",
                vec![gateway.time("no_worker_timeout")],
            ),
            ("a result ", vec![gateway.bytes("max_response_bytes")]),
            (
                "results of a stream",
                vec![pending_call.bytes("MAX_BACKLOG_BYTES")],
            ),
            (
                "messages posted to an `HttpService`",
                vec![answering.time("ANSWER_TIMEOUT")],
            ),
        ],
    );
    assert_eq!(
        answering.time("ANSWER_TIMEOUT"),
        posted.time("BODY_TIMEOUT")
    );
}

#[test]
fn http_chapter_lists_the_statuses_of_a_gateway() {
    let mut answered = BTreeSet::from(["200".to_owned()]);
    let codes = (100..600).filter_map(|code| reqwest::StatusCode::from_u16(code).ok());
    let named = codes.filter_map(|code| {
        let name = code
            .canonical_reason()?
            .to_uppercase()
            .replace([' ', '-'], "_");
        Some((format!("StatusCode::{name}"), code.as_str().to_owned()))
    });
    let named: Vec<_> = named.collect();
    for file in [
        "body_memory",
        "request",
        "gateway/mod",
        "gateway/pending_call",
        "guard",
        "problem",
        "service",
        "result_stream",
    ] {
        let source = read(&format!("palm-runtime/src/http/{file}.rs"));
        let source = source.split("\nmod tests {").next().unwrap();
        for status in source
            .match_indices("StatusCode::")
            .map(|(at, _)| &source[at..])
        {
            let is_name = |char: char| char.is_ascii_uppercase() || char == '_';
            let name = &status["StatusCode::".len()..];
            let len = name.find(|char| !is_name(char)).unwrap_or(name.len());
            let name = format!("StatusCode::{}", &name[..len]);
            answered.extend(
                named
                    .iter()
                    .filter(|(known, _)| *known == name)
                    .map(|(_, code)| code.clone()),
            );
        }
    }
    assert_eq!(
        first_cells("docs/book/src/http.md", "| status | when |"),
        answered
    );
}

#[test]
fn cache_chapter_states_the_limits_of_the_program() {
    let changes = Source::new("cache/change_log.rs");
    let page = Source::new("cache/page.rs");
    let store = Source::new("cache/store.rs");
    let file = Source::new("cache/file/open.rs");
    check_rows(
        "docs/book/src/cache.md",
        &[
            (
                "`scan`",
                vec![page.count("max_entries"), page.bytes("max_bytes")],
            ),
            ("limit ", vec![file.bytes("limit_bytes")]),
        ],
    );
    check_sentences(
        "docs/book/src/cache.md",
        &[
            format!(
                "{} changes, up to {}",
                changes.count("MAX_CHANGES"),
                changes.bytes("MAX_BYTES")
            ),
            format!(
                "A key may have {} and a value {}",
                store.bytes("key_bytes"),
                store.bytes("value_bytes")
            ),
        ],
    );
}

/// Option structs and builders of the runtime: each "Default: …" in the documentation of a field or method is compared
/// with the value that the source sets.
#[test]
fn documented_defaults_are_those_of_the_program() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(path("")).unwrap().display();
        let mut documentation = String::new();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            if let Some(documented) = line.strip_prefix("///") {
                documentation.push_str(documented);
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let documentation = std::mem::take(&mut documentation);
            let Some((_, default)) = documentation.split_once("Default: ") else {
                continue;
            };
            // The field itself, or the field that the method sets.
            let field = match line.strip_prefix("pub fn ") {
                Some(_) => lines[index..].iter().take(6).find_map(|line| {
                    let (field, _) = line.strip_prefix("self.")?.split_once(" = ")?;
                    field.rsplit('.').next()
                }),
                None => line
                    .strip_prefix("pub ")
                    .or((line.contains(" = ") && line.ends_with(',')).then_some(*line))
                    .and_then(|it| it.split_once(": "))
                    .map(|it| it.0),
            };
            let Some(field) = field else { continue };
            let set = format!("{field}: ");
            let values = lines.iter().filter_map(|line| {
                let value = line.strip_prefix(&set)?.strip_suffix(',')?;
                // An option is declared with its type.
                Value::parse(
                    value
                        .rsplit_once(" = ")
                        .map_or(value, |(_, default)| default),
                )
            });
            let values: Vec<_> = values.collect();
            let [first, ..] = values[..] else { continue };
            if first == Value::None {
                // The default is described in words.
                continue;
            }
            checked += 1;
            let default = default.to_lowercase();
            let is_stated = |value: &Value| {
                let mut spellings = value.spellings().into_iter();
                spellings.any(|spelling| {
                    let spelling = spelling.to_lowercase();
                    default.starts_with(&spelling) && states(&default, &spelling)
                })
            };
            if !values.iter().any(is_stated) {
                let stated: String = default.chars().take(40).collect();
                wrong.push(format!(
                    "{name}: `{field}` is {first:?}, its documentation says \"{stated}\""
                ));
            }
        }
    }
    assert_none(&wrong, "defaults that the documentation misstates");
    assert!(checked >= 25, "only {checked} defaults were found");
}

#[test]
fn readme_lists_the_features() {
    let mut features = features_of("Cargo.toml");
    let default = features.remove("default").unwrap();
    assert!(
        default.iter().eq(["logging"]),
        "the README says that `logging` is on"
    );
    let features: BTreeSet<_> = features.into_keys().collect();
    assert_eq!(first_cells("README.md", "| feature |"), features);
}

/// Returns the features of a manifest, with what each enables.
fn features_of(manifest: &str) -> BTreeMap<String, BTreeSet<String>> {
    let manifest: toml::Table = read(manifest).parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    let enabled = |value: &toml::Value| {
        let enabled = value.as_array().unwrap().iter();
        enabled.map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let features = features.iter();
    features
        .map(|(name, value)| (name.clone(), enabled(value)))
        .collect()
}

/// The items of a feature are exported under the feature of the same name, so one feature of `palm-runtime` that
/// enables another needs the same of `palm-cluster`.
#[test]
fn features_include_the_same_features_as_those_of_the_runtime() {
    let (facade, runtime) = (
        features_of("Cargo.toml"),
        features_of("palm-runtime/Cargo.toml"),
    );
    let mut missing = Vec::new();
    for (feature, included) in &runtime {
        let own = &facade[feature];
        let included = included.iter().filter(|it| facade.contains_key(*it));
        missing.extend(
            included
                .filter(|it| !own.contains(*it))
                .map(|it| format!("{feature} = {it}")),
        );
    }
    assert_none(&missing, "features that the facade does not include");
}

#[test]
fn readme_lists_the_environment_variables() {
    let mut read_by_the_program = BTreeSet::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).unwrap();
        if file.to_string_lossy().ends_with("_test.rs") {
            continue;
        }
        let text = text.split("\nmod tests {").next().unwrap();
        for prefix in ["PALM_", "RUST_LOG"] {
            for literal in text.split(&format!("\"{prefix}")).skip(1) {
                let rest = literal.split('"').next().unwrap();
                let is_name = |char: char| char.is_ascii_uppercase() || char == '_';
                if rest.chars().all(is_name) {
                    read_by_the_program.insert(format!("{prefix}{rest}"));
                }
            }
        }
    }
    assert_eq!(
        first_cells("README.md", "| variable |"),
        read_by_the_program
    );
}

/// Returns the numbers and ranges of a text.
fn figures(text: &str) -> Vec<&str> {
    let is_part = |char: char| char.is_ascii_digit() || ",.–".contains(char);
    let figures = text.split(|char| !is_part(char));
    let figures = figures.map(|figure| figure.trim_matches([',', '.', '–']));
    figures.filter(|figure| !figure.is_empty()).collect()
}

/// The README and the comparison quote measurements of `benches/README.md`: whole ranges, or medians.
#[test]
fn quoted_figures_are_those_of_the_benchmarks() {
    let readme = read("README.md");
    let (_, speed) = readme.split_once("## How fast").unwrap();
    let (speed, _) = speed.split_once("\n## ").unwrap();
    let comparison = read("docs/book/src/comparison.md");
    let (_, measured) = comparison.split_once("\n## pylm").unwrap();
    let (measured, _) = measured.split_once("\n## Where palm is behind").unwrap();
    let benchmarks = read("benches/README.md");
    for (document, section) in [("README.md", speed), ("comparison.md", measured)] {
        let figures = figures(section);
        assert!(figures.len() > 8, "{document}: {figures:?}");
        let unknown = figures
            .iter()
            .filter(|figure| !benchmarks.contains(**figure));
        let unknown: Vec<_> = unknown
            .map(|figure| format!("{document}: {figure}"))
            .collect();
        assert_none(&unknown, "figures that benches/README.md does not have");
    }
}

/// Text in backticks differs from case to case.
fn skeleton(text: &str) -> String {
    let mut skeleton = String::new();
    for (index, part) in text.split('`').enumerate() {
        skeleton.push_str(if index % 2 == 0 { part } else { "`_`" });
    }
    skeleton
}

#[test]
fn compile_errors_in_documents_are_those_of_the_compiler() {
    let mut said = String::new();
    for file in files("ui-tests/tests/ui/fail", "stderr") {
        said.push_str(&skeleton(&std::fs::read_to_string(file).unwrap()));
    }
    let mut unknown = Vec::new();
    let mut checked = 0;
    for document in documents() {
        for line in read(&document).lines() {
            if let Some((_, error)) = line.split_once("// error: ") {
                checked += 1;
                if !said.contains(&skeleton(error)) {
                    unknown.push(format!("{document}: {error}"));
                }
            }
        }
    }
    let errors = read("docs/book/src/errors.md");
    let (_, table) = errors.split_once("\n| compiler | ").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    for row in rows {
        let cell = row.split(" | ").next().unwrap().trim_matches(['|', ' ']);
        let error = code(cell).unwrap_or(cell);
        checked += 1;
        if !said.contains(&format!("error: {}\n", skeleton(error)))
            && !said.contains(&format!("]: {}\n", skeleton(error)))
        {
            unknown.push(error.to_owned());
        }
    }
    assert_none(&unknown, "compile errors that no test of ui-tests has");
    assert!(checked >= 18);
}

/// The texts of waiting components are in the source, or expected by its tests.
#[test]
fn texts_of_waits_in_the_guide_are_those_of_the_program() {
    let mut said = read("tests/it/waiting.rs");
    for file in sources() {
        said.push_str(&std::fs::read_to_string(file).unwrap());
    }
    let guide = read("docs/book/src/errors.md");
    let (_, table) = guide.split_once("| what is wrong | what the log").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut unknown = Vec::new();
    let mut checked = 0;
    for row in rows {
        let cell = row.split(" | ").nth(1).unwrap();
        let mut spans = Vec::new();
        for (index, part) in cell.split("``").enumerate() {
            match index % 2 {
                0 => spans.extend(part.split('`').skip(1).step_by(2)),
                _ => spans.push(part),
            }
        }
        // Names and numbers differ from case to case.
        let is_end = |char: char| "`:,".contains(char) || char.is_ascii_digit();
        let texts = spans.iter().flat_map(|span| span.split(".."));
        for text in texts.flat_map(|text| text.split(is_end)) {
            let text = text.trim_matches([' ', '(', ')', ',']);
            if text.len() > 8 {
                checked += 1;
                if !said.contains(text) {
                    unknown.push(text.to_owned());
                }
            }
        }
    }
    assert_none(&unknown, "texts that no component says");
    assert!(checked >= 10, "only {checked} texts were found");
}

/// Returns the fragment of a link to a heading, as GitHub, mdBook and rustdoc make it.
fn anchor(heading: &str) -> String {
    let mut anchor = String::new();
    for char in heading.trim().chars() {
        match char {
            ' ' => anchor.push('-'),
            '-' | '_' => anchor.push(char),
            char if char.is_alphanumeric() => anchor.extend(char.to_lowercase()),
            _ => {}
        }
    }
    anchor
}

/// Returns the lines of a document outside code blocks.
pub(crate) fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The label and the link of a line such as `[calls]: docs/book/src/calls.md`.
pub(crate) fn definition(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('[')?.split_once("]: ")
}

/// Returns the labels of the links `[text][label]` of a line.
fn labels(line: &str) -> impl Iterator<Item = &str> {
    // Backticks enclose code, such as `[a][b]`.
    let text = line.split('`').step_by(2);
    text.flat_map(|text| text.split("][").skip(1))
        .filter_map(|rest| Some(rest.split_once(']')?.0))
}

pub(crate) fn is_file(link: &str) -> bool {
    !link.contains("://") && !link.starts_with('#') && !link.contains("::")
}

/// Documents are parts of the documentation too, in which a path leads nowhere: `rustdoc-links.md`, which `src/lib.rs`
/// includes before each of them, defines each of their references to a file as that file's page.
#[test]
fn documents_in_the_documentation_link_to_its_pages() {
    let facade = read("src/lib.rs");
    let links = read("docs/book/rustdoc-links.md");
    let pages: BTreeMap<_, _> = links.lines().filter_map(definition).collect();
    let mut wrong = Vec::new();
    for document in documents() {
        let include = format!("include_str!(\"../{document}\")");
        let Some((before, _)) = facade.split_once(&include) else {
            if document.starts_with(BOOK) {
                wrong.push(format!("src/lib.rs does not include {document}"));
            }
            continue;
        };
        if !before
            .lines()
            .rev()
            .nth(1)
            .unwrap()
            .contains("rustdoc-links.md")
        {
            wrong.push(format!(
                "src/lib.rs includes {document} without rustdoc-links.md"
            ));
        }
        let text = read(&document);
        for line in prose(&text) {
            let mut inline = line.split("](").skip(1);
            if inline.any(is_file) {
                wrong.push(format!("{document}: {line}"));
            }
            let Some((label, link)) = definition(line).filter(|(_, link)| is_file(link)) else {
                continue;
            };
            if link.starts_with("images/") {
                if !before
                    .lines()
                    .rev()
                    .nth(2)
                    .unwrap()
                    .contains("rustdoc-pictures.md")
                {
                    wrong.push(format!(
                        "src/lib.rs includes {document} without its pictures"
                    ));
                }
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let page = match file.rsplit('/').next().unwrap() {
                "SUMMARY.md" => "crate::guide".to_owned(),
                "README.md" if file.contains("proto/") => "crate::guide::wire".to_owned(),
                "README.md" | "overview.md" => "crate".to_owned(),
                name => {
                    let name = name.strip_suffix(".md").unwrap_or(name);
                    format!("crate::guide::{}", name.to_lowercase().replace('-', "_"))
                }
            };
            let page = match fragment {
                "" => page,
                fragment => format!("{page}#{fragment}"),
            };
            if pages.get(label) != Some(&&*page) {
                wrong.push(format!(
                    "rustdoc-links.md lacks `[{label}]: {page}`, of {document}"
                ));
            }
        }
    }
    assert_none(&wrong, "links that lead nowhere in the documentation");
}

#[test]
fn links_of_documents_resolve() {
    let mut broken = Vec::new();
    let wrappers = chapters().into_iter();
    let wrappers = wrappers.filter(|chapter| read(chapter).contains("{{#include"));
    for document in documents().into_iter().chain(wrappers) {
        let text = rendered(&document);
        let folder = Path::new(&document).parent().unwrap();
        let mut defined = BTreeMap::new();
        for (label, link) in prose(&text).filter_map(definition) {
            // The first definition counts.
            defined.entry(label.to_lowercase()).or_insert(link);
        }
        let mut links: Vec<_> = defined.values().copied().collect();
        for line in prose(&text) {
            let inline = line.split("](").skip(1);
            links.extend(inline.map(|link| link.split(')').next().unwrap()));
            let undefined =
                labels(line).filter(|label| !defined.contains_key(&label.to_lowercase()));
            broken.extend(undefined.map(|label| format!("{document}: `{label}` is not defined")));
        }
        for link in links {
            if link.contains("://") || link.contains("::") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => folder.join(file).to_string_lossy().into_owned(),
            };
            if !path(&target).exists() {
                broken.push(format!("{document}: {link}"));
            } else if !fragment.is_empty() {
                let target = rendered(&target);
                let headings = prose(&target).filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#')));
                if !anchors.any(|anchor| anchor == fragment) {
                    broken.push(format!("{document}: {link}"));
                }
            }
        }
    }
    assert_none(&broken, "links that lead nowhere");
}

/// Returns the spans in backticks in the prose of a document.
fn spans(text: &str) -> Vec<String> {
    let spans = prose(text).flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.map(str::to_owned).collect()
}

/// Names of the forms `Type::name` and `TypeName` appear in the source, and paths of files lead to a file.
#[test]
fn names_in_documents_exist() {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    // `Executor` alone may be any word, `PullService` is a type.
    let is_type = |name: &str| {
        let is_upper = |char: char| char.is_ascii_uppercase();
        let has_lower = name.contains(|char: char| char.is_ascii_lowercase());
        name.starts_with(is_upper) && has_lower && name.matches(is_upper).count() > 1
    };
    let mut words = BTreeSet::new();
    let folders = ["src", "tests", "examples"].map(|folder| files(folder, "rs"));
    for file in folders.into_iter().flatten().chain(sources()) {
        let text = std::fs::read_to_string(file).unwrap();
        words.extend(text.split(|char| !is_word(char)).map(str::to_owned));
    }
    let mut unknown = Vec::new();
    let mut checked = 0;
    for document in documents() {
        // The changelog names what there was.
        if document == "CHANGELOG.md" {
            continue;
        }
        for span in spans(&read(&document)) {
            let name = span.split('(').next().unwrap();
            let is_name = (name.contains("::") || is_type(name))
                && name.chars().all(|it| is_word(it) || it == ':');
            let is_path = [".rs", ".md", ".py", ".proto"]
                .iter()
                .any(|end| span.ends_with(end));
            let exists = if is_name {
                let mut parts = name.split("::").filter(|part| !part.is_empty());
                parts.all(|part| words.contains(part))
            } else if is_path && !span.contains(' ') {
                // The README names a file of the reader's project, others leave out the folder.
                let is_project = span == "src/main.rs";
                let is_source = sources().iter().any(|file| file.ends_with(&span));
                let folders = ["", "proto/"];
                let mut paths = folders
                    .iter()
                    .map(|folder| path(&format!("{folder}{span}")));
                is_project || is_source || paths.any(|path| path.exists())
            } else {
                continue;
            };
            checked += 1;
            if !exists {
                unknown.push(format!("{document}: `{span}`"));
            }
        }
    }
    assert_none(&unknown, "names that the source does not have");
    assert!(checked > 100, "only {checked} names were found");
}

/// Users depend on `palm`; a line that names `palm_runtime` does not compile for them.
#[test]
fn documentation_shows_only_paths_of_palm() {
    let mut shown = Vec::new();
    for file in sources().into_iter().chain(files("src", "rs")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start();
            let is_documentation = line.starts_with("///") || line.starts_with("//!");
            if is_documentation && line.contains("palm_runtime") {
                shown.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    for document in documents() {
        let text = read(&document);
        let lines = text.lines().filter(|line| line.contains("palm_runtime::"));
        shown.extend(lines.map(|line| format!("{document}: {line}")));
    }
    assert_none(&shown, "documentation that names palm_runtime");
}

/// Returns the code blocks of a document that begin with ```` ```language ````, without hidden lines.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.strip_prefix("```") else {
            continue;
        };
        let block = lines.by_ref().take_while(|line| *line != "```");
        let mut code = String::new();
        for line in block {
            // Hidden lines.
            if line != "#" && !line.starts_with("# ") {
                writeln!(code, "{line}").unwrap();
            }
        }
        if found.split(',').next() == Some(language) {
            blocks.push(code);
        }
    }
    blocks
}

/// Makes projects in `folder` find the unpacked packages of palm's crates, and returns the folder of `palm-cluster`.
fn use_packages(packages: &Path, folder: &Path) -> PathBuf {
    let manifest = std::fs::read_to_string(packages.join("Cargo.toml")).unwrap();
    let (_, patch) = manifest.split_once("[patch.crates-io]").unwrap();
    let at_path = format!("path = \"{}/", packages.display());
    let patch = patch.replace("path = \"", &at_path);
    std::fs::create_dir(folder.join(".cargo")).unwrap();
    let config = format!("[patch.crates-io]{patch}");
    std::fs::write(folder.join(".cargo/config.toml"), config).unwrap();
    let palm = std::fs::read_dir(packages).unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let is_palm = entry.file_name().to_str()?.starts_with("palm-cluster-");
        is_palm.then(|| entry.path())
    });
    palm.expect("the folder has a package of palm-cluster")
}

/// Follows the README's instructions for a new user literally, except for the path of palm and the port.
#[test]
#[ignore = "builds a project of its own, with all dependencies"]
fn readme_project_compiles_and_runs() {
    let readme = read("README.md");
    let (_, steps) = readme
        .split_once("## Your own worker in five minutes")
        .unwrap();
    let (steps, _) = steps.split_once("\n## ").unwrap();
    let [create, run, ..] = &blocks(steps, "sh")[..] else {
        panic!("the README has no commands")
    };
    let [library, program, client, more, ..] = &blocks(steps, "rust")[..] else {
        panic!("the README has no code")
    };
    let folder = tempfile::tempdir().unwrap();
    let sh = |folder: &Path, commands: &str| {
        let done = std::process::Command::new("sh")
            .args(["-ec", commands])
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", path("target/readme"))
            .env("CARGO_NET_OFFLINE", "true")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{commands}\n{output}");
        String::from_utf8(done.stdout).unwrap()
    };
    // The project is outside of the workspace: the README's `../palm` is this checkout, or the unpacked package.
    let palm = match std::env::var_os("PALM_PACKAGES") {
        Some(packages) => use_packages(Path::new(&packages), folder.path()),
        None => env!("CARGO_MANIFEST_DIR").into(),
    };
    let palm = palm.to_str().unwrap();
    sh(folder.path(), &create.replace("../palm", palm));
    let project = folder.path().join("images");

    let address = super::setup::unbound_socket().to_string();
    // The code of step 3 belongs into the client, after its call.
    let call = "println!(\"{} bytes\", thumbnail.len());\n";
    assert!(client.contains(call));
    let client = client.replace(call, &format!("{call}{more}"));
    std::fs::create_dir(project.join("examples")).unwrap();
    for (file, code) in [
        ("src/lib.rs", library),
        ("src/main.rs", program),
        ("examples/client.rs", &client),
    ] {
        let code = code.replace("127.0.0.1:5559", &address);
        std::fs::write(project.join(file), code).unwrap();
    }

    // `cargo run` would pass no signal on, and two of them would build at once.
    let run = run.replace("127.0.0.1:5559", &address);
    let run = run.replace("cargo run -- ", "\"$programs/images\" ");
    let [master, worker, client] = run.lines().collect::<Vec<_>>()[..] else {
        panic!("the README does not run three programs: {run}")
    };
    assert_eq!(client, "cargo run --example client");
    let printed = sh(
        &project,
        &format!(
            "cargo build --quiet --bins --examples
             programs=\"$CARGO_TARGET_DIR/debug\"
             {master} & master=$!
             {worker} & worker=$!
             trap 'kill $master $worker; wait' EXIT
             timeout 60 \"$programs/examples/client\""
        ),
    );
    assert_eq!(printed.lines().next(), Some("7 bytes"), "{printed}");
    let mut more: Vec<_> = printed.lines().skip(1).collect();
    more.sort_unstable();
    assert_eq!(more, ["5 bytes", "7 bytes"], "{printed}");
}
