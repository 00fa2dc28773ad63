//! The registered parts of a component, and their routes and options.

use std::any::{Any, TypeId};

use crate::part::{Binding, ErasedBypass, ErasedInbound, ErasedOutbound};
use crate::parts::{CacheService, WorkerPullService, WorkerPushService};
use crate::payload::type_name;
use crate::router::RouteEntry;

pub(super) struct PartRegistration {
    pub(super) part: AnyPart,
    /// The name of the type of the part.
    pub(super) type_name: String,
    pub(super) role: PartRole,
    pub(super) block: bool,
    pub(super) log: bool,
}

impl PartRegistration {
    pub(super) fn binds(&self) -> Vec<Binding> {
        match &self.part {
            AnyPart::Inbound(part) => part.binds(),
            AnyPart::Outbound(part) => part.binds(),
            AnyPart::Bypass(part) => part.binds(),
        }
    }

    pub(super) fn forwards_only(&self) -> bool {
        match &self.part {
            AnyPart::Inbound(part) => part.forwards_only(),
            AnyPart::Outbound(part) => part.forwards_only(),
            AnyPart::Bypass(part) => part.forwards_only(),
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
    pub(super) fn from_part<P: Any>(_: &P) -> Self {
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

pub(super) enum AnyPart {
    Inbound(Box<dyn ErasedInbound>),
    Outbound(Box<dyn ErasedOutbound>),
    Bypass(Box<dyn ErasedBypass>),
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
pub(super) fn part_type<P>(_: &P) -> String {
    let name = type_name::<P>();
    name.split('<').next().unwrap_or(&name).to_owned()
}
