//! The calls that components remember, without a subscriber for their spans. `palm-otel` tests the spans.

use palm::inspect::{Answer, Inspector};
use palm::prelude::*;
use palm::report::{RecentCall, Report, Role, Work};
use palm::{CallError, FailureKind};
use reqwest::Client as Http;

use super::setup::{ANY, check, connect, soon};

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
