//! The addresses of components: those of the file, those that were chosen before, and sockets in a folder.

use std::collections::{BTreeMap, BTreeSet};

use super::Places;
use crate::address::Address;
use crate::cluster::{Cluster, Component};
use crate::kind::Kind;
use crate::template::{Endpoint, Placeholder};

impl Cluster {
    /// Returns the addresses of all components as others connect to them, by key and endpoint, such as `master.db`.
    pub fn addresses(&self, places: &Places) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::new();
        let needed = self.needed();
        for component in &self.components {
            let is_needed = |endpoint| needed.contains(&(component.key().to_owned(), endpoint));
            for endpoint in Endpoint::ALL {
                let has_db = endpoint == Endpoint::Db && component.is(Kind::binds);
                let has_address = endpoint == Endpoint::Address
                    && component.address.is_some()
                    && !component.is(Kind::binds);
                if has_db || has_address || is_needed(endpoint) {
                    let address = self.address(component, endpoint, places).connectable();
                    addresses.insert(
                        format!("{}.{endpoint}", component.key()),
                        address.to_string(),
                    );
                }
            }
        }
        addresses
    }

    /// Returns the addresses that placeholders name, by key of the component: a program binds no others for legacy peers.
    pub(super) fn needed(&self) -> BTreeSet<(String, Endpoint)> {
        let mut needed = BTreeSet::new();
        for component in &self.components {
            for template in component.templates() {
                for placeholder in template.get_ref().placeholders() {
                    match placeholder {
                        Placeholder::Own(endpoint) => {
                            needed.insert((component.key().to_owned(), *endpoint))
                        }
                        Placeholder::Of(key, endpoint) => needed.insert((key.clone(), *endpoint)),
                        _ => continue,
                    };
                }
            }
        }
        needed
    }

    /// Returns the address that a component binds: that of the file, one that was chosen before, or a socket.
    pub(super) fn address(
        &self,
        component: &Component,
        endpoint: Endpoint,
        places: &Places,
    ) -> Address {
        let exposed = || {
            let exposed = self
                .expose
                .iter()
                .find(|(key, _)| key.get_ref() == component.key());
            exposed.map(|(_, address)| address.get_ref().clone())
        };
        let pinned = || {
            component
                .address
                .as_ref()
                .map(|address| address.get_ref().clone())
        };
        let option = || {
            let option = component.options.get(endpoint.option()?)?;
            Address::parse(option.value.get_ref().as_str()?).ok()
        };
        let chosen = || {
            Address::parse(
                places
                    .addresses
                    .get(&format!("{}.{endpoint}", component.key()))?,
            )
            .ok()
        };
        let of_file = match endpoint {
            Endpoint::Db => exposed().or_else(pinned),
            Endpoint::Address => pinned(),
            _ => option(),
        };
        of_file.or_else(chosen).unwrap_or_else(|| {
            let name = format!("{}.{endpoint}", component.key());
            Address::Ipc(places.runtime_dir.join(name).display().to_string())
        })
    }
}
