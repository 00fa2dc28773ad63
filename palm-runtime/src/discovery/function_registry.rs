//! The function registry of a master: the functions that its workers have registered.
//!
//! A worker registers its functions by the `hello` of its link, or by the verb `offer` at the master's `db_address`
//! (`proto/README.md`, part 2). Legacy workers register nothing, so the registry may be incomplete.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message;

use crate::message::proto::{Descriptor, Function};

/// The most functions, and the most bytes of their names, documentation and types. All of them are in the master's
/// descriptor, which every client reads.
const MAX_FUNCTIONS: usize = 10_000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Maximum bytes of one function.
const MAX_FUNCTION_BYTES: usize = 64 * 1024;

/// The most bytes of a worker's descriptor. Decoded, it can take fifty times as many.
const MAX_DESCRIPTOR_BYTES: usize = 1024 * 1024;

/// Error of registering functions of a worker.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error("the offer is not a descriptor")]
    Decode(#[from] prost::DecodeError),
    #[error("the descriptor has {bytes} bytes, and at most {MAX_DESCRIPTOR_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error(
        "{functions} functions are not listed: at most {MAX_FUNCTIONS} are, with {MAX_BYTES} bytes \
         in total and {MAX_FUNCTION_BYTES} bytes each"
    )]
    Full { functions: usize },
}

/// The functions that workers have registered, by name.
#[derive(Debug, Default)]
pub(crate) struct FunctionRegistry(Mutex<RegisteredFunctions>);

#[derive(Debug, Default)]
struct RegisteredFunctions {
    functions: Arc<BTreeMap<String, Function>>,
    /// The encoded length of all functions.
    bytes: usize,
}

/// The outcome of a registration.
#[derive(Debug, PartialEq)]
pub(crate) struct RegistrationOutcome {
    /// Whether the registry has changed.
    pub(crate) is_new: bool,
    /// The error of functions that were not registered.
    pub(crate) rejected: Option<RegistrationError>,
}

impl FunctionRegistry {
    /// Registers the functions of a worker's descriptor, as [`add`](Self::add) does.
    pub(crate) fn add_descriptor(
        &self,
        descriptor: &[u8],
    ) -> Result<RegistrationOutcome, RegistrationError> {
        if descriptor.len() > MAX_DESCRIPTOR_BYTES {
            let bytes = descriptor.len();
            return Err(RegistrationError::TooLarge { bytes });
        }
        Ok(self.add(Descriptor::decode(descriptor)?.functions))
    }

    /// Registers functions of workers, within the limits of the registry.
    pub(crate) fn add(&self, added: Vec<Function>) -> RegistrationOutcome {
        let mut registered = self.0.lock();
        let RegisteredFunctions { functions, bytes } = &mut *registered;
        let mut is_new = false;
        let mut rejected = 0;
        for function in added {
            let known = functions.get(&function.name);
            if known == Some(&function) {
                continue;
            }
            let is_further = known.is_none();
            let old = known.map_or(0, Message::encoded_len);
            let new = function.encoded_len();
            let total = *bytes - old + new;
            let is_full = is_further && functions.len() >= MAX_FUNCTIONS;
            if is_full || new > MAX_FUNCTION_BYTES || total > MAX_BYTES {
                rejected += 1;
                continue;
            }
            *bytes = total;
            Arc::make_mut(functions).insert(function.name.clone(), function);
            is_new = true;
        }
        let rejected = (rejected > 0).then_some(RegistrationError::Full {
            functions: rejected,
        });
        RegistrationOutcome { is_new, rejected }
    }

    /// Returns the registered functions by name.
    pub(crate) fn functions(&self) -> Arc<BTreeMap<String, Function>> {
        let registered = self.0.lock();
        registered.functions.clone()
    }

    /// Returns whether the function is registered, and with exactly one result per call.
    pub(crate) fn has_one_result(&self, name: &str) -> bool {
        let registered = self.0.lock();
        let function = registered.functions.get(name);
        function.is_some_and(|function| !function.many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_lists_functions_of_all_workers_once() {
        let registry = FunctionRegistry::default();
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
        let added = |is_new| {
            let rejected = None;
            Ok(RegistrationOutcome { is_new, rejected })
        };
        assert_eq!(
            registry.add_descriptor(&descriptor(&["foo", "bar"])),
            added(true)
        );
        assert_eq!(
            registry.add_descriptor(&descriptor(&["bar", "baz"])),
            added(true)
        );
        assert_eq!(registry.add_descriptor(&descriptor(&["foo"])), added(false));
        assert!(registry.add_descriptor(&[0xff]).is_err());
        let names: Vec<_> = registry.functions().keys().cloned().collect();
        assert_eq!(names, ["bar", "baz", "foo"]);
    }

    /// Returns a descriptor of functions with `doc_bytes` of documentation each.
    fn documented(names: impl IntoIterator<Item = usize>, doc_bytes: usize) -> Vec<u8> {
        let function = |number: usize| Function {
            name: format!("f{number}"),
            doc: "d".repeat(doc_bytes),
            ..Function::default()
        };
        let functions = names.into_iter().map(function).collect();
        Descriptor {
            functions,
            ..Descriptor::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn registry_rejects_functions_above_its_limits() {
        let registry = FunctionRegistry::default();
        let long = documented([0], MAX_FUNCTION_BYTES);
        let full = |functions| Some(RegistrationError::Full { functions });
        let outcome = registry.add_descriptor(&long).unwrap();
        assert_eq!((outcome.is_new, outcome.rejected), (false, full(1)));
        let huge = documented([0], MAX_DESCRIPTOR_BYTES);
        assert!(matches!(
            registry.add_descriptor(&huge),
            Err(RegistrationError::TooLarge { .. })
        ));
        let bytes = || {
            registry
                .functions()
                .values()
                .map(Message::encoded_len)
                .sum::<usize>()
        };
        let mut rejected = 0;
        for number in 0..100 {
            let outcome = registry
                .add_descriptor(&documented([number], 60_000))
                .unwrap();
            rejected += usize::from(outcome.rejected.is_some());
        }
        let listed = registry.functions().len();
        assert!(
            bytes() <= MAX_BYTES && bytes() > MAX_BYTES - 60_100,
            "{}",
            bytes()
        );
        assert_eq!(listed + rejected, 100);
        // Registering a function again with fewer bytes frees the difference.
        for number in 0..listed {
            assert!(
                registry
                    .add_descriptor(&documented([number], 0))
                    .unwrap()
                    .is_new
            );
        }
        assert!(bytes() < 1000);
        let many = documented(0..MAX_FUNCTIONS + 10, 0);
        assert_eq!(registry.add_descriptor(&many).unwrap().rejected, full(10));
        assert_eq!(registry.functions().len(), MAX_FUNCTIONS);
    }

    #[test]
    fn registry_reports_functions_with_one_result() {
        let registry = FunctionRegistry::default();
        let function = |name: &str, many| Function {
            name: name.to_owned(),
            many,
            ..Function::default()
        };
        let descriptor = Descriptor {
            functions: vec![function("one", false), function("several", true)],
            ..Descriptor::default()
        };
        registry
            .add_descriptor(&descriptor.encode_to_vec())
            .unwrap();
        let has_one = ["one", "several", "unknown"].map(|name| registry.has_one_result(name));
        assert_eq!(has_one, [true, false, false]);
    }
}
