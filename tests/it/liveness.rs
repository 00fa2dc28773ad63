//! Processes that cannot show signs of life: a method blocks their thread, or they are stopped for a while.

use std::path::Path;
use std::time::Duration;

use palm::prelude::*;
use palm::report::{EdgeState, Role};
use palm::{ComponentHandle, LinkOptions, Result};

use super::process::Process;
use super::setup::{ANY, TempFolder, check, connect, eventually, soon, succeeds};

/// A worker that records each call in a file, and blocks its thread for a while.
struct Keeps;

/// Records a call in a file, and returns how long it runs. A task states the path of the file and the milliseconds.
fn note(text: &str) -> Duration {
    use std::io::Write;
    let (path, milliseconds) = text.split_once(' ').unwrap();
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    file.unwrap().write_all(b"begun\n").unwrap();
    let milliseconds = milliseconds.split(' ').next().unwrap();
    Duration::from_millis(milliseconds.parse().unwrap())
}

#[palm::worker(server = "keeper")]
impl Keeps {
    /// Blocks the thread, so that no other task runs on it.
    #[palm::method]
    fn hold(&self, text: String) -> String {
        std::thread::sleep(note(&text));
        text
    }

    #[palm::method]
    async fn sleep(&self, text: String) -> String {
        tokio::time::sleep(note(&text)).await;
        text
    }
}

/// Time without a sign of life until a peer counts as lost.
const IDLE_TIMEOUT: Duration = Duration::from_millis(600);

fn quick() -> LinkOptions {
    LinkOptions::new()
        .heartbeat(IDLE_TIMEOUT / 4)
        .idle_timeout(IDLE_TIMEOUT)
}

/// Starts a worker whose tasks and parts share one thread.
pub(crate) async fn worker(master: String) -> Result<ComponentHandle> {
    let worker = Keeps.connect(master).concurrency(2).own_thread(true);
    worker.link_options(quick()).spawn().await
}

async fn master() -> ComponentHandle {
    let master = Master::new("keeper").bind(ANY).link_options(quick());
    master.spawn().await.unwrap()
}

async fn process(master: &ComponentHandle) -> Process {
    Process::run("blocking_worker", &[("db_address", master.db_address())]).await
}

/// Waits until the master counts its worker as lost, and the worker will do so with its master when it runs again.
async fn worker_is_lost(master: &ComponentHandle) {
    let lost = async || {
        let report = master.report().await;
        let mut workers = report.edges_of(Role::Worker);
        let lost = workers.find(|it| it.state == EdgeState::Lost && it.silent >= 2 * IDLE_TIMEOUT);
        lost.map(|_| ()).ok_or(())
    };
    succeeds("the loss of the worker", lost).await;
}

fn begun(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn task_that_blocks_its_thread_is_not_redelivered() {
    check(async {
        let folder = TempFolder::new();
        let file = folder.path("begun");
        let master = master().await;
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(process(&master).await);
        }
        let client = connect("keeper", &master).await;
        let task = format!("{} 2000", file.display());
        let eval = client.eval("keeper.hold", task.clone());
        let answer = soon(
            "the answer",
            eval.timeout(Duration::from_secs(10)).into_future(),
        );
        assert_eq!(answer.await.unwrap(), task);
        assert_eq!(begun(&file), 1);
    });
}

#[test]
fn tasks_queued_behind_a_blocking_one_run_once() {
    check(async {
        let folder = TempFolder::new();
        let file = folder.path("begun");
        let master = master().await;
        let _worker = process(&master).await;
        let client = connect("keeper", &master).await;
        let calls = ["a", "b", "c"].map(|name| {
            let task = format!("{} 1000 {name}", file.display());
            let client = client.clone();
            tokio::spawn(async move {
                let eval = client.eval("keeper.hold", task);
                eval.timeout(Duration::from_secs(10)).await
            })
        });
        for call in calls {
            soon("an answer", call).await.unwrap().unwrap();
        }
        assert_eq!(begun(&file), 3);
    });
}

#[test]
fn task_that_a_resumed_worker_still_runs_is_not_started_again() {
    check(async {
        let folder = TempFolder::new();
        let file = folder.path("begun");
        let master = master().await;
        let worker = process(&master).await;
        let client = connect("keeper", &master).await;
        let task = format!("{} 2500", file.display());
        let call = {
            let (client, task) = (client.clone(), task.clone());
            tokio::spawn(async move {
                let eval = client.eval("keeper.sleep", task);
                eval.timeout(Duration::from_secs(10)).await
            })
        };
        eventually("the task", || begun(&file) == 1).await;
        worker.pause().unwrap();
        worker_is_lost(&master).await;
        worker.resume().unwrap();
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), task);
        assert_eq!(begun(&file), 1);
    });
}
