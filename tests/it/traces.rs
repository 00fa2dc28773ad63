//! The calls that components remember, without a subscriber for their spans. `palm-otel` tests the spans.

use futures_util::TryStreamExt as _;
use palm::inspect::{Answer, Inspector};
use palm::prelude::*;
use palm::report::{RecentCall, Report, Role, Work};
use palm::{CallError, FailureKind};
use reqwest::Client as Http;

use super::setup::{ANY, check, connect, connect_through, soon};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

struct Shop;

#[palm::worker(server = "shop")]
impl Shop {
    #[palm::method]
    fn sell(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "nothing" => Err("there is nothing to sell"),
            _ => Ok(text),
        }
    }

    #[palm::method]
    fn parent(&self, context: Context) -> String {
        context.message().trace().unwrap_or_default().parent
    }
}

async fn report(address: &str, prefix: &str) -> Report {
    let mut inspector = Inspector::new(address).unwrap().recent_calls(prefix);
    match soon("a report", inspector.inspect_first()).await {
        Answer::Report(report) => *report,
        answer => panic!("{answer:?}"),
    }
}

fn of_workers(report: &Report) -> Vec<&RecentCall> {
    let workers = report.edges_of(Role::Worker);
    let workers = workers.filter_map(|edge| edge.worker.as_ref());
    workers.flat_map(|worker| &worker.recent).collect()
}

#[test]
fn failed_and_slow_calls_are_remembered_and_found_by_their_ids() {
    check(async {
        let master = Master::new("shop").bind(ANY).spawn().await.unwrap();
        let worker = Shop.connect(master.db_address()).spawn().await.unwrap();
        let client = connect("shop", &master).await;
        let failed = client.eval(Shop::SELL, "nothing").message_id("lost").await;
        assert!(matches!(failed, Err(CallError::Remote(_))), "{failed:?}");
        client
            .eval(Shop::SELL, "bread")
            .message_id("sold")
            .await
            .unwrap();
        let unknown = client.eval("shop.steal", "x").await;
        assert!(unknown.is_err());

        let all = report(master.db_address(), "").await;
        let calls = of_workers(&all);
        let found: Vec<_> = calls
            .iter()
            .map(|call| (&*call.id, &*call.function, call.failure))
            .collect();
        let failure = Some(FailureKind::Failed);
        assert_eq!(
            found,
            [("lost", "shop.sell", failure), ("sold", "shop.sell", None)]
        );
        assert!(calls.iter().all(|call| call.work == Work::Step));
        let client_id = calls[0].call.split('/').next().unwrap();
        assert!(calls[1].call.starts_with(client_id));

        let sold = report(master.db_address(), "sold").await;
        assert_eq!(of_workers(&sold), [calls[1]]);
        let none = report(master.db_address(), "other").await;
        assert_eq!((of_workers(&none).len(), none.recent.len()), (0, 0));
        // Reports are without calls unless they are asked for.
        let mut plain = Inspector::new(master.db_address()).unwrap();
        let plain = soon("a report", plain.inspect_first()).await;
        let plain = plain.report().unwrap();
        assert_eq!((of_workers(plain).len(), plain.recent.len()), (0, 0));

        client.close().await;
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

#[test]
fn call_of_a_sampled_trace_is_remembered_by_gateway_and_worker() {
    check(async {
        let master = Master::new("shop").bind(ANY).http("127.0.0.1:0");
        let master = master.spawn().await.unwrap();
        let worker = Shop.connect(master.db_address()).spawn().await.unwrap();
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let url = master.address("http_address").unwrap();
        let request = Http::new().get(format!("{url}/parent"));
        let request = request.header("traceparent", &parent);
        let response = soon("the response", request.send()).await.unwrap();
        // No component records a span, so the context is the caller's.
        assert_eq!(response.text().await.unwrap(), parent);

        let report = report(master.db_address(), TRACE).await;
        let request = &report.recent[..];
        assert_eq!(request.len(), 1, "{request:?}");
        assert_eq!(
            (request[0].work, &*request[0].trace),
            (Work::Request, TRACE)
        );
        let steps = of_workers(&report);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!((steps[0].work, &*steps[0].trace), (Work::Step, TRACE));
        assert_eq!(steps[0].call, request[0].call);
        assert!(request[0].worked >= steps[0].worked);

        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

/// The steps of a chain: a server, the worker of a hub, and a sink.
struct Cut;

#[palm::server(name = "cut")]
impl Cut {
    #[palm::method]
    fn cut(&self, text: String) -> String {
        text
    }
}

struct Sew;

#[palm::worker(server = "sew")]
impl Sew {
    #[palm::method]
    fn sew(&self, text: String) -> String {
        text
    }
}

struct Pack;

#[palm::sink(name = "pack")]
impl Pack {
    #[palm::method]
    fn pack(&self, text: String) -> String {
        text
    }
}

#[test]
fn messages_of_a_job_are_remembered_at_each_step_through_a_hub_and_a_sink() {
    check(async {
        let first = Cut.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Hub::new("sew").bind(ANY).follow(first.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let worker = Sew.connect(hub.db_address()).spawn().await.unwrap();
        let last = Pack.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();
        let client = connect_through(&first, &last).await;
        let steps = palm::steps!["cut.cut", "sew.sew", "pack.pack"];
        let job = client.job(steps, ["a", "b", "c"]).expect_answers(3);
        let answers: Result<Vec<Bytes>, _> = soon("the answers", job.try_collect()).await;
        assert_eq!(answers.unwrap().len(), 3);

        // Begun at any component: here at the hub, in the middle.
        let mut inspector = Inspector::new(hub.db_address()).unwrap().recent_calls("");
        let cluster = soon("the cluster", inspector.inspect()).await;
        let of = |name: &str| {
            let report = cluster.report(name).unwrap();
            let own = report.recent.iter();
            let calls: Vec<_> = own.chain(of_workers(report)).collect();
            let mut ids: Vec<_> = calls
                .iter()
                .map(|it| (it.call.clone(), it.id.clone()))
                .collect();
            ids.sort();
            let functions = calls.iter().map(|it| (&*it.function, it.stage));
            (ids, functions.collect::<std::collections::BTreeSet<_>>())
        };
        let (cut, sew, pack) = (of("cut"), of("sew"), of("pack"));
        assert_eq!(cut.1, [("cut.cut", 0)].into());
        assert_eq!(sew.1, [("sew.sew", 1)].into());
        assert_eq!(pack.1, [("pack.pack", 2)].into());
        // The messages of the job have one id as calls, and each has its own through all steps.
        assert_eq!(cut.0.len(), 3);
        assert!(
            cut.0
                .windows(2)
                .all(|two| two[0].0 == two[1].0 && two[0].1 != two[1].1)
        );
        assert_eq!((&cut.0, &cut.0), (&sew.0, &pack.0));

        client.close().await;
        for component in [last, worker, hub, first] {
            component.shutdown().await.unwrap();
        }
    });
}

#[test]
fn calls_of_workers_are_reported_although_others_ask_for_a_report_without_calls() {
    check(async {
        let master = Master::new("shop").bind(ANY).spawn().await.unwrap();
        let mut workers = Vec::new();
        for name in ["a", "b", "c"] {
            let worker = Shop.connect(master.db_address()).name(name);
            workers.push(worker.spawn().await.unwrap());
        }
        let client = connect("shop", &master).await;
        let failed = client.eval(Shop::SELL, "nothing").await;
        assert!(failed.is_err());
        let plain = async || {
            let mut inspector = Inspector::new(master.db_address()).unwrap();
            loop {
                inspector.inspect_first().await;
            }
        };
        let traced = async {
            for _ in 0..50 {
                let report = report(master.db_address(), "").await;
                assert_eq!(of_workers(&report).len(), 1, "{report:#?}");
                // A worker without calls reports so at once.
                assert_eq!(report.edges_of(Role::Worker).count(), 3);
            }
        };
        tokio::select! {
            () = traced => {}
            () = plain() => {}
            () = plain() => {}
        }
        client.close().await;
        for worker in workers {
            worker.shutdown().await.unwrap();
        }
        master.shutdown().await.unwrap();
    });
}
