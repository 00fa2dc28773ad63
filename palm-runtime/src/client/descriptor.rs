//! [`Descriptor`]: what a component publishes about itself, for programs.

use std::collections::BTreeMap;

use crate::message::proto;

/// What a component publishes about itself. Returned by [`Client::descriptor`](crate::Client::descriptor).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptor {
    /// The version of palm, as `major.minor.patch`.
    pub version: String,
    /// The kind of component, such as `server`; empty for a component that is built from parts.
    pub kind: String,
    /// The name that clients and followers use.
    pub name: String,
    /// The addresses that were bound at the start, by their keys, such as `pull_address`.
    pub addresses: BTreeMap<String, String>,
    /// The functions. A master lists those that its workers have registered.
    pub functions: Vec<DescribedFunction>,
    /// Whether further functions may exist, as at a master.
    pub is_incomplete: bool,
    /// The names of the components that follow this one over links.
    pub followers: Vec<String>,
}

/// A function in a [`Descriptor`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DescribedFunction {
    /// The name, without that of the component.
    pub name: String,
    /// The first line of its documentation.
    pub doc: String,
    /// The type of its argument, as written in the source; empty if it has none.
    pub input: String,
    /// The type of its result, as written in the source.
    pub output: String,
    /// Whether a call may have several results, or none.
    pub has_many_results: bool,
    /// Whether a call must not run twice, so that it fails instead of being redelivered.
    pub at_most_once: bool,
}

impl Descriptor {
    pub(super) fn from_wire(descriptor: &proto::Descriptor) -> Self {
        let addresses = descriptor.addresses.iter();
        let functions = descriptor.functions.iter();
        let followers = descriptor.followers.iter();
        Self {
            version: descriptor.version.clone(),
            kind: descriptor.kind.clone(),
            name: descriptor.name.clone(),
            addresses: addresses
                .map(|it| (it.key.clone(), it.address.clone()))
                .collect(),
            functions: functions.map(DescribedFunction::from_wire).collect(),
            is_incomplete: descriptor.incomplete,
            followers: followers.map(|follower| follower.name.clone()).collect(),
        }
    }
}

impl DescribedFunction {
    fn from_wire(function: &proto::Function) -> Self {
        Self {
            name: function.name.clone(),
            doc: function.doc.clone(),
            input: function.input.clone(),
            output: function.output.clone(),
            has_many_results: function.many,
            at_most_once: function.at_most_once,
        }
    }
}
