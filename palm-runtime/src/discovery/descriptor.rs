//! The descriptor of a component, which it publishes under the key `palm` of its cache.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;

use crate::component_kind::ComponentKind;
use crate::message::proto::{Address, Descriptor, Follower, Function};
use crate::method::{FunctionInfo, Results};

/// The cache key of the descriptor.
pub(crate) const KEY: &str = "palm";

/// The cache key of the cause for which calls wait; empty if no call waits, or the cause is not known.
pub(crate) const WAIT_KEY: &str = "palm.wait";

/// The properties that a component publishes in its descriptor.
pub(crate) struct Advertisement<'a> {
    pub(crate) addresses: &'a BTreeMap<String, String>,
    pub(crate) functions: &'a [FunctionInfo],
    /// Whether there may be further functions.
    pub(crate) is_incomplete: bool,
    /// The roles of peers that the component serves over links.
    pub(crate) links: Vec<String>,
    /// Identifies this run of the component.
    pub(crate) instance: u64,
}

/// Encodes a descriptor.
pub(crate) fn encode(kind: Option<ComponentKind>, name: &str, offer: Advertisement<'_>) -> Vec<u8> {
    let addresses = offer.addresses.iter().map(|(key, address)| Address {
        key: key.clone(),
        address: address.clone(),
    });
    let functions = offer.functions.iter().map(|function| Function {
        name: function.name.to_string(),
        doc: function.doc.to_string(),
        input: function.input.to_string(),
        output: function.output.to_string(),
        many: function.results == Results::Many,
        at_most_once: function.at_most_once,
    });
    let descriptor = Descriptor {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kind: kind.map(|kind| kind.to_string()).unwrap_or_default(),
        name: name.to_owned(),
        addresses: addresses.collect(),
        functions: functions.collect(),
        incomplete: offer.is_incomplete,
        links: offer.links,
        followers: Vec::new(),
        unregistered_workers: false,
        instance: offer.instance,
    };
    descriptor.encode_to_vec()
}

/// Returns whether the component serves peers of this role over links.
pub(crate) fn offers_link(descriptor: &Descriptor, role: &str) -> bool {
    descriptor.links.iter().any(|offered| offered == role)
}

/// Returns `descriptor` with the current peers: the followers, and whether there are legacy workers.
pub(crate) fn with_peers(
    descriptor: Bytes,
    followers: Vec<Follower>,
    unregistered_workers: bool,
) -> Bytes {
    let peers = Descriptor {
        followers,
        unregistered_workers,
        ..Descriptor::default()
    };
    // Concatenated encodings of a protobuf message are one message.
    [&descriptor[..], &peers.encode_to_vec()].concat().into()
}

/// Returns `descriptor` with these functions.
pub(crate) fn listing(
    descriptor: &[u8],
    functions: &BTreeMap<String, Function>,
) -> Result<Vec<u8>, prost::DecodeError> {
    let mut descriptor = Descriptor::decode(descriptor)?;
    descriptor.functions = functions.values().cloned().collect();
    Ok(descriptor.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_with_peers_keeps_its_other_fields() {
        let plain = Descriptor {
            name: "first".to_owned(),
            links: vec!["client".to_owned()],
            ..Descriptor::default()
        };
        let follower = Follower {
            name: "second".to_owned(),
            ..Follower::default()
        };
        let listed = with_peers(plain.encode_to_vec().into(), vec![follower.clone()], true);
        let expected = Descriptor {
            followers: vec![follower],
            unregistered_workers: true,
            ..plain
        };
        assert_eq!(Descriptor::decode(listed), Ok(expected));
    }
}
