//! [`Setup`]: the component in which a part is opened, and the addresses that it binds and announces.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::AnyInboundHooks;
use crate::cache::ComponentStore;
use crate::component_state::{ComponentState, OnDemandSocket};
use crate::context::ComponentContext;
use crate::failure::BoxError;
use crate::method::FunctionInfo;
use crate::metrics::{FunctionCounters, PartCounters};
use crate::socket::{Address, AddressError, Peers, ReservedPort, SocketError, SocketOptions};

/// The address of a socket that only legacy peers use.
#[derive(Debug, Clone)]
pub(crate) struct LegacyAddress {
    pub(crate) address: Result<Address, AddressError>,
    /// Whether the address is the default, and not set by the user.
    pub(crate) is_default: bool,
}

impl LegacyAddress {
    pub(crate) fn configured(address: Result<Address, AddressError>) -> Self {
        Self {
            address,
            is_default: false,
        }
    }
}

/// The component in which a part is opened: its name, its options, and the addresses that it announces.
#[derive(Debug)]
pub struct Setup<'a> {
    pub(crate) context: &'a Arc<ComponentContext>,
    pub(crate) state: &'a Arc<ComponentState>,
    pub(crate) store: &'a Arc<ComponentStore>,
    pub(crate) options: &'a SocketOptions,
    pub(crate) advertised_host: Option<&'a str>,
    /// Whether peers reach the component only over links.
    pub(crate) links_only: bool,
    pub(crate) announced: &'a mut BTreeMap<String, String>,
    /// The option that sets the address which is bound next; for errors.
    pub(crate) option: &'a mut Option<&'static str>,
    pub(crate) counters: Arc<PartCounters>,
    /// The hooks of an inbound part.
    pub(crate) hooks: AnyInboundHooks,
    pub(crate) functions: &'a mut Vec<Arc<FunctionCounters>>,
    /// The functions that can be called.
    pub(crate) described: &'a mut Vec<FunctionInfo>,
}

impl Setup<'_> {
    /// Returns the component's name.
    pub fn component(&self) -> &str {
        &self.context.name
    }

    /// Returns the component's socket options. Binding a socket with these options fails if other hosts could reach it
    /// and the network is not trusted.
    pub fn socket_options(&self) -> &SocketOptions {
        self.options
    }

    /// Creates a socket for legacy peers, and binds it: now, or when the first peer requests its address under `key`.
    ///
    /// `key` is also the option that sets the address. Returns `None` if the component has links only.
    pub(crate) async fn legacy_socket<S>(
        &mut self,
        key: &'static str,
        legacy: &LegacyAddress,
        idle: fn(&SocketOptions) -> S,
        peers: fn(&S) -> Peers,
    ) -> Result<Option<S>, SocketError> {
        let address = self.bind_address(key, &legacy.address)?;
        if self.links_only {
            return Ok(None);
        }
        let socket = idle(self.options);
        self.bind_legacy(key, address, legacy.is_default, peers(&socket))
            .await?;
        Ok(Some(socket))
    }

    async fn bind_legacy(
        &mut self,
        key: &'static str,
        address: Address,
        is_default: bool,
        socket: Peers,
    ) -> Result<(), SocketError> {
        if let Some(network) = &self.options.network {
            address.check(network)?;
        }
        if is_default && self.state.links.options().enabled {
            match ReservedPort::new(&address) {
                Ok(Some(port)) => {
                    self.bind_on_demand(key, port, socket);
                    return Ok(());
                }
                Ok(None) => {}
                Err(source) => return Err(SocketError::Bind { address, source }),
            }
        }
        let bound = socket.bind(&address, self.options).await?;
        self.announce(key, &bound);
        Ok(())
    }

    /// Binds `socket` when the first peer requests its address under `key`.
    fn bind_on_demand(&mut self, key: &'static str, port: ReservedPort, socket: Peers) {
        let address = port.address();
        if let (Some(network), Some(host)) = (&self.options.network, address.host()) {
            network.note(host, address);
        }
        self.announce(key, &address.clone());
        self.state.on_demand.add(OnDemandSocket {
            key,
            port,
            socket,
            options: self.options.clone(),
            runtime: Handle::current(),
            span: tracing::Span::current(),
        });
    }

    /// Returns the address that a socket is to be bound to, and remembers the `option` that sets it for errors.
    pub(crate) fn bind_address(
        &mut self,
        option: &'static str,
        address: &Result<Address, AddressError>,
    ) -> Result<Address, SocketError> {
        *self.option = Some(option);
        Ok(address.clone()?)
    }

    /// Announces the address of the part to peers under the cache key `key`, and returns the announced address.
    ///
    /// A wildcard host is replaced by one that peers can connect to.
    pub fn announce(&mut self, key: &str, bound: &Address) -> Address {
        let address = bound.for_peers(self.advertised_host);
        self.announced.insert(key.to_owned(), address.to_string());
        address
    }

    /// Returns the hooks that the part is registered with.
    pub(crate) fn take_hooks(&mut self) -> AnyInboundHooks {
        std::mem::take(&mut self.hooks)
    }

    pub(crate) fn counters(&self) -> Arc<PartCounters> {
        self.counters.clone()
    }
}

/// An address that a part will bind.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Binding {
    /// The option that sets the address, such as `pull_address`.
    pub(crate) option: &'static str,
    pub(crate) address: Result<Address, AddressError>,
    /// Whether only legacy peers use the address, so that it is not bound with `links_only`.
    pub(crate) is_legacy: bool,
}

impl Binding {
    pub(crate) fn new(option: &'static str, address: &Result<Address, AddressError>) -> Self {
        let address = address.clone();
        let is_legacy = false;
        Self {
            option,
            address,
            is_legacy,
        }
    }

    pub(crate) fn legacy(option: &'static str, address: &Result<Address, AddressError>) -> Self {
        let is_legacy = true;
        Self {
            is_legacy,
            ..Self::new(option, address)
        }
    }
}

/// The error of a part that could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A socket could not be bound or connected.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// An error of a part that is implemented by the user.
    #[error(transparent)]
    Custom(#[from] BoxError),
}
