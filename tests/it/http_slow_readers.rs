//! HTTP/2 clients that read slowly or not at all, or that reset their streams.

use std::time::{Duration, Instant};

use axum::http::{Request, StatusCode};
use futures_util::future::poll_fn;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use palm::ComponentHandle;
use palm::http::{GatewayOptions, Listener};
use palm::prelude::*;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::setup::{ANY, Gate, check, eventually, soon};

const HERE: &str = "127.0.0.1:0";
const LARGE: usize = 1 << 20;

struct Hand {
    gate: Gate,
}

#[palm::worker(server = "shop")]
impl Hand {
    #[palm::method]
    fn large(&self) -> Bytes {
        vec![b'x'; LARGE].into()
    }

    #[palm::method]
    fn small(&self) -> String {
        "small".to_owned()
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    async fn gated(&self) -> String {
        self.gate.pass().await;
        "done".to_owned()
    }
}

struct Shop {
    _master: ComponentHandle,
    worker: ComponentHandle,
    at: String,
    gate: Gate,
}

impl Shop {
    async fn open(write_timeout: Duration, gateway: GatewayOptions) -> Self {
        let listener = Listener::new(HERE).write_timeout(write_timeout);
        let master = Master::new("shop").bind(ANY).gateway(listener, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let gate = Gate::closed();
        let hand = Hand { gate: gate.clone() }.connect(master.db_address());
        let worker = hand.concurrency(1000).spawn().await.unwrap();
        let at = master.address("http_address").unwrap();
        let at = at.strip_prefix("http://").unwrap().to_owned();
        let shop = Self {
            _master: master,
            worker,
            at,
            gate,
        };
        let mut other = shop.connect(LARGE as u32).await;
        let served = async { while other.get("small").await != (StatusCode::OK, 5) {} };
        soon("a worker", served).await;
        shop
    }

    /// Opens a connection whose streams have a window of this many bytes.
    async fn connect(&self, window: u32) -> Connection {
        let stream = TcpStream::connect(&self.at).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(64 << 20)
            .max_concurrent_reset_streams(1_000_000);
        let (client, connection) = builder.handshake(stream).await.unwrap();
        Connection {
            client,
            ended: AbortOnDropHandle::new(tokio::spawn(connection)),
        }
    }
}

/// An HTTP/2 connection.
struct Connection {
    client: SendRequest<Bytes>,
    ended: AbortOnDropHandle<Result<(), h2::Error>>,
}

impl Connection {
    async fn send(&mut self, path: &str) -> Result<ResponseFuture, h2::Error> {
        poll_fn(|context| self.client.poll_ready(context)).await?;
        let request = Request::get(format!("http://localhost/{path}"));
        let (response, _) = self.client.send_request(request.body(()).unwrap(), true)?;
        Ok(response)
    }

    /// Sends a request, and returns the response without reading its body.
    async fn begin(&mut self, path: &str) -> (StatusCode, RecvStream) {
        let response = self.send(path).await.unwrap();
        let response = soon("a response", response).await.unwrap();
        (response.status(), response.into_body())
    }

    /// Sends a request, reads its response, and returns the status and the length.
    async fn get(&mut self, path: &str) -> (StatusCode, usize) {
        let (status, mut body) = self.begin(path).await;
        let mut len = 0;
        while let Some(data) = soon("data", body.data()).await {
            let data = data.unwrap();
            len += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        (status, len)
    }
}

/// Reads only the first bytes, and waits until the stream is reset.
async fn until_reset(mut body: RecvStream) -> h2::Reason {
    let reading = async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason().unwrap_or_else(|| panic!("{error}")),
                None => panic!("the response is complete"),
            }
        }
    };
    soon("the reset", reading).await
}

#[test]
fn stalled_http_2_stream_is_reset_after_the_write_timeout_and_others_continue() {
    check(async {
        let timeout = Duration::from_secs(1);
        let gateway = GatewayOptions::new().max_memory_bytes(LARGE + LARGE / 2);
        let shop = Shop::open(timeout, gateway).await;
        // No window, and one that is smaller than the response.
        for (window, path) in [
            (0, "small"),
            (0, "large"),
            (1000, "large"),
            (LARGE as u32 - 1, "large"),
        ] {
            let mut connection = shop.connect(window).await;
            let begun = Instant::now();
            let (status, stalled) = connection.begin(path).await;
            assert_eq!(status, StatusCode::OK);
            // Other streams of the same connection are answered meanwhile.
            let (status, _) = connection.begin("nothing").await;
            assert_eq!(status, StatusCode::NO_CONTENT);
            assert_eq!(until_reset(stalled).await, h2::Reason::CANCEL);
            assert!(begun.elapsed() >= timeout);
            let (status, _) = connection.begin("nothing").await;
            assert_eq!(
                status,
                StatusCode::NO_CONTENT,
                "the connection is still usable"
            );
            // The memory of the stream is free again.
            let mut other = shop.connect(LARGE as u32).await;
            let read = async { while other.get("large").await != (StatusCode::OK, LARGE) {} };
            soon("memory", read).await;
        }
    });
}

#[test]
fn stream_that_is_read_byte_by_byte_is_reset() {
    check(async {
        let shop = Shop::open(Duration::from_secs(1), GatewayOptions::new()).await;
        let mut connection = shop.connect(1).await;
        let (_, mut body) = connection.begin("large").await;
        let trickle = async {
            let mut read = 0;
            loop {
                match body.data().await {
                    Some(Ok(data)) => {
                        read += data.len();
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        let _ = body.flow_control().release_capacity(data.len());
                    }
                    Some(Err(error)) => return (read, error.reason()),
                    None => panic!("the response is complete"),
                }
            }
        };
        let (read, reason) = soon("the reset", trickle).await;
        assert!((2..64 * 1024).contains(&read), "{read} bytes were read");
        assert_eq!(reason, Some(h2::Reason::CANCEL));
    });
}

#[test]
fn stream_with_a_small_window_is_complete_if_it_is_read() {
    check(async {
        let shop = Shop::open(Duration::from_secs(5), GatewayOptions::new()).await;
        for window in [5, 16 * 1024, 65_535, LARGE as u32, 8 * LARGE as u32] {
            let mut connection = shop.connect(window).await;
            assert_eq!(
                connection.get("small").await,
                (StatusCode::OK, 5),
                "{window}"
            );
            assert_eq!(connection.get("nothing").await, (StatusCode::NO_CONTENT, 0));
            if window > 5 {
                assert_eq!(
                    connection.get("large").await,
                    (StatusCode::OK, LARGE),
                    "{window}"
                );
            }
        }
    });
}

#[test]
fn flood_of_reset_streams_leaves_no_calls_behind() {
    check(async {
        let shop = Shop::open(Duration::from_secs(60), GatewayOptions::new()).await;
        let mut flood = shop.connect(LARGE as u32).await;
        let mut sent = 0;
        let flooding = async {
            for _ in 0..10_000 {
                // Dropping the response resets the stream.
                match flood.send("gated").await {
                    Ok(response) => drop(response),
                    Err(_) => break,
                }
                sent += 1;
                if sent % 10 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        };
        soon("the flood", flooding).await;
        // The server accepts at least this many resets of streams that have not begun.
        assert!(sent >= 20, "{sent}");
        // Others are served, and the calls of the flood are cancelled, whether its connection is closed or not.
        let mut other = shop.connect(LARGE as u32).await;
        assert_eq!(other.get("small").await, (StatusCode::OK, 5));
        let running = || shop.worker.metrics().function("gated").unwrap().running;
        eventually("the end of the calls", || running() == 0).await;
        shop.gate.open();
        assert_eq!(other.get("gated").await, (StatusCode::OK, 4));
        if flood.ended.is_finished() {
            assert!((&mut flood.ended).await.unwrap().is_err());
        }
    });
}
