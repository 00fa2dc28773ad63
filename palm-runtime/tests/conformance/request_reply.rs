//! Requests and replies: matching, timeouts and envelopes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use palm_runtime::socket::{Address, Frames, Reply, Request, RequestError, SocketOptions};
use tokio_util::task::AbortOnDropHandle;

use super::harness::check;
use super::raw::{MORE, RawPeer, frame};
use super::setup::{
    IpcFolder, SOON, STALLED, any_tcp, bind_again, number, numbered, options, soon, unbound_tcp,
};

/// Replies to each request with its body, until dropped.
pub(crate) struct Echo {
    _task: AbortOnDropHandle<()>,
}

pub(crate) fn echo(mut reply: Reply) -> Echo {
    let task = tokio::spawn(async move {
        while let Ok((body, responder)) = reply.recv().await {
            responder.reply(body[0].clone()).unwrap();
        }
    });
    Echo {
        _task: AbortOnDropHandle::new(task),
    }
}

/// Sends a request to an [`echo`] and checks the reply.
pub(crate) async fn send_request(request: &Request, body: Bytes) {
    assert_eq!(request.request(body.clone(), SOON).await.unwrap(), body);
}

async fn pair(address: &Address, options: &SocketOptions) -> (Request, Reply, Address) {
    let (reply, bound) = Reply::bind(address, options).await.unwrap();
    (
        Request::connect(&bound, options).await.unwrap(),
        reply,
        bound,
    )
}

fn body(frames: &Frames) -> &Bytes {
    assert_eq!(frames.len(), 1);
    &frames[0]
}

#[test]
fn a_request_gets_its_reply() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.all("a") {
            let (request, reply, bound) = pair(&address, &options(|options| options)).await;
            assert_eq!(*request.address(), bound);
            let _echo = echo(reply);
            for round in 0..1_000 {
                send_request(&request, numbered(round, 64)).await;
            }
            send_request(&request, Bytes::new()).await;
        }
    });
}

#[test]
fn concurrent_requests_receive_their_own_replies() {
    check(async {
        let (request, reply, _) = pair(&any_tcp(), &options(|options| options)).await;
        let _echo = echo(reply);
        join_all((0..5_000).map(|number| send_request(&request, numbered(number, 64)))).await;
    });
}

#[test]
fn many_peers_are_answered_concurrently() {
    check(async {
        let options = options(|options| options);
        let (reply, bound) = Reply::bind(&any_tcp(), &options).await.unwrap();
        let _echo = echo(reply);
        let peers = (0..50).map(async |peer| {
            let request = Request::connect(&bound, &options).await.unwrap();
            for round in 0..20 {
                send_request(&request, numbered(peer * 100 + round, 64)).await;
            }
        });
        join_all(peers).await;
    });
}

#[test]
fn replies_may_be_sent_in_any_order() {
    check(async {
        let (request, mut reply, _) = pair(&any_tcp(), &options(|options| options)).await;
        let answering = async {
            let mut requests = Vec::new();
            while requests.len() < 500 {
                requests.push(soon("a request", reply.recv()).await.unwrap());
            }
            for (frames, responder) in requests.into_iter().rev() {
                responder.reply(body(&frames).clone()).unwrap();
            }
        };
        let requests =
            join_all((0..500).map(|number| send_request(&request, numbered(number, 64))));
        tokio::join!(answering, requests);
    });
}

#[test]
fn a_peer_that_reads_no_replies_waits_and_loses_none() {
    check(async {
        let folder = IpcFolder::new();
        for address in folder.both("a") {
            let few = options(|options| options.queue_len(16));
            let (reply, bound) = Reply::bind(&address, &few).await.unwrap();
            let _echo = echo(reply);
            let peer = RawPeer::introduced(&bound, "DEALER").await;
            let (mut reader, mut writer) = peer.split();
            // More than the buffers of the system hold.
            let count = 4_000;
            let mut writing = tokio::spawn(async move {
                for request in 0..count {
                    let request = numbered(request, 4096);
                    let frames = [frame(MORE, b""), frame(0, &request)];
                    writer.write(&frames.concat()).await.unwrap();
                }
            });
            // The peer reads no reply, so its requests stop being read.
            let written = tokio::time::timeout(STALLED, &mut writing).await;
            assert!(written.is_err(), "all requests were read");
            for request in 0..count {
                assert_eq!(number(&reader.message().await[1]), request);
            }
            writing.await.unwrap();
        }
    });
}

#[test]
fn a_request_without_a_reply_times_out_and_blocks_no_other() {
    check(async {
        let (request, mut reply, _) = pair(&any_tcp(), &options(|options| options)).await;
        let waited = Duration::from_millis(100);
        let error = request.request(numbered(0, 64), waited).await.unwrap_err();
        let is_timeout =
            matches!(error, RequestError::Timeout { waited: after, .. } if after == waited);
        assert!(is_timeout, "{error:?}");

        let (first, late) = soon("the first request", reply.recv()).await.unwrap();
        assert_eq!(number(body(&first)), 0);
        let answering = async {
            let (second, responder) = soon("the second request", reply.recv()).await.unwrap();
            // The late reply to the first request must not be matched to the second.
            late.reply(Bytes::from_static(b"too late")).unwrap();
            responder.reply(body(&second).clone()).unwrap();
        };
        tokio::join!(answering, send_request(&request, numbered(1, 64)));
    });
}

#[test]
fn a_dropped_request_does_not_affect_others() {
    check(async {
        let (request, reply, _) = pair(&any_tcp(), &options(|options| options)).await;
        for number in 0..100 {
            let abandoned = request.request(numbered(number, 64), SOON);
            tokio::select! {
                biased;
                _ = abandoned => panic!("the first request has no reply yet"),
                () = std::future::ready(()) => {}
            }
        }
        let _echo = echo(reply);
        for number in 100..200 {
            send_request(&request, numbered(number, 64)).await;
        }
    });
}

#[test]
fn a_request_waits_for_its_server_to_bind() {
    check(async {
        let address = unbound_tcp();
        let options = options(|options| options);
        let request = Request::connect(&address, &options).await.unwrap();
        let answering = async {
            // No peer is connected when the request is sent.
            tokio::task::yield_now().await;
            let (reply, _) = Reply::bind(&address, &options).await.unwrap();
            echo(reply)
        };
        let (_echo, ()) = tokio::join!(answering, send_request(&request, numbered(0, 64)));
    });
}

#[test]
fn requests_continue_after_a_restart_of_the_server() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for address in folder.all("a") {
            let (request, mut reply, bound) = pair(&address, &options).await;
            let lost = request.request(numbered(0, 64), STALLED);
            let dying = async {
                soon("the request that is never answered", reply.recv())
                    .await
                    .unwrap();
                reply.close(Duration::ZERO).await;
            };
            let (lost, ()) = tokio::join!(lost, dying);
            assert!(
                matches!(lost, Err(RequestError::Timeout { .. })),
                "{lost:?}"
            );
            let (reply, _) = bind_again(async || Reply::bind(&bound, &options).await).await;
            let _echo = echo(reply);
            for number in 1..100 {
                send_request(&request, numbered(number, 64)).await;
            }
        }
    });
}

#[test]
fn a_reply_to_a_peer_that_left_is_dropped() {
    check(async {
        let options = options(|options| options);
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options).await.unwrap();
        let mut gone = RawPeer::introduced(&bound, "REQ").await;
        gone.write(&[frame(MORE, b""), frame(0, b"bye")].concat())
            .await
            .unwrap();
        let (_, responder) = soon("the request", reply.recv()).await.unwrap();
        drop(gone);
        // Once this peer has a reply, the loss of the other one was detected.
        let request = Request::connect(&bound, &options).await.unwrap();
        let answering = async {
            let (frames, next) = soon("the next request", reply.recv()).await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            responder.reply(Bytes::from_static(b"late")).unwrap();
            next.reply(body(&frames).clone()).unwrap();
        };
        tokio::join!(answering, send_request(&request, numbered(0, 64)));
    });
}

#[test]
fn a_req_socket_of_another_library_is_answered() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "REQ").await;
        let request = [frame(MORE, b""), frame(MORE, b"two"), frame(0, b"frames")];
        peer.write(&request.concat()).await.unwrap();
        let (frames, responder) = soon("the request", reply.recv()).await.unwrap();
        assert_eq!(frames[..], [Bytes::from("two"), Bytes::from("frames")]);
        responder.reply(Bytes::from_static(b"answer")).unwrap();
        assert_eq!(peer.message().await, [b"".to_vec(), b"answer".to_vec()]);
    });
}

#[test]
fn replies_contain_the_whole_envelope() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "DEALER").await;
        let request = [
            frame(MORE, b"far"),
            frame(MORE, b"away"),
            frame(MORE, b""),
            frame(0, b"question"),
        ];
        peer.write(&request.concat()).await.unwrap();
        let (frames, responder) = soon("the request", reply.recv()).await.unwrap();
        assert_eq!(body(&frames), "question");
        responder.reply(Bytes::from_static(b"answer")).unwrap();
        let answer: [&[u8]; 4] = [b"far", b"away", b"", b"answer"];
        assert_eq!(peer.message().await, answer);
    });
}

#[test]
fn messages_without_a_delimiter_are_dropped() {
    check(async {
        let (mut reply, bound) = Reply::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "DEALER").await;
        peer.send(b"no delimiter").await;
        peer.write(&[frame(MORE, b""), frame(0, b"request")].concat())
            .await
            .unwrap();
        let (frames, responder) = soon("the request", reply.recv()).await.unwrap();
        assert_eq!(body(&frames), "request");
        responder.reply(Bytes::from_static(b"answer")).unwrap();
        assert_eq!(peer.message().await, [b"".to_vec(), b"answer".to_vec()]);
    });
}
