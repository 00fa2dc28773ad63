//! Runs each test within a time limit.

use std::collections::HashSet;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// Default time limit of a test.
const LIMIT: Duration = Duration::from_secs(30);

/// Set in a process that runs one test.
const ALONE: &str = "PALM_CONFORMANCE_ALONE";

/// Set to run the tests on a current-thread runtime instead of one with two threads.
const CURRENT_THREAD: &str = "PALM_CONFORMANCE_CURRENT_THREAD";

/// Runs a test: `body` has to complete within the default limit, and no task may panic.
///
/// `body` is an `async` block in the function of the test, so that its type contains the name of the test.
pub(crate) fn check<F: Future<Output = ()>>(body: F) {
    check_within(LIMIT, body);
}

/// [`check`] with a limit of its own.
pub(crate) fn check_within<F: Future<Output = ()>>(limit: Duration, body: F) {
    let name = name_of::<F>();
    // The thread is `main` if tests run one after the other.
    let thread = std::thread::current();
    let here = thread.name().filter(|here| *here != "main").unwrap_or(name);
    assert_eq!(
        name, here,
        "the body has to be an `async` block in the function of the test"
    );
    run(name, limit, body);
}

/// [`check`] in a process of its own with a limit on open files.
pub(crate) fn check_with_open_files<F: Future<Output = ()>>(files: u32, body: F) {
    let name = name_of::<F>();
    if std::env::var_os(ALONE).is_some() {
        check(body);
    } else if let Err(failure) = run_alone(name, files, LIMIT) {
        panic!("{failure}");
    }
}

/// Returns `module::test` of a type `conformance::module::test::{{closure}}`.
fn name_of<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    name.split("::{{closure}}").next().unwrap_or(name)
}

fn run<F: Future<Output = ()>>(name: &'static str, limit: Duration, body: F) {
    watch_panics();
    let mut builder = match std::env::var_os(CURRENT_THREAD) {
        Some(_) => tokio::runtime::Builder::new_current_thread(),
        None => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { tokio::time::timeout(limit, body).await })
    }));
    // A blocked thread must not delay other tests.
    runtime.shutdown_background();
    match outcome {
        Ok(Ok(())) => assert!(!panicked(name), "a task panicked; see above"),
        Ok(Err(_)) => panic!("not done within {limit:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// The names of threads that panicked. The threads of a runtime have the name of its test.
static PANICKED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(name) = std::thread::current().name() {
                let mut panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
                panicked.get_or_insert_default().insert(name.to_owned());
            }
            report(panic);
        }));
    });
}

fn panicked(name: &str) -> bool {
    let panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
    panicked.as_ref().is_some_and(|names| names.contains(name))
}

/// Runs one test in a process of its own that may have `files` open files. The error contains the output of a failed test.
fn run_alone(name: &str, files: u32, limit: Duration) -> Result<(), String> {
    let executable = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")])
        .arg(executable);
    command
        .args(["--include-ignored", "--exact", name, "--nocapture"])
        .env(ALONE, "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let deadline = Instant::now() + limit + Duration::from_secs(5);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("the test hangs, and its runtime does too".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let stderr = stderr.join().unwrap();
    if status.success() {
        Ok(())
    } else {
        Err(format!("{status}\n{stderr}"))
    }
}
