//! [`DescriptorCache`] keeps the descriptor of the first component, so that a misspelt function name fails before
//! anything is sent.

use std::sync::Arc;

use parking_lot::RwLock;
use prost::Message as _;

use super::CallError;
use crate::cache::Cache;
use crate::discovery::descriptor::KEY;
use crate::function::{Steps, nearest};
use crate::message::proto::Descriptor;

/// The last descriptor of the first component.
///
/// A legacy peer publishes none, and a master does not know the functions of its legacy workers. In both cases
/// function names are not checked.
#[derive(Debug)]
pub(super) struct DescriptorCache {
    /// Reads keys without the session's prefix.
    cache: Cache,
    descriptor: RwLock<Option<Arc<Descriptor>>>,
    /// Whether function names are checked.
    checks: bool,
}

impl DescriptorCache {
    pub(super) fn new(cache: Cache, descriptor: Option<Descriptor>, checks: bool) -> Self {
        Self {
            cache,
            descriptor: RwLock::new(descriptor.map(Arc::new)),
            checks,
        }
    }

    pub(super) fn descriptor(&self) -> Option<Arc<Descriptor>> {
        self.descriptor.read().clone()
    }

    /// Reads the descriptor again. Cancel safe.
    pub(super) async fn refresh(&self) {
        let value = self.cache.get(KEY).await.ok().flatten();
        let value = value.and_then(|value| Descriptor::decode(value).ok());
        *self.descriptor.write() = value.map(Arc::new);
    }

    /// Returns whether the first step can be called, according to the last descriptor.
    pub(super) fn has(&self, steps: &Steps) -> bool {
        let descriptor = self.descriptor.read();
        let descriptor = descriptor.as_ref().filter(|_| self.checks);
        descriptor.is_none_or(|descriptor| has(descriptor, steps))
    }

    /// Returns whether the function of the first step is marked as `at_most_once`.
    pub(super) fn is_at_most_once(&self, steps: &Steps) -> bool {
        let descriptor = self.descriptor.read();
        let (Some(descriptor), Some(first)) = (descriptor.as_ref(), steps.iter().next()) else {
            return false;
        };
        let mut functions = descriptor.functions.iter();
        first.server == descriptor.name
            && functions.any(|it| it.at_most_once && it.name == first.function)
    }

    /// Fails if a job of these steps cannot know its end. Reads the descriptor again, since workers join and leave.
    pub(super) async fn check_completion(&self, steps: &Steps) -> Result<(), CallError> {
        self.refresh().await;
        match self.descriptor() {
            Some(descriptor) if !reports_completion(&descriptor, steps) => {
                Err(CallError::Completion {
                    function: steps.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether workers of the component may run functions that it does not list as having one result.
    pub(super) fn may_run_unlisted(&self, steps: &Steps) -> bool {
        let descriptor = self.descriptor();
        descriptor
            .is_some_and(|descriptor| descriptor.incomplete && !has_one_result(&descriptor, steps))
    }

    /// Fails if the first component does not have the function of the first step.
    ///
    /// Reads the descriptor again before it fails, since the component may have been replaced by a newer one.
    pub(super) async fn check(&self, steps: &Steps) -> Result<(), CallError> {
        if self.has(steps) {
            return Ok(());
        }
        self.refresh().await;
        match self.descriptor() {
            Some(descriptor) if !has(&descriptor, steps) => Err(unknown(&descriptor, steps)),
            _ => Ok(()),
        }
    }
}

fn has(descriptor: &Descriptor, steps: &Steps) -> bool {
    let Some(first) = steps.iter().next() else {
        return true;
    };
    // The component itself rejects messages for other components.
    descriptor.functions.is_empty()
        || descriptor.incomplete
        || first.server != descriptor.name
        || descriptor
            .functions
            .iter()
            .any(|function| function.name == first.function)
}

fn has_one_result(descriptor: &Descriptor, steps: &Steps) -> bool {
    let name = steps.iter().next().map_or("", |step| step.function);
    let mut functions = descriptor.functions.iter();
    functions.any(|function| function.name == name && !function.many)
}

fn reports_completion(descriptor: &Descriptor, steps: &Steps) -> bool {
    !descriptor.unregistered_workers || has_one_result(descriptor, steps)
}

fn unknown(descriptor: &Descriptor, steps: &Steps) -> CallError {
    let name = steps.iter().next().map_or("", |step| step.function);
    let names = descriptor.functions.iter();
    let names: Vec<_> = names.map(|function| function.name.as_str()).collect();
    let hint = nearest(name, &names);
    CallError::UnknownFunction {
        function: format!("{}.{name}", descriptor.name),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::proto::Function;

    fn check(steps: &str, expected: Option<&str>) {
        let functions = ["thumbnail", "thumbnails", "size", "echo"];
        let descriptor = Descriptor {
            name: "images".to_owned(),
            functions: functions
                .iter()
                .map(|name| Function {
                    name: (*name).to_owned(),
                    ..Function::default()
                })
                .collect(),
            ..Descriptor::default()
        };
        let steps = Steps::parse(steps).unwrap();
        assert_eq!(has(&descriptor, &steps), expected.is_none());
        if let Some(expected) = expected {
            assert_eq!(unknown(&descriptor, &steps).to_string(), expected);
        }
    }

    #[test]
    fn completion_is_reported_unless_unregistered_workers_may_run_the_function() {
        let function = |name: &str, many| Function {
            name: name.to_owned(),
            many,
            ..Function::default()
        };
        let mut descriptor = Descriptor {
            name: "images".to_owned(),
            functions: vec![function("size", false), function("tiles", true)],
            incomplete: true,
            ..Descriptor::default()
        };
        let mut check = |unregistered_workers| {
            descriptor.unregistered_workers = unregistered_workers;
            ["images.size", "images.tiles", "images.other"]
                .map(|steps| reports_completion(&descriptor, &Steps::parse(steps).unwrap()))
        };
        assert_eq!(check(false), [true; 3]);
        assert_eq!(check(true), [true, false, false]);
    }

    #[test]
    fn unknown_function_error_suggests_the_nearest_names() {
        check("images.thumbnail", None);
        check("images.size other.whatever", None);
        check("other.whatever", None);
        check(
            "images.thumbnial",
            Some("unknown function `images.thumbnial`; did you mean `thumbnail`, `thumbnails`?"),
        );
        check(
            "images.siez other.whatever",
            Some("unknown function `images.siez`; did you mean `size`?"),
        );
        check(
            "images.colour",
            Some(
                "unknown function `images.colour`; there are `thumbnail`, `thumbnails`, `size`, `echo`",
            ),
        );
    }

    #[test]
    fn descriptor_without_functions_allows_any_function() {
        let steps = Steps::parse("images.thumbnail").unwrap();
        let descriptor = Descriptor {
            name: "images".to_owned(),
            ..Descriptor::default()
        };
        assert!(has(&descriptor, &steps));
    }
}
