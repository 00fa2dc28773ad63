//! `palm::testing::Soak`: it passes for a cluster that loses nothing, and finds what others lose or repeat.

use std::time::Duration;

use palm::prelude::*;
use palm::testing::{Cluster, Faults, Restartable, SoakFailure, SoakReport};

use super::setup::{ANY_NAME, paused, work};

/// Answers most calls once.
struct Uneven;

#[palm::server(name = "uneven")]
impl Uneven {
    #[palm::method]
    async fn echo(&self, text: String) -> String {
        work(1).await;
        text
    }

    #[palm::method]
    fn loses(&self, text: String) -> Option<String> {
        (!text.ends_with("77")).then_some(text)
    }

    #[palm::method]
    fn repeats(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let times = 1 + usize::from(text.ends_with("77"));
        std::iter::repeat_n(text, times)
    }

    #[palm::method]
    fn confuses(&self, text: String) -> String {
        text.replace("77", "78")
    }

    #[palm::method]
    fn fails(&self, text: String) -> Result<String, &'static str> {
        match text.ends_with("77") {
            true => Err("it ends with 77"),
            false => Ok(text),
        }
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn double(&self, number: String) -> Result<String, std::num::ParseIntError> {
        work(1).await;
        Ok((2 * number.parse::<u64>()?).to_string())
    }
}

async fn report_of(function: &str) -> SoakReport {
    let cluster = Cluster::new()
        .server(Uneven)
        .inproc()
        .start()
        .await
        .unwrap();
    let client = cluster.client().await.unwrap();
    let report = Faults::seeded(7)
        .soak(client, function)
        .duration(Duration::from_millis(300))
        .run()
        .await;
    assert!(report.calls() > 200, "{report}");
    report
}

#[test]
fn soak_finds_lost_repeated_wrong_and_failed_answers() {
    paused(async {
        report_of("uneven.echo").await.assert_all_answered();
        type IsExpected = fn(&SoakFailure) -> bool;
        let cases: [(&str, IsExpected); 4] = [
            (
                "uneven.loses",
                |it| matches!(it, SoakFailure::Unanswered { call, .. } if call % 100 == 77),
            ),
            (
                "uneven.repeats",
                |it| matches!(it, SoakFailure::Repeated { answer, .. } if answer.ends_with(b"77")),
            ),
            ("uneven.confuses", |it| {
                matches!(
                    it,
                    SoakFailure::Wrong { .. }
                        | SoakFailure::Repeated { .. }
                        | SoakFailure::Unanswered { .. }
                )
            }),
            ("uneven.fails", |it| {
                matches!(it, SoakFailure::Failed { .. })
            }),
        ];
        for (function, is_expected) in cases {
            let report = report_of(function).await;
            let failures = report.failures();
            assert!(!failures.is_empty(), "{function}: {report}");
            assert!(failures.iter().all(is_expected), "{function}: {report}");
            let failed = std::panic::AssertUnwindSafe(|| report.assert_all_answered());
            let panic = std::panic::catch_unwind(failed).unwrap_err();
            let text = panic.downcast_ref::<String>().unwrap();
            assert!(text.contains("calls (seed 7)"), "{text}");
        }
    });
}

#[test]
fn soak_passes_while_workers_are_killed_and_a_master_is_restarted() {
    paused(async {
        let master = Master::new("master").bind(ANY_NAME).spawn().await.unwrap();
        let at = master.db_address().to_owned();
        let start = {
            let at = at.clone();
            move || Hand.connect(&*at).spawn()
        };
        let mut first = Restartable::start(start.clone()).await.unwrap();
        let mut second = Restartable::start(start).await.unwrap();
        let client = Client::connect("master", &*at).await.unwrap();
        let other = Client::connect("master", &*at).await.unwrap();
        let faults = Faults::seeded(42);
        let report = faults
            .soak(client, Hand::DOUBLE)
            .client(other)
            .calls(|number| (number.to_string(), (2 * number).to_string()))
            .max_job_calls(20)
            .duration(Duration::from_secs(10))
            .fault("kill the first worker", async || {
                first.kill().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                first.restart().await.map(drop)
            })
            .fault("restart the second worker", async || {
                second.restart().await.map(drop)
            })
            .run()
            .await;
        report.assert_all_answered();
        let kills = report.faults("kill the first worker");
        let restarts = report.faults("restart the second worker");
        assert!(
            kills > 0 && restarts > 0 && report.faults("another") == 0,
            "{report}"
        );
        assert!(report.calls() > 1000, "{report}");
    });
}

#[test]
fn soak_reports_calls_that_a_killed_server_without_a_successor_leaves() {
    paused(async {
        let mut cluster = Cluster::new()
            .server(Uneven)
            .inproc()
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let mut server = cluster.take("uneven");
        let report = Faults::seeded(1)
            .soak(client, Uneven::ECHO)
            .max_job_calls(20)
            .duration(Duration::from_secs(5))
            .answer_timeout(Duration::from_secs(10))
            .fault("kill", async || {
                let server = server.take().ok_or("it was killed before")?;
                server.kill().await;
                Ok::<_, &str>(())
            })
            .run()
            .await;
        assert!(report.answered() < report.calls(), "{report}");
        let failures = report.failures();
        let count = |is: fn(&SoakFailure) -> bool| failures.iter().filter(|it| is(it)).count();
        assert!(
            count(|it| matches!(it, SoakFailure::Failed { .. })) > 0,
            "{report}"
        );
        assert!(
            count(|it| matches!(it, SoakFailure::Fault { .. })) > 0,
            "{report}"
        );
    });
}
