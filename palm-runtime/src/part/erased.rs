//! Object-safe versions of the traits of parts.

use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::{Binding, Bypass, Inbound, Inlet, OpenError, Outbound, Outlet, Setup};
use crate::failure::BoxError;
use crate::stop::Stop;

pub(crate) type Opening<'a> = BoxFuture<'a, Result<(), OpenError>>;

pub(crate) type RunningPart = BoxFuture<'static, Result<(), BoxError>>;

pub(crate) trait ErasedInbound: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, outlet: Outlet) -> RunningPart;
}

impl<P: Inbound> ErasedInbound for P {
    fn forwards_only(&self) -> bool {
        Inbound::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Inbound::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Inbound::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, outlet: Outlet) -> RunningPart {
        Inbound::run(*self, outlet).boxed()
    }
}

pub(crate) trait ErasedOutbound: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, inlet: Inlet, outlet: Outlet) -> RunningPart;
}

impl<P: Outbound> ErasedOutbound for P {
    fn forwards_only(&self) -> bool {
        Outbound::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Outbound::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Outbound::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, inlet: Inlet, outlet: Outlet) -> RunningPart {
        Outbound::run(*self, inlet, outlet).boxed()
    }
}

pub(crate) trait ErasedBypass: Send {
    fn forwards_only(&self) -> bool;
    fn binds(&self) -> Vec<Binding>;
    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a>;
    fn run(self: Box<Self>, stop: Stop) -> RunningPart;
}

impl<P: Bypass> ErasedBypass for P {
    fn forwards_only(&self) -> bool {
        Bypass::forwards_only(self)
    }

    fn binds(&self) -> Vec<Binding> {
        Bypass::binds(self)
    }

    fn open<'a>(&'a mut self, setup: &'a mut Setup<'_>) -> Opening<'a> {
        Bypass::open(self, setup).boxed()
    }

    fn run(self: Box<Self>, stop: Stop) -> RunningPart {
        Bypass::run(*self, stop).boxed()
    }
}
