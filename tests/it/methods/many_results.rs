//! Methods with many results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use palm::prelude::*;

use super::super::setup::{ANY, Caller, check, options, soon};

/// Yields results until they are not received any more.
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
fn many_results_are_produced_only_as_fast_as_they_are_received() {
    check(async {
        let made = Arc::<AtomicUsize>::default();
        let socket = options().queue_len(10);
        let limits = palm::QueueLimits::new().messages(10);
        let server = Endless { made: made.clone() }
            .bind(ANY)
            .queue_limits(limits);
        let server = server
            .socket_options(socket)
            .drain_limit(Duration::from_millis(500));
        let server = server.spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        caller.send("endless.large", "").await;
        for number in 0..3 {
            assert_eq!(caller.answer().await.len(), 64 * 1024 + number);
        }
        // The call cannot end in time, and its error says so.
        let error = soon("the server's end", server.shutdown())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("Executor"), "{error}");
        // The capacity of the queues and buffers in between.
        assert!(made.load(Ordering::Relaxed) < 3000, "{made:?}");
    });
}
