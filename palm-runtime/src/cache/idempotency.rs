//! Idempotent repetition of cache requests.
//!
//! A client that receives no reply repeats its request, and cannot know whether the request or its reply was lost. So a
//! request that must not be performed twice carries an id (an idempotency key), and [`IdempotencyCache`] keeps the reply to
//! each id for longer than clients repeat requests.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Longest id of a request.
pub(super) const MAX_ID_BYTES: usize = 64;

/// Number of replies that are kept.
const MAX_REPLIES: usize = 100_000;
/// Time that a reply is kept. Clients repeat a request for at most a minute.
const REPLY_EXPIRY: Duration = Duration::from_secs(120);

/// The reply to a request: `Ok` to keep it, `Err` if nothing was changed, so that the repeated request is performed
/// again.
pub(super) type IdempotentReply = Result<Bytes, Bytes>;

/// The replies to the latest requests, by request id.
#[derive(Debug, Default)]
pub(crate) struct IdempotencyCache(Mutex<KeptReplies>);

#[derive(Debug, Default)]
struct KeptReplies {
    answers: HashMap<Bytes, Arc<OnceCell<Bytes>>>,
    order: VecDeque<(Instant, Bytes)>,
}

impl IdempotencyCache {
    /// Returns the reply to the request `id`. Runs `carry_out` unless the reply is known. A concurrent repetition waits
    /// for the same reply.
    pub(super) async fn once<F: Future<Output = IdempotentReply>>(
        &self,
        id: &Bytes,
        carry_out: impl FnOnce() -> F,
    ) -> Bytes {
        let answer = self.slot(id, Instant::now());
        match answer.get_or_try_init(carry_out).await {
            Ok(answer) => answer.clone(),
            Err(answer) => answer,
        }
    }

    fn slot(&self, id: &Bytes, now: Instant) -> Arc<OnceCell<Bytes>> {
        let mut requests = self.0.lock();
        let KeptReplies { answers, order } = &mut *requests;
        while let Some((since, _)) = order.front()
            && (order.len() >= MAX_REPLIES || now.duration_since(*since) > REPLY_EXPIRY)
        {
            if let Some((_, id)) = order.pop_front() {
                answers.remove(&id);
            }
        }
        if let Some(answer) = answers.get(id) {
            return answer.clone();
        }
        // A slice would keep the whole request in memory.
        let id = Bytes::copy_from_slice(id);
        order.push_back((now, id.clone()));
        answers.entry(id).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(
        idempotency: &IdempotencyCache,
        id: &'static str,
        outcome: IdempotentReply,
        expected: &str,
    ) {
        let answer = idempotency.once(&id.into(), || async { outcome }).await;
        assert_eq!(answer, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_request_returns_the_kept_reply_until_it_expires() {
        let idempotency = IdempotencyCache::default();
        check(&idempotency, "1", Ok("first".into()), "first").await;
        check(&idempotency, "1", Ok("second".into()), "first").await;
        check(&idempotency, "2", Err("differs".into()), "differs").await;
        check(&idempotency, "2", Ok("done".into()), "done").await;
        check(&idempotency, "2", Err("differs".into()), "done").await;
        tokio::time::advance(REPLY_EXPIRY + Duration::from_secs(1)).await;
        check(&idempotency, "1", Ok("second".into()), "second").await;
        assert_eq!(idempotency.0.lock().answers.len(), 1);
    }

    #[tokio::test]
    async fn concurrent_repetition_waits_for_the_first_reply() {
        let idempotency = IdempotencyCache::default();
        let id = Bytes::from("1");
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let first = idempotency.once(&id, || async {
            is_done.await.unwrap();
            Ok("first".into())
        });
        let second = idempotency.once(&id, || async { panic!("performed twice") });
        let finish = async { done.send(()).unwrap() };
        let (first, second, ()) = tokio::join!(first, second, finish);
        assert_eq!((first, second), ("first".into(), "first".into()));
    }

    #[tokio::test]
    async fn oldest_replies_are_dropped_first() {
        let idempotency = IdempotencyCache::default();
        for n in 0..=MAX_REPLIES as u64 {
            idempotency.slot(&n.to_be_bytes().to_vec().into(), Instant::now());
        }
        let requests = idempotency.0.lock();
        assert_eq!(
            (requests.answers.len(), requests.order.len()),
            (MAX_REPLIES, MAX_REPLIES)
        );
        assert!(!requests.answers.contains_key(&0u64.to_be_bytes()[..]));
    }
}
