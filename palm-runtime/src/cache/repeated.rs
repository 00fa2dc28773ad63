//! Requests that come again: each is carried out once.
//!
//! A client that gets no answer asks again, and cannot know whether the request was lost or its
//! answer. What must not be done twice carries an id; what came of it is remembered here.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Longest id of a request.
pub(super) const ID_BYTES: usize = 64;

/// How many requests are remembered, and for how long. Clients ask again each second, for a minute.
const LEN: usize = 100_000;
const RECORD_EXPIRY: Duration = Duration::from_secs(120);

/// What came of a request: what is to be remembered, or what may come out differently next time,
/// since nothing was changed.
pub(super) type Outcome = Result<Bytes, Bytes>;

/// What came of the latest requests, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Repeated(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    answers: HashMap<Bytes, Arc<OnceCell<Bytes>>>,
    order: VecDeque<(Instant, Bytes)>,
}

impl Repeated {
    /// The answer to the request `id`, which `carry_out` gives unless it was carried out before. One
    /// that comes again meanwhile waits for the same answer.
    pub(super) async fn once<F: Future<Output = Outcome>>(
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
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Requests { answers, order } = &mut *requests;
        while let Some((since, _)) = order.front()
            && (order.len() >= LEN || now.duration_since(*since) > RECORD_EXPIRY)
        {
            if let Some((_, id)) = order.pop_front() {
                answers.remove(&id);
            }
        }
        if let Some(answer) = answers.get(id) {
            return answer.clone();
        }
        // A view would keep all of the request in memory.
        let id = Bytes::copy_from_slice(id);
        order.push_back((now, id.clone()));
        answers.entry(id).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(repeated: &Repeated, id: &'static str, outcome: Outcome, expected: &str) {
        let answer = repeated.once(&id.into(), || async { outcome }).await;
        assert_eq!(answer, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_carried_out_is_not_carried_out_again() {
        let repeated = Repeated::default();
        check(&repeated, "1", Ok("first".into()), "first").await;
        check(&repeated, "1", Ok("second".into()), "first").await;
        check(&repeated, "2", Err("differs".into()), "differs").await;
        check(&repeated, "2", Ok("done".into()), "done").await;
        check(&repeated, "2", Err("differs".into()), "done").await;
        tokio::time::advance(RECORD_EXPIRY + Duration::from_secs(1)).await;
        check(&repeated, "1", Ok("second".into()), "second").await;
        assert_eq!(repeated.0.lock().unwrap().answers.len(), 1);
    }

    #[tokio::test]
    async fn what_comes_again_meanwhile_waits_for_the_answer() {
        let repeated = Repeated::default();
        let id = Bytes::from("1");
        let (done, is_done) = tokio::sync::oneshot::channel::<()>();
        let first = repeated.once(&id, || async {
            is_done.await.unwrap();
            Ok("first".into())
        });
        let second = repeated.once(&id, || async { panic!("carried out twice") });
        let finish = async { done.send(()).unwrap() };
        let (first, second, ()) = tokio::join!(first, second, finish);
        assert_eq!((first, second), ("first".into(), "first".into()));
    }

    #[tokio::test]
    async fn the_oldest_are_forgotten_first() {
        let repeated = Repeated::default();
        for n in 0..=LEN as u64 {
            repeated.slot(&n.to_be_bytes().to_vec().into(), Instant::now());
        }
        let requests = repeated.0.lock().unwrap();
        assert_eq!((requests.answers.len(), requests.order.len()), (LEN, LEN));
        assert!(!requests.answers.contains_key(&0u64.to_be_bytes()[..]));
    }
}
