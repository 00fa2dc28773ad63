//! The registered parts of a component, and their routes and options.

use std::any::{Any, TypeId};
use std::sync::Arc;

use crate::metrics::PartCounters;
use crate::part::{
    AnyInboundHooks, Binding, Bypass, ClosedPart, Inbound, InboundHooks, Inlet, OpenError,
    Outbound, Outlet, Running, Setup, Stop,
};
use crate::parts::{CacheService, WorkerPullService, WorkerPushService};
use crate::payload::type_name;
use crate::router::{PartKind, RouteEntry};

pub(super) struct PartRegistration {
    pub(super) part: AnyPart,
    /// The name of the type of the part.
    pub(super) type_name: String,
    pub(super) role: PartRole,
    /// Whether the part only forwards messages, and never blocks its thread for long.
    pub(super) forwards_only: bool,
    /// The hooks of an inbound part, and whether the part runs any.
    pub(super) hooks: AnyInboundHooks,
    pub(super) runs_hooks: bool,
    /// The addresses that the part will bind.
    pub(super) binds: Vec<Binding>,
    pub(super) block: bool,
    pub(super) log: bool,
}

impl PartRegistration {
    pub(super) fn inbound<P: Inbound>(part: P) -> Self {
        let (forwards_only, binds) = (part.forwards_only(), part.binds());
        let runs_hooks = part.runs_hooks();
        let part = AnyPart::Inbound(ClosedPart::inbound(part));
        Self {
            runs_hooks,
            ..Self::new::<P>(part, forwards_only, binds)
        }
    }

    pub(super) fn outbound<P: Outbound>(part: P) -> Self {
        let (forwards_only, binds) = (part.forwards_only(), part.binds());
        Self::new::<P>(
            AnyPart::Outbound(ClosedPart::outbound(part)),
            forwards_only,
            binds,
        )
    }

    pub(super) fn bypass<P: Bypass>(part: P) -> Self {
        let (forwards_only, binds) = (part.forwards_only(), part.binds());
        Self::new::<P>(
            AnyPart::Bypass(ClosedPart::bypass(part)),
            forwards_only,
            binds,
        )
    }

    fn new<P: Any>(part: AnyPart, forwards_only: bool, binds: Vec<Binding>) -> Self {
        Self {
            part,
            type_name: part_type::<P>(),
            role: PartRole::of_part::<P>(),
            forwards_only,
            hooks: AnyInboundHooks::default(),
            runs_hooks: false,
            binds,
            block: false,
            log: false,
        }
    }
}

impl std::fmt::Debug for PartRegistration {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "PartRegistration(block: {}, log: {})",
            self.block, self.log
        )
    }
}

/// The role of a part for other parts, if the template needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartRole {
    Other,
    /// Sends tasks to workers, whose results another part receives.
    SendsTasks,
    /// Receives the results of workers.
    ReceivesResults,
    /// The cache service.
    Cache,
}

impl PartRole {
    fn of_part<P: Any>() -> Self {
        let part = TypeId::of::<P>();
        if part == TypeId::of::<WorkerPushService>() {
            Self::SendsTasks
        } else if part == TypeId::of::<WorkerPullService>() {
            Self::ReceivesResults
        } else if part == TypeId::of::<CacheService>() {
            Self::Cache
        } else {
            Self::Other
        }
    }
}

/// A part that is not open yet.
pub(super) enum AnyPart {
    Inbound(ClosedPart<Outlet>),
    Outbound(ClosedPart<(Inlet, Outlet)>),
    Bypass(ClosedPart<Stop>),
}

impl AnyPart {
    pub(super) fn kind(&self) -> PartKind {
        match self {
            Self::Inbound(_) => PartKind::Inbound,
            Self::Outbound(_) => PartKind::Outbound,
            Self::Bypass(_) => PartKind::Bypass,
        }
    }

    pub(super) async fn open(self, setup: &mut Setup<'_>) -> Result<AnyRunning, OpenError> {
        Ok(match self {
            Self::Inbound(part) => AnyRunning::Inbound(part.open(setup).await?),
            Self::Outbound(part) => AnyRunning::Outbound(part.open(setup).await?),
            Self::Bypass(part) => AnyRunning::Bypass(part.open(setup).await?),
        })
    }
}

/// A part that is open.
pub(super) enum AnyRunning {
    Inbound(Running<Outlet>),
    Outbound(Running<(Inlet, Outlet)>),
    Bypass(Running<Stop>),
}

/// An open part, with what the others need to know of it.
pub(super) struct OpenedPart {
    pub(super) running: AnyRunning,
    pub(super) entry: RouteEntry,
    pub(super) role: PartRole,
    pub(super) forwards_only: bool,
    pub(super) block: bool,
    pub(super) log: bool,
    pub(super) counters: Arc<PartCounters>,
}

/// The routes and options of a registered inbound part.
#[derive(Debug)]
pub struct InboundEntry<'a> {
    pub(super) entry: &'a mut RouteEntry,
    pub(super) registration: &'a mut PartRegistration,
}

impl InboundEntry<'_> {
    /// Sets the outbound part that receives its messages. Required.
    pub fn route(self, outbound: impl Into<String>) -> Self {
        self.entry.route = Some(outbound.into());
        self
    }

    /// Sets the outbound part that receives a message with the error in it if the hook `scatter` fails.
    ///
    /// Usually that is the part that publishes, so that the caller receives the error. Default: that of the
    /// [`route`](Self::route), whose parts forward the message.
    pub fn failures(self, outbound: impl Into<String>) -> Self {
        self.entry.failures = Some(outbound.into());
        self
    }

    /// Runs `hooks` on each message. Default: none.
    ///
    /// The component does not start if the part runs no hooks: those of this crate with a socket do, and `HttpService`.
    pub fn hooks(self, hooks: impl InboundHooks) -> Self {
        self.registration.hooks = AnyInboundHooks::new(hooks);
        self
    }

    /// Sets whether the part waits for the outbound part's answer to each message. Default: no.
    pub fn block(self, block: bool) -> Self {
        self.registration.block = block;
        self
    }

    /// Sets whether each message is logged, at level DEBUG. Default: no.
    pub fn log(self, log: bool) -> Self {
        self.registration.log = log;
        self
    }
}

/// The routes and options of a registered outbound part.
#[derive(Debug)]
pub struct OutboundEntry<'a> {
    pub(super) entry: &'a mut RouteEntry,
    pub(super) registration: &'a mut PartRegistration,
}

impl OutboundEntry<'_> {
    /// Sets the outbound part that receives its answers. Default: none.
    ///
    /// A part that publishes needs no route, nor does one whose answers are returned to an inbound part that
    /// [waits](InboundEntry::block).
    pub fn route(self, outbound: impl Into<String>) -> Self {
        self.entry.route = Some(outbound.into());
        self
    }

    /// Sets the outbound part that receives a message with the error in it if it could not be handled. Default: that of
    /// the [`route`](Self::route).
    pub fn failures(self, outbound: impl Into<String>) -> Self {
        self.entry.failures = Some(outbound.into());
        self
    }

    /// Sets whether each answer is logged, at level DEBUG. Default: no.
    pub fn log(self, log: bool) -> Self {
        self.registration.log = log;
        self
    }
}

/// Returns the name of a part's type without its generic arguments.
fn part_type<P>() -> String {
    let name = type_name::<P>();
    name.split('<').next().unwrap_or(&name).to_owned()
}
