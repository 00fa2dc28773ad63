//! [`CurrentCall`]: the call whose method this thread runs, for the lines that are logged meanwhile.
//!
//! Costs a comparison per call unless a logger [wants](CurrentCall::want) it. The thread of a blocking method is part of
//! it; tasks and threads that a method starts itself are not.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytestring::ByteString;

use crate::message::Message;

/// Whether a logger wants the ids of calls.
static IS_WANTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: RefCell<Option<Arc<CurrentCall>>> = const { RefCell::new(None) };
}

/// The ids of a call.
#[derive(Debug)]
pub(crate) struct CurrentCall {
    /// The field `client` of its message; empty if it has none.
    #[cfg_attr(not(feature = "logging"), expect(dead_code))]
    pub(crate) call_id: ByteString,
    #[cfg_attr(not(feature = "logging"), expect(dead_code))]
    pub(crate) trace_id: Option<String>,
}

impl CurrentCall {
    /// Records the ids of calls from now on.
    #[cfg(feature = "logging")]
    pub(crate) fn want() {
        IS_WANTED.store(true, Ordering::Relaxed);
    }

    /// Returns the ids of the call of a message; `None` unless a logger wants them.
    #[inline]
    pub(crate) fn of(message: &Message) -> Option<Arc<Self>> {
        if !IS_WANTED.load(Ordering::Relaxed) {
            return None;
        }
        let trace_id = message.trace().and_then(|trace| {
            let id = trace.parent.split('-').nth(1);
            id.map(str::to_owned)
        });
        Some(Arc::new(Self {
            call_id: message.client_topic(),
            trace_id,
        }))
    }

    /// Returns the call whose method this thread polls.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Makes the call the current one while `poll` runs.
    #[inline]
    pub(crate) fn enter<T>(call: Option<&Arc<Self>>, poll: impl FnOnce() -> T) -> T {
        /// Restores the call before, even if the method panics.
        struct Entered(Option<Arc<CurrentCall>>);

        impl Drop for Entered {
            fn drop(&mut self) {
                CURRENT.set(self.0.take());
            }
        }

        let _entered = call.map(|call| Entered(CURRENT.replace(Some(call.clone()))));
        poll()
    }
}
