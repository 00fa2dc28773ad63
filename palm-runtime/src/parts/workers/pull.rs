//! [`WorkerPullService`]: the inbound part of a master, which receives the results of workers.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::legacy::count_results;
use crate::discovery::IntoAddress;
use crate::failure::BoxError;
use crate::link::inbound::InboundEvent;
use crate::metrics::PartCounters;
use crate::part::{
    AnyInboundHooks, Binding, Inbound, LegacyAddress, OpenError, Outlet, Running, Setup,
};
use crate::parts::context::PartContext;
use crate::parts::link_source::{LinkPeers, PullAndLinks};
use crate::parts::pending_replies::PendingReplies;
use crate::parts::receive_loop::{
    ConsumedMessages, MessageIds, MessageSource, ReceiveLoop, SourceEvent,
};
use crate::socket::{Pull, SocketClosed};

/// An inbound part that receives the results of workers over links, and of legacy workers at a PULL socket.
/// Announced as `worker_pull_address`.
///
/// An example is at [`WorkerPushService`](crate::parts::WorkerPushService).
#[derive(Debug)]
pub struct WorkerPullService {
    address: LegacyAddress,
}

impl WorkerPullService {
    /// Binds `address`.
    pub fn bind(address: impl IntoAddress) -> Self {
        Self::at(LegacyAddress::configured(address.into_address()))
    }

    pub(crate) fn at(address: LegacyAddress) -> Self {
        Self { address }
    }
}

impl Inbound for WorkerPullService {
    fn forwards_only(&self) -> bool {
        true
    }

    fn binds(&self) -> Vec<Binding> {
        vec![Binding::legacy(
            "worker_pull_address",
            &self.address.address,
        )]
    }

    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let pull = setup
            .legacy_socket(
                "worker_pull_address",
                &self.address,
                Pull::idle,
                Pull::peers,
            )
            .await?;
        let linked = setup.state.links.take_results();
        let opened = PartContext::new(setup);
        Ok(Running::inbound(|outlet| {
            receive_results(pull, opened, None, linked, outlet)
        }))
    }
}

/// Receives results and sends them on, until the component stops and the results of all tasks have arrived.
pub(in crate::parts) async fn receive_results(
    pull: Option<Pull>,
    opened: PartContext,
    replies: Option<&PendingReplies>,
    linked: Option<mpsc::UnboundedReceiver<InboundEvent>>,
    mut outlet: Outlet,
) -> Result<(), BoxError> {
    // The limit of messages counts calls, not results.
    outlet.remaining = None;
    let component = outlet.stop.clone();
    let token = CancellationToken::new();
    outlet.stop = component.with_token(token.clone());
    let mut source = ResultSource {
        counters: opened.counters.clone(),
        source: PullAndLinks::new(pull, linked, LinkPeers::Workers, opened.state.clone()),
        replies,
    };
    let state = opened.state.clone();
    let hooks = AnyInboundHooks::default();
    let receive_loop =
        ReceiveLoop::new(opened, hooks, MessageIds::Unchanged, outlet).for_results(state.clone());
    let stopping = async {
        component.stopped().await;
        state.outstanding.done(&component).await;
        token.cancel();
    };
    let (result, ()) = tokio::join!(receive_loop.run(&mut source), stopping);
    result?;
    source.source.close().await;
    Ok(())
}

/// The source of results, which also answers the requests that wait for them.
struct ResultSource<'a> {
    source: PullAndLinks,
    counters: Arc<PartCounters>,
    replies: Option<&'a PendingReplies>,
}

impl ResultSource<'_> {
    fn count(&self, results: &mut Vec<SourceEvent>) {
        let state = &self.source.linked.state;
        self.counters.count_dropped(state.links.take_strays());
        if self.source.pull.is_some() {
            count_results(state, results);
        }
        if let Some(replies) = self.replies {
            replies.answer_all(results.iter().filter_map(SourceEvent::batch));
        }
    }
}

impl MessageSource for ResultSource<'_> {
    async fn recv_many(
        &mut self,
        out: &mut Vec<SourceEvent>,
        max: usize,
    ) -> Result<(), SocketClosed> {
        self.source.recv_many(out, max).await?;
        self.count(out);
        Ok(())
    }

    fn try_recv_many(&mut self, out: &mut Vec<SourceEvent>, max: usize) {
        self.source.try_recv_many(out, max);
        self.count(out);
    }

    fn return_credit(&mut self, messages: &mut Vec<ConsumedMessages>) {
        self.source.return_credit(messages);
    }
}
