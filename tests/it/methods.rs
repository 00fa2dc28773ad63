//! Methods of every form: what they take and give, how they run side by side, and how they fail.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use palm::prelude::*;
use palm::{BoxError, CacheError, ComponentHandle, LinkOptions};

use super::setup::{ANY, Caller, Gate, check, check_on, eventually, options, soon};

/// A type of the user's own, both ways.
struct Celsius(f64);

impl FromPayload for Celsius {
    type Error = BoxError;

    fn from_payload(payload: Bytes) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(&payload)?.trim().parse()?))
    }
}

impl IntoPayload for Celsius {
    type Error = Infallible;

    fn into_payload(self) -> Result<Bytes, Infallible> {
        Ok(format!("{:.1} °C", self.0).into())
    }
}

#[derive(Debug)]
struct TooHot;

impl fmt::Display for TooHot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("too hot")
    }
}

impl std::error::Error for TooHot {}

/// What this crate's users may write.
#[derive(Default)]
struct Forms {
    calls: u64,
}

#[palm::server(name = "forms")]
impl Forms {
    #[palm::method]
    fn bytes(&self, payload: Bytes) -> Bytes {
        payload
    }

    #[palm::method]
    fn vec(&self, payload: Vec<u8>) -> Vec<u8> {
        payload.into_iter().rev().collect()
    }

    #[palm::method]
    fn string(&self, text: String) -> String {
        text.to_uppercase()
    }

    #[palm::method]
    fn own_type(&self, Celsius(degrees): Celsius) -> Result<Celsius, TooHot> {
        if degrees > 100.0 {
            Err(TooHot)
        } else {
            Ok(Celsius(degrees))
        }
    }

    #[palm::method]
    fn unit(&self, (): ()) -> &'static str {
        "looked at nothing"
    }

    #[palm::method]
    fn no_argument(&self) -> &'static str {
        "took nothing"
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn perhaps(&self, text: String) -> Option<String> {
        Some(text).filter(|text| !text.is_empty())
    }

    #[palm::method]
    fn perhaps_or_error(&self, text: String) -> Result<Option<String>, TooHot> {
        match &*text {
            "error" => Err(TooHot),
            "none" => Ok(None),
            _ => Ok(Some(text)),
        }
    }

    #[palm::method]
    fn nothing_or_error(&self, text: String) -> Result<(), TooHot> {
        if text == "error" { Err(TooHot) } else { Ok(()) }
    }

    #[palm::method]
    fn list(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    #[palm::method]
    fn lazy(&self, text: String) -> impl Iterator<Item = String> + use<> {
        (0..3).map(move |number| format!("{text}{number}"))
    }

    #[palm::method]
    fn list_or_error(
        &self,
        text: String,
    ) -> Result<impl Iterator<Item = Result<Option<String>, TooHot>> + use<>, TooHot> {
        if text == "error" {
            return Err(TooHot);
        }
        Ok([
            Ok(Some(text)),
            Err(TooHot),
            Ok(None),
            Ok(Some("last".to_owned())),
        ]
        .into_iter())
    }

    #[palm::method]
    fn panics_in_the_middle(&self) -> impl Iterator<Item = &'static str> + use<> {
        ["one", "two", "panic"]
            .into_iter()
            .inspect(|item| assert_ne!(*item, "panic", "on purpose"))
    }

    #[palm::method]
    fn stream(&self, text: String) -> impl Stream<Item = String> + Send + use<> {
        stream::iter(0..3).then(move |number| {
            let text = text.clone();
            async move {
                tokio::task::yield_now().await;
                format!("{text}{number}")
            }
        })
    }

    #[palm::method]
    async fn later(&self, text: String) -> String {
        tokio::task::yield_now().await;
        text + " later"
    }

    #[palm::method]
    async fn list_later(&self, text: String) -> impl Iterator<Item = String> + use<> {
        tokio::task::yield_now().await;
        [text.clone(), text].into_iter()
    }

    #[palm::method(blocking)]
    fn blocks(&self, text: String) -> String {
        text + " " + std::thread::current().name().unwrap_or("?")
    }

    #[palm::method(blocking)]
    fn blocks_and_lists(&self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 3)
    }

    #[palm::method]
    fn counts(&mut self) -> String {
        self.calls += 1;
        self.calls.to_string()
    }

    #[palm::method]
    async fn counts_later(&mut self) -> String {
        let before = self.calls;
        tokio::task::yield_now().await;
        self.calls = before + 1;
        self.calls.to_string()
    }

    #[palm::method(blocking)]
    fn counts_and_blocks(&mut self) -> String {
        self.calls += 1;
        self.calls.to_string()
    }

    #[palm::method]
    fn counts_thrice(&mut self) -> impl Iterator<Item = String> {
        (0..3).map(|_| {
            self.calls += 1;
            self.calls.to_string()
        })
    }

    #[palm::method(name = "r#try")]
    fn renamed(&self) -> &'static str {
        "renamed"
    }

    #[palm::method]
    fn asks(&self, text: String, context: Context) -> String {
        let message = context.message();
        let names = (
            context.name(),
            message.function(),
            message.client(),
            message.stage(),
        );
        format!("{text} {names:?}")
    }

    #[palm::method]
    async fn stores(&self, text: String, context: Context) -> Result<Option<Bytes>, CacheError> {
        context.cache().set("stored", text).await?;
        context.cache().get("stored").await
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as told");
    }

    #[palm::method]
    async fn panics_later(&self) -> String {
        tokio::task::yield_now().await;
        std::panic::panic_any(42)
    }

    #[palm::method(blocking)]
    fn panics_and_blocks(&self) -> String {
        panic!("as told");
    }

    #[palm::method]
    fn panics_alone(&mut self) -> String {
        panic!("as told");
    }

    #[palm::method]
    fn fails(&self) -> Result<String, BoxError> {
        Err("as told".into())
    }
}

/// Calls `function`, and gives all of its answers: those before that of an `echo`, since a server
/// keeps the order.
async fn answers(caller: &mut Caller, function: &str, payload: impl Into<Bytes>) -> Vec<Bytes> {
    caller.send(&format!("forms.{function}"), payload).await;
    caller.send("forms.echo", "the end").await;
    let mut answers = Vec::new();
    loop {
        match caller.answer().await {
            end if end == "the end" => return answers,
            answer => answers.push(answer),
        }
    }
}

#[test]
fn methods_of_every_form() {
    check(async {
        let server = Forms::default().bind(ANY).spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        let table: &[(&str, &[u8], &[&str])] = &[
            ("bytes", b"x", &["x"]),
            ("bytes", b"", &[""]),
            ("vec", b"abc", &["cba"]),
            ("string", "größe".as_bytes(), &["GRÖSSE"]),
            ("string", b"", &[""]),
            ("own_type", b"36.6", &["36.6 °C"]),
            ("own_type", b"200", &["0"]),
            ("unit", b"\xff", &["looked at nothing"]),
            ("no_argument", b"\xff", &["took nothing"]),
            ("nothing", b"x", &[]),
            ("perhaps", b"x", &["x"]),
            ("perhaps", b"", &[]),
            ("perhaps_or_error", b"x", &["x"]),
            ("perhaps_or_error", b"none", &[]),
            ("perhaps_or_error", b"error", &["0"]),
            ("nothing_or_error", b"x", &[]),
            ("nothing_or_error", b"error", &["0"]),
            ("list", b"a b c", &["a", "b", "c"]),
            ("list", b"", &[]),
            ("lazy", b"x", &["x0", "x1", "x2"]),
            ("list_or_error", b"x", &["x", "0", "last"]),
            ("list_or_error", b"error", &["0"]),
            ("panics_in_the_middle", b"", &["one", "two", "0"]),
            ("stream", b"x", &["x0", "x1", "x2"]),
            ("later", b"x", &["x later"]),
            ("list_later", b"x", &["x", "x"]),
            ("blocks", b"x", &["x methods::methods_of_every_form"]),
            ("blocks_and_lists", b"x", &["x", "x", "x"]),
            ("counts", b"", &["1"]),
            ("counts_later", b"", &["2"]),
            ("counts_and_blocks", b"", &["3"]),
            ("counts_thrice", b"", &["4", "5", "6"]),
            ("renamed", b"", &["0"]),
            (
                "asks",
                b"x",
                &["x (\"forms\", \"forms.asks\", \"caller\", 0)"],
            ),
            ("stores", b"x", &["x"]),
            // A failure is answered with `0`, and the component goes on.
            ("panics", b"", &["0"]),
            ("panics_later", b"", &["0"]),
            ("panics_and_blocks", b"", &["0"]),
            ("panics_alone", b"", &["0"]),
            ("fails", b"", &["0"]),
            ("no_such_function", b"", &["0"]),
            ("string", b"\xff", &["0"]),
            ("own_type", b"warm", &["0"]),
            ("counts", b"", &["7"]),
        ];
        for (function, payload, expected) in table {
            let found = answers(&mut caller, function, *payload).await;
            assert_eq!(found, *expected, "{function}({payload:?})");
        }
    });
}

#[test]
fn constants_name_the_functions() {
    assert_eq!(Forms::COUNTS_THRICE.to_string(), "forms.counts_thrice");
    assert_eq!(Forms::RENAMED.name(), "r#try");
    assert_eq!(Forms::RENAMED.server(), "forms");
}

/// Calls that wait for each other.
struct Meeting {
    together: tokio::sync::Barrier,
    threads: Barrier,
}

/// How many meet.
const TOGETHER: usize = 4;

#[palm::server(name = "meeting")]
impl Meeting {
    #[palm::method]
    async fn meet(&self) -> &'static str {
        self.together.wait().await;
        "met"
    }

    #[palm::method(blocking)]
    fn meet_on_threads(&self) -> &'static str {
        self.threads.wait();
        "met"
    }
}

impl Meeting {
    fn new() -> Self {
        Self {
            together: tokio::sync::Barrier::new(TOGETHER),
            threads: Barrier::new(TOGETHER),
        }
    }
}

#[test]
fn shared_calls_run_side_by_side() {
    check(async {
        let server = Meeting::new()
            .bind(ANY)
            .concurrency(TOGETHER)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        for function in ["meeting.meet", "meeting.meet_on_threads"] {
            for _ in 0..2 * TOGETHER {
                caller.send(function, "").await;
            }
            assert_eq!(caller.answers(2 * TOGETHER).await, ["met"; 2 * TOGETHER]);
        }
    });
}

#[test]
fn what_cannot_be_called_does_not_hold_up_other_calls() {
    check(async {
        let server = Meeting::new()
            .bind(ANY)
            .concurrency(2 * TOGETHER)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        // These are answered at once, but after the call before, which waits for the calls after.
        for between in ["meeting.echo", "meeting.unknown", "other.meet", "no dot"] {
            for number in 0..TOGETHER {
                caller.send("meeting.meet", "").await;
                if number == 0 {
                    caller.send(between, "0").await;
                }
            }
            let what = format!("calls after `{between}`");
            assert_eq!(
                soon(&what, caller.answers(5)).await,
                ["met", "0", "met", "met", "met"]
            );
        }
    });
}

/// Calls that wait at a gate.
struct Gated {
    gate: Gate,
    open: Gate,
}

impl Gated {
    fn new() -> (Self, Gate) {
        let gate = Gate::closed();
        let open = Gate::closed();
        open.open();
        (
            Self {
                gate: gate.clone(),
                open,
            },
            gate,
        )
    }
}

#[palm::server(name = "gated")]
impl Gated {
    #[palm::method]
    async fn shared(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method]
    async fn alone(&mut self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method(blocking)]
    fn alone_on_a_thread(&mut self, text: String) -> String {
        tokio::runtime::Handle::current().block_on(self.gate.pass());
        text
    }

    #[palm::method]
    fn at_once(&self, text: String) -> String {
        text
    }

    #[palm::method(blocking)]
    fn at_once_on_a_thread(&self, text: String) -> String {
        text
    }

    #[palm::method]
    fn many_alone(&mut self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 2)
    }

    #[palm::method]
    async fn free(&self, text: String) -> String {
        self.open.pass().await;
        text
    }
}

#[test]
fn no_more_calls_run_than_the_concurrency_allows() {
    check(async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(3).spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        for number in 0..6 {
            caller.send("gated.shared", number.to_string()).await;
        }
        gate.arrived(3).await;
        received(&server, 6).await;
        assert_eq!(gate.count(), 3);
        assert_eq!(server.metrics().function("shared").unwrap().running, 3);
        gate.open();
        assert_eq!(caller.answers(6).await, ["0", "1", "2", "3", "4", "5"]);
    });
}

/// Waits until the server has taken so many messages, and its tasks have had their turn.
async fn received(server: &ComponentHandle, messages: u64) {
    eventually("messages taken", || {
        server.metrics().part("Pull").unwrap().messages >= messages
    })
    .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn exclusive_calls_run_alone() {
    check(async {
        for function in ["gated.alone", "gated.alone_on_a_thread"] {
            let (server, gate) = Gated::new();
            let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
            let mut caller = Caller::of(&server, "caller").await;
            for number in 0..6 {
                caller.send(function, number.to_string()).await;
            }
            gate.arrived(1).await;
            received(&server, 6).await;
            assert_eq!(gate.count(), 1, "{function}");
            gate.open();
            assert_eq!(caller.answers(6).await, ["0", "1", "2", "3", "4", "5"]);
        }
    });
}

#[test]
fn a_server_keeps_the_order() {
    check(async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        caller.send("gated.shared", "slow").await;
        gate.arrived(1).await;
        for number in 0..5 {
            caller.send("gated.free", number.to_string()).await;
        }
        // The later ones are done, and wait for the first.
        eventually("the later calls", || {
            server.metrics().function("free").unwrap().working.count() == 5
        })
        .await;
        gate.open();
        assert_eq!(caller.answers(6).await, ["slow", "0", "1", "2", "3", "4"]);
    });
}

#[test]
fn order_and_locks_do_not_stop_each_other() {
    // One thread for what blocks: a call that came before is made after.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    check_on(builder.worker_threads(2).max_blocking_threads(1), async {
        let (server, gate) = Gated::new();
        let server = server.bind(ANY).concurrency(8).spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        // The thread is taken.
        let busy = gate.clone();
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(busy.pass()));
        gate.arrived(1).await;
        // Waits for the thread, then for the lock.
        caller.send("gated.at_once_on_a_thread", "first").await;
        // Has the lock, and waits to deliver until the first has.
        caller.send("gated.many_alone", "second").await;
        received(&server, 2).await;
        gate.open();
        let answers = soon("answers in order", caller.answers(3)).await;
        assert_eq!(answers, ["first", "second", "second"]);
    });
}

/// A worker with a gate.
struct Hand {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn gated(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method]
    async fn remembers(&self, text: String, context: Context) -> Result<Bytes, CacheError> {
        let cache = context.cache();
        let before = cache
            .get("worker's")
            .await?
            .unwrap_or_else(|| "nothing".into());
        cache.set("worker's", text).await?;
        Ok(before)
    }

    #[palm::method]
    fn forgets(&self) -> Option<String> {
        None
    }

    #[palm::method]
    fn lists(&self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 3)
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as told")
    }
}

async fn master_and_worker(concurrency: usize) -> (ComponentHandle, ComponentHandle, Gate) {
    let gate = Gate::closed();
    let master = Master::new("master").bind(ANY).spawn().await.unwrap();
    let hand = Hand { gate: gate.clone() }.connect(master.db_address());
    let hand = hand
        .name("hand")
        .concurrency(concurrency)
        .spawn()
        .await
        .unwrap();
    (master, hand, gate)
}

#[test]
fn a_worker_answers_as_soon_as_it_is_done() {
    check(async {
        let (master, _hand, gate) = master_and_worker(3).await;
        let mut caller = Caller::of(&master, "caller").await;
        caller.send("master.gated", "slow").await;
        gate.arrived(1).await;
        caller.send("master.echo", "fast").await;
        caller.send("master.lists", "fast").await;
        assert_eq!(caller.answers(4).await, ["fast"; 4]);
        gate.open();
        assert_eq!(caller.answer().await, "slow");
    });
}

#[test]
fn a_worker_fails_and_goes_on() {
    check(async {
        let (master, hand, _) = master_and_worker(1).await;
        let mut caller = Caller::of(&master, "caller").await;
        for (function, payload, expected) in [
            ("master.panics", &b""[..], "0"),
            ("master.gated", b"\xff", "0"),
            ("master.unknown", b"", "0"),
            ("nonsense", b"", "0"),
            ("master.echo", b"still there", "still there"),
        ] {
            caller.send(function, payload).await;
            assert_eq!(caller.answer().await, expected, "{function}");
        }
        caller.send("master.forgets", "").await;
        caller.send("master.echo", "after nothing").await;
        assert_eq!(caller.answer().await, "after nothing");
        // The master itself refuses what none of its workers has.
        assert_eq!(hand.metrics().part("Executor").unwrap().errors, 3);
    });
}

#[test]
fn the_cache_of_a_worker_is_its_masters() {
    check(async {
        let (master, _hand, _) = master_and_worker(1).await;
        let client = Client::connect("master", master.db_address())
            .await
            .unwrap();
        let answer = client.eval(Hand::REMEMBERS, "one").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "nothing");
        assert_eq!(client.get("worker's").await.unwrap(), Some("one".into()));
        client.set("worker's", "two").await.unwrap();
        assert_eq!(client.eval(Hand::REMEMBERS, "three").await.unwrap(), "two");
    });
}

/// An error that cannot even be printed.
#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not printable")
    }
}

impl std::error::Error for Unprintable {}

struct Fragile;

#[palm::server(name = "fragile")]
impl Fragile {
    #[palm::method]
    fn fails(&self) -> Result<String, Unprintable> {
        Err(Unprintable)
    }

    #[palm::method]
    async fn fails_later(&self) -> Result<String, Unprintable> {
        tokio::task::yield_now().await;
        Err(Unprintable)
    }
}

async fn fails_and_goes_on(function: &str) {
    let server = Fragile.bind(ANY).spawn().await.unwrap();
    let mut caller = Caller::of(&server, "caller").await;
    caller.send(function, "").await;
    caller.send("fragile.echo", "still there").await;
    let answers = tokio::select! {
        answers = soon("the answers", caller.answers(2)) => answers,
        ended = server.join() => panic!("the server has ended: {ended:?}"),
    };
    assert_eq!(answers, ["0", "still there"]);
}

#[test]
fn an_error_that_panics_when_it_is_printed_is_a_failure_as_any_other() {
    check(fails_and_goes_on("fragile.fails"));
}

#[test]
fn such_an_error_of_a_call_that_took_a_while_is_one_too() {
    check(fails_and_goes_on("fragile.fails_later"));
}

/// Gives results until nobody wants them.
struct Endless {
    made: Arc<AtomicUsize>,
}

#[palm::server(name = "endless")]
impl Endless {
    #[palm::method]
    fn large(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let made = self.made.clone();
        std::iter::repeat_with(move || vec![0; 64 * 1024 + made.fetch_add(1, Ordering::Relaxed)])
    }
}

#[test]
fn many_results_are_made_only_as_fast_as_they_are_taken() {
    check(async {
        let made = Arc::<AtomicUsize>::default();
        let mut socket = options();
        socket.queue_len = 10;
        let limits = palm::QueueLimits {
            messages: 10,
            ..Default::default()
        };
        let server = Endless { made: made.clone() }
            .bind(ANY)
            .queue_limits(limits);
        let server = server
            .socket_options(socket)
            .drain_limit(Duration::from_millis(500));
        let server = server.spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        caller.send("endless.large", "").await;
        for number in 0..3 {
            assert_eq!(caller.answer().await.len(), 64 * 1024 + number);
        }
        // It cannot be done in time, and says so.
        let error = soon("the server's end", server.shutdown())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("Executor"), "{error}");
        // What the queues and buffers on the way hold.
        assert!(made.load(Ordering::Relaxed) < 3000, "{made:?}");
    });
}

struct Overrun;

#[palm::server(name = "overrun")]
impl Overrun {
    #[palm::method(max_runtime_ms = 50)]
    async fn waits(&self) -> String {
        std::future::pending().await
    }

    #[palm::method(max_runtime_ms = 10000)]
    async fn is_quick(&self) -> String {
        "done".to_owned()
    }
}

#[test]
fn a_call_that_runs_for_too_long_fails() {
    check(async {
        let server = Overrun.bind(ANY).spawn().await.unwrap();
        let client = super::setup::connect("overrun", &server).await;
        let answer: String = client.eval(Overrun::IS_QUICK, ()).await.unwrap();
        assert_eq!(answer, "done");
        let error = client.eval(Overrun::WAITS, ()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "`overrun.waits` did not finish in time in `overrun`: it exceeded its maximum runtime of 50ms"
        );
    });
}

/// Keeps its thread, for long where it is told to.
struct Keeps {
    begun: Gate,
    released: Mutex<mpsc::Receiver<()>>,
}

#[palm::server(name = "keeps")]
impl Keeps {
    #[palm::method]
    fn step(&self, payload: Bytes) -> Bytes {
        if payload == "long" {
            self.begun.count_one();
            let released = self.released.lock().unwrap();
            released.recv_timeout(Duration::from_secs(20)).unwrap();
        } else {
            // Long enough that its result goes on alone.
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_micros(25) {
                std::hint::spin_loop();
            }
        }
        payload
    }
}

#[test]
fn a_method_that_keeps_its_thread_keeps_no_peer_from_being_answered() {
    let mut two_threads = tokio::runtime::Builder::new_multi_thread();
    check_on(two_threads.worker_threads(2), async {
        let begun = Gate::closed();
        let (release, released) = mpsc::channel();
        let keeps = Keeps {
            begun: begun.clone(),
            released: Mutex::new(released),
        };
        let server = keeps.bind(ANY).spawn().await.unwrap();
        let mut no_link = LinkOptions::default();
        no_link.enabled = false;
        let client = Client::builder("keeps", server.db_address()).link_options(no_link);
        let client = client.connect().await.unwrap();
        for round in 1..=10 {
            let job = client.job(Keeps::STEP, ["short", "long"].map(Bytes::from));
            let job = tokio::spawn(job.expect_answers(2).count());
            begun.arrived(round).await;
            soon("what the cache has", client.get("name"))
                .await
                .unwrap();
            release.send(()).unwrap();
            assert_eq!(soon("both answers", job).await.unwrap(), 2);
        }
        server.shutdown().await.unwrap();
    });
}
