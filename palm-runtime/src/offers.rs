//! The functions that workers have registered at their master, which lists them.
//!
//! A worker registers by the verb `offer` at the master's `db_address`. Part 2 of the protocol, see
//! `proto/README.md`; pylm's workers register nothing, so the list may be incomplete.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message as _;

use crate::message::proto::{Descriptor, Function};

/// How many functions are remembered.
const MAX_FUNCTIONS: usize = 10_000;

/// The functions that workers have registered, by name.
#[derive(Debug, Default)]
pub(crate) struct Offers(Mutex<Arc<BTreeMap<String, Function>>>);

impl Offers {
    /// Registers the functions of a worker's descriptor. Returns whether there is something new in it.
    pub(crate) fn add(&self, descriptor: &[u8]) -> Result<bool, prost::DecodeError> {
        let descriptor = Descriptor::decode(descriptor)?;
        let functions = self.0.lock();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        for function in descriptor.functions {
            let known = functions.get(&function.name);
            if known == Some(&function) || known.is_none() && functions.len() >= MAX_FUNCTIONS {
                continue;
            }
            Arc::make_mut(&mut functions).insert(function.name.clone(), function);
            is_new = true;
        }
        Ok(is_new)
    }

    /// What is known now.
    pub(crate) fn functions(&self) -> Arc<BTreeMap<String, Function>> {
        let functions = self.0.lock();
        functions.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a call of this function has exactly one result, as far as its workers have registered it.
    pub(crate) fn has_one_result(&self, name: &str) -> bool {
        let functions = self.0.lock();
        let functions = functions.unwrap_or_else(PoisonError::into_inner);
        functions.get(name).is_some_and(|function| !function.many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_all_workers_are_listed_once() {
        let offers = Offers::default();
        let descriptor = |names: &[&str]| {
            let function = |name: &&str| Function {
                name: (*name).to_owned(),
                ..Function::default()
            };
            Descriptor {
                functions: names.iter().map(function).collect(),
                ..Descriptor::default()
            }
            .encode_to_vec()
        };
        assert_eq!(offers.add(&descriptor(&["foo", "bar"])), Ok(true));
        assert_eq!(offers.add(&descriptor(&["bar", "baz"])), Ok(true));
        assert_eq!(offers.add(&descriptor(&["foo"])), Ok(false));
        assert!(offers.add(&[0xff]).is_err());
        let names: Vec<_> = offers.functions().keys().cloned().collect();
        assert_eq!(names, ["bar", "baz", "foo"]);
    }

    #[test]
    fn function_has_one_result_if_it_is_registered_so() {
        let offers = Offers::default();
        let function = |name: &str, many| Function {
            name: name.to_owned(),
            many,
            ..Function::default()
        };
        let descriptor = Descriptor {
            functions: vec![function("one", false), function("several", true)],
            ..Descriptor::default()
        };
        offers.add(&descriptor.encode_to_vec()).unwrap();
        let has_one = ["one", "several", "unknown"].map(|name| offers.has_one_result(name));
        assert_eq!(has_one, [true, false, false]);
    }
}
