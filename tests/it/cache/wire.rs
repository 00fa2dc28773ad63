//! Cache requests that no client of palm sends.

use bytes::Bytes;
use palm::prelude::*;
use palm::socket::Request;
use palm_proto::message::proto::cache_reply::Outcome;
use palm_proto::message::proto::cache_request::Operation;
use palm_proto::message::proto::{CacheAdd, CacheReply, CacheRequest, CacheScan, cache_failure};
use prost::Message as _;

use super::super::setup::{ANY, SOON, address, check, options, soon};
use super::{Lender, Promises};

async fn send_request(request: &Request, cache_request: CacheRequest) -> Outcome {
    let message = palm::Message::new("lender.store", cache_request.encode_to_vec());
    let reply = request.request(message.into_frame(), SOON).await.unwrap();
    CacheReply::decode(reply).unwrap().outcome.unwrap()
}

#[test]
fn repeated_request_is_carried_out_once() {
    check(async {
        let server = Lender(Promises::All).bind(ANY).spawn().await.unwrap();
        let options = options();
        let at = address(server.db_address());
        let connecting = Request::connect(&at, &options);
        let request = soon("connecting", connecting).await.unwrap();
        let add = |id: &'static str| CacheRequest {
            id: id.into(),
            operation: Some(Operation::Add(CacheAdd {
                key: "n".into(),
                amount: 5,
            })),
        };
        for (id, sum) in [("a", 5), ("a", 5), ("b", 10), ("a", 5), ("", 15), ("", 20)] {
            assert_eq!(
                send_request(&request, add(id)).await,
                Outcome::Number(sum),
                "{id}"
            );
        }
        // Concurrent requests.
        let requests = (0..50).map(|_| send_request(&request, add("c")));
        for outcome in futures_util::future::join_all(requests).await {
            assert_eq!(outcome, Outcome::Number(25));
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn malformed_request_is_answered_with_the_reason() {
    use cache_failure::Kind;
    check(async {
        let server = Lender(Promises::All).bind(ANY).spawn().await.unwrap();
        let options = options();
        let at = address(server.db_address());
        let connecting = Request::connect(&at, &options);
        let request = soon("connecting", connecting).await.unwrap();
        let scan = Operation::Scan(CacheScan::default());
        let long_id = Bytes::from(vec![b'x'; 65]);
        for (id, operation, kind) in [
            (Bytes::new(), None, Kind::Unsupported),
            (long_id, Some(scan), Kind::Malformed),
        ] {
            match send_request(&request, CacheRequest { id, operation }).await {
                Outcome::Failure(failure) => assert_eq!(failure.kind(), kind),
                other => panic!("{other:?}"),
            }
        }
        server.shutdown().await.unwrap();
    });
}
