//! Drives a link: connects, reconnects, and renews the session when the last one is over.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::silence::SilenceLimit;
use super::{ClientState, LinkArrival, LinkClient, new_session};
use crate::clock;
use crate::link::session::ACK_DELAY;
use crate::message::proto::LinkHello;
use crate::socket::{Dealer, DealerSender, SocketClosed, SocketError};

/// A timer that fires this late shows that this process was stopped, or that a method blocked its thread.
const STALL_THRESHOLD: Duration = Duration::from_millis(500);

impl LinkClient {
    /// Drives the link, and runs `receive`, which waits for its [`LinkArrivals`](super::LinkArrivals), until one of them ends. Returns the
    /// output of `receive` if that ended.
    ///
    /// # Errors
    ///
    /// As [`drive`](Self::drive).
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe if `receive` is.
    pub(crate) async fn drive_with<T>(
        &self,
        receive: impl Future<Output = T>,
    ) -> Result<Option<T>, SocketError> {
        let mut drive = pin!(self.drive());
        let mut receive = pin!(receive);
        poll_fn(|context| {
            self.arrivals.set_polled_next(true);
            let driven = drive.as_mut().poll(context);
            self.arrivals.set_polled_next(false);
            match driven {
                Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
                Poll::Pending => receive.as_mut().poll(context).map(|it| Ok(Some(it))),
            }
        })
        .await
    }

    /// Connects, reconnects and receives, until the socket is closed.
    ///
    /// If several tasks call it, one drives the link, and when its future is dropped, the next one takes over.
    ///
    /// # Errors
    ///
    /// [`SocketError::Connect`] if the address cannot be connected to.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: no message is lost.
    pub(crate) async fn drive(&self) -> Result<(), SocketError> {
        let mut slot = self.dealer.lock().await;
        let _driven = self.liveness.drive();
        let mut silence_limit = SilenceLimit::new(self.options.idle_timeout);
        loop {
            let dealer = match &mut *slot {
                Some(dealer) => dealer,
                None => {
                    let shared = match &self.requests {
                        Some(requests) => requests.take_dealer().await,
                        None => None,
                    };
                    let dealer = match shared {
                        Some(shared) => shared,
                        None => self.connect().await?,
                    };
                    self.state().dealer = Some(dealer.sender());
                    slot.insert(dealer)
                }
            };
            let sender = dealer.sender();
            let connected = clock::now();
            let conversed = tokio::select! {
                biased;
                conversed = self.drive_connection(dealer, silence_limit.get()) => conversed,
                never = self.explain_disconnections(&sender) => match never {},
            };
            if conversed.is_err() {
                // The socket is closed, since the component has stopped.
                return Ok(());
            }
            tracing::warn!(
                address = %self.address,
                silence_limit = ?silence_limit.get(),
                "no sign of life from the peer: reconnecting"
            );
            let is_received = self.state().session.last_heard() > connected;
            silence_limit.connection_ended(is_received, fastrand::f32());
            self.state().dealer = None;
            self.notify_changed();
            // Requests wait for the new socket, so it replaces the old one before that is closed.
            let dealer = self.connect().await?;
            {
                let mut state = self.state();
                state.dealer = Some(dealer.sender());
                state.session.reconnected();
            }
            if let Some(silent) = slot.replace(dealer) {
                silent.close(Duration::ZERO).await;
            }
        }
    }

    /// Opens a connection, which requests use as well.
    async fn connect(&self) -> Result<Dealer, SocketError> {
        let dealer = Dealer::connect(&self.address, &self.sockets).await?;
        if let Some(requests) = &self.requests {
            requests.use_dealer(dealer.sender());
        }
        Ok(dealer)
    }

    /// Logs why the connection is missing, if it is for longer than a moment. Never completes. Cancel safe.
    async fn explain_disconnections(&self, sender: &DealerSender) -> Infallible {
        let unanswered =
            || "it accepts connections, but no link opens: it is stopped or busy".to_owned();
        loop {
            let seen = sender.peers_generation();
            let changed = sender.peers_changed(seen);
            let changed = if sender.has_peer() {
                self.connecting.is_over();
                changed.await
            } else {
                tokio::select! {
                    changed = changed => changed,
                    never = self.connecting.explain(&unanswered) => match never {},
                }
            };
            if changed.is_err() {
                // The socket is closed.
                return std::future::pending().await;
            }
        }
    }

    /// Drives the session over one connection, until the peer has been silent for `silence_limit`.
    async fn drive_connection(
        &self,
        dealer: &mut Dealer,
        silence_limit: Duration,
    ) -> Result<(), SocketClosed> {
        let mut begin = clock::now();
        let mut planned = begin;
        let sender = dealer.sender();
        let mut messages = Vec::new();
        // These live as long as the connection, so that a message does not register each of them again.
        let mut changed = pin!(sender.peers_changed(sender.peers_generation()));
        let mut calls_added = pin!(self.calls_added.notified());
        let mut timer = pin!(tokio::time::sleep(self.options.idle_timeout));
        loop {
            let now = clock::now();
            if now.saturating_duration_since(planned)
                > STALL_THRESHOLD.min(self.options.idle_timeout / 4)
            {
                // This process was stalled and has not read its socket, so the peer may not have been silent.
                begin = now;
            }
            let due = {
                let mut state = self.state();
                self.renew_session(&mut state, now);
                state.flush(now);
                // A disconnected peer is not expected to show signs of life.
                let silent = state.is_connected().then(|| {
                    let heard = state.session.last_heard().max(begin);
                    heard + silence_limit
                });
                if silent.is_some_and(|silent| silent <= now) {
                    return Ok(());
                }
                let due = [state.session.timeout(), state.retry_at, silent];
                let due = due.into_iter().flatten().min();
                let due = due.map_or(now + self.options.idle_timeout, |due| due.max(now));
                self.liveness.driven(due, state.session.heartbeat());
                due
            };
            planned = due;
            // Tokio's timers have a resolution of 1 ms.
            let due = tokio::time::Instant::from(due + Duration::from_millis(1));
            // Each message starts a timer of the session, which the next one stops. Therefore each message puts `timer`
            // off, by the shortest delay of a session, so that it fires only in a pause. Setting it to an earlier time
            // would cost more: the lock of tokio's timer wheel, and often a wakeup of the thread that waits for it.
            let due = match timer.is_elapsed() {
                true => due,
                false => due.min(timer.deadline().max((now + ACK_DELAY).into())),
            };
            if due != timer.deadline() {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                received = dealer.recv_many(&mut messages, 256) => received?,
                is_open = &mut changed => {
                    is_open?;
                    changed.set(sender.peers_changed(sender.peers_generation()));
                    let mut state = self.state();
                    state.session.reconnected();
                    drop(state);
                    self.notify_changed();
                }
                // The flush at the beginning of the loop sends the calls that other tasks add until then.
                () = &mut calls_added => {
                    calls_added.set(self.calls_added.notified());
                    tokio::task::yield_now().await;
                }
                () = &mut timer => {}
            }
            if !messages.is_empty() {
                self.receive(messages.drain(..));
            }
        }
    }

    /// Begins a new session if the last one is over.
    pub(super) fn renew_session(&self, state: &mut ClientState, now: Instant) {
        if !state.session.is_over()
            || state.is_draining
            || state.retry_at.is_some_and(|end| end > now)
        {
            return;
        }
        state.retry_at = None;
        state.session_number += 1;
        state.peer_is_draining = false;
        state.peer_finished = false;
        state.task_limit = state.task_limit.saturating_sub(state.received_tasks);
        state.received_tasks = 0;
        let window = state.pace.window();
        if state.session.peer_followers() > 0 {
            state.peer_followers = state.session.peer_followers();
        }
        let hello = LinkHello {
            again: state.is_open,
            followers: state.peer_followers,
            concurrency: match self.hello.concurrency {
                0 => 0,
                _ => state.concurrency(),
            },
            ..self.hello.clone()
        };
        state.session = new_session(&hello, window, self.options.heartbeat, now);
        state.session.set_lent_slots(state.pace.lent);
        state.session.set_limit(state.task_limit);
        for item in std::mem::take(&mut state.next_session) {
            state.session.submit(item, now);
        }
        if std::mem::take(&mut state.is_lost) {
            self.arrivals.push(vec![LinkArrival::Renewed]);
        }
    }
}
