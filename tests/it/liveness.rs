//! Processes that live and cannot say so: a method keeps their thread, or they are stopped for a while.

use std::path::Path;
use std::time::Duration;

use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions, Result};

use super::lifecycle::Process;
use super::setup::{ANY, Place, check, connect, eventually, soon};

/// Notes each call, and takes a while.
struct Keeps;

/// A file to note the call in, and for how many milliseconds it runs.
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
    /// Nothing else runs on its thread meanwhile.
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

/// Peers count as lost after 600 ms.
fn quick() -> LinkOptions {
    let mut options = LinkOptions::default();
    options.heartbeat = Duration::from_millis(150);
    options.idle_timeout = Duration::from_millis(600);
    options
}

/// A worker with one thread for all that it does, in a process of its own.
pub(crate) async fn worker(master: String) -> Result<ComponentHandle> {
    let worker = Keeps.connect(master).concurrency(2).own_thread(true);
    worker.link_options(quick()).spawn().await
}

async fn master() -> ComponentHandle {
    let master = Master::new("keeper").bind(ANY).link_options(quick());
    master.spawn().await.unwrap()
}

async fn process(master: &ComponentHandle) -> Process {
    Process::run("keeping_worker", &[("db_address", master.db_address())]).await
}

fn begun(file: &Path) -> usize {
    std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[test]
fn task_that_keeps_its_thread_is_not_given_to_others() {
    check(async {
        let place = Place::new();
        let file = place.path("begun");
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
fn tasks_behind_one_that_keeps_its_thread_run_once() {
    check(async {
        let place = Place::new();
        let file = place.path("begun");
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
fn task_that_a_stopped_worker_goes_on_with_is_not_begun_a_second_time() {
    check(async {
        let place = Place::new();
        let file = place.path("begun");
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
        worker.signal("STOP");
        // Longer than a worker may be silent.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        worker.signal("CONT");
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), task);
        assert_eq!(begun(&file), 1);
    });
}
