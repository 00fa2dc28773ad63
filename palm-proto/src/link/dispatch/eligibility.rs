//! Which workers can run which functions: the eligibility of workers for the [`dispatch`](super).
//!
//! Workers with the same list of functions form a class. The functions that the same connected classes can
//! run share an [`Eligibility`], so the number of eligibilities depends on how different the workers are,
//! not on the number of workers or functions: uniform workers have one. [`FunctionTable::rebuild`] is needed
//! only when the first worker of a class connects or its last one is lost.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::function::step_at;
use crate::id_map::IdMap;
use crate::message::proto::Function;
use crate::message::{Message, steps};

/// The interned name of a function that a worker has listed, or [`ANY_FUNCTION`] or [`UNKNOWN_FUNCTION`].
pub(super) type FunctionId = u64;

/// Stands for messages that every worker can handle: calls of `echo`, and messages that call no function.
pub(super) const ANY_FUNCTION: FunctionId = 0;

/// Stands for all functions that no worker has listed.
pub(super) const UNKNOWN_FUNCTION: FunctionId = 1;

/// The index of a class of workers with the same list of functions.
pub(super) type ClassId = usize;

/// The classes whose workers can run some functions, in ascending order.
pub(super) type Eligibility = SmallVec<[ClassId; 4]>;

/// How many names are interned at once. A worker whose list does not fit counts as one that runs any function.
const MAX_NAMES: usize = 10_000;

/// The longest name that is interned, in bytes.
const MAX_NAME_LEN: usize = 256;

/// How many different lists are distinguished. A worker with a further list counts as one that runs any function.
const MAX_CLASSES: usize = 256;

#[derive(Debug, Default)]
struct WorkerClass {
    /// The functions, sorted, each with whether it is `at_most_once`; `None` if the workers run any function.
    functions: Option<Box<[(FunctionId, bool)]>>,
    /// Number of workers with this list.
    workers: usize,
    /// Number of these workers that are connected.
    connected: usize,
}

/// The functions that workers have listed, and the classes of workers that can run each.
#[derive(Debug)]
pub(super) struct FunctionTable {
    ids: HashMap<Box<str>, FunctionId>,
    last_id: FunctionId,
    classes: Vec<WorkerClass>,
    /// By function, the index of its eligibility in the list that [`rebuild`](Self::rebuild) returned.
    eligibilities: IdMap<usize>,
    /// The steps, stage and function of the last resolved task, which the next one usually shares.
    last: Option<(Box<str>, i64, FunctionId)>,
}

impl Default for FunctionTable {
    fn default() -> Self {
        Self {
            ids: HashMap::new(),
            last_id: UNKNOWN_FUNCTION,
            classes: Vec::new(),
            eligibilities: IdMap::default(),
            last: None,
        }
    }
}

impl FunctionTable {
    /// Adds a worker that is not connected yet, and returns its class. A worker without a list runs any function.
    pub(super) fn add(&mut self, functions: &[Function]) -> ClassId {
        let functions = self.intern(functions);
        let is_used = |class: &WorkerClass| class.workers > 0;
        let same = |class: &WorkerClass| is_used(class) && class.functions == functions;
        let found = self.classes.iter().position(same);
        let class = found.unwrap_or_else(|| self.add_class(functions));
        self.classes[class].workers += 1;
        class
    }

    fn add_class(&mut self, functions: Option<Box<[(FunctionId, bool)]>>) -> ClassId {
        let used = self.classes.iter().filter(|class| class.workers > 0);
        let is_crowded = used.clone().count() >= MAX_CLASSES;
        if is_crowded && used.clone().any(|class| class.functions.is_none()) {
            let is_any = |class: &WorkerClass| class.workers > 0 && class.functions.is_none();
            return self.classes.iter().position(is_any).unwrap_or_default();
        }
        let class = WorkerClass {
            functions: functions.filter(|_| !is_crowded),
            ..WorkerClass::default()
        };
        if let Some(free) = self.classes.iter().position(|class| class.workers == 0) {
            self.classes[free] = class;
            return free;
        }
        self.classes.push(class);
        self.classes.len() - 1
    }

    /// Returns the list as sorted ids; `None` if it stands for any function.
    fn intern(&mut self, functions: &[Function]) -> Option<Box<[(FunctionId, bool)]>> {
        let is_new = |function: &&Function| !self.ids.contains_key(&*function.name);
        let fits = |new: usize, known: usize| known + new <= MAX_NAMES;
        let new = functions.iter().filter(is_new).count();
        if !fits(new, self.ids.len()) {
            self.forget_names();
        }
        let is_long = functions.iter().any(|it| it.name.len() > MAX_NAME_LEN);
        if is_long || !fits(new, self.ids.len()) {
            tracing::warn!(
                functions = functions.len(),
                "a worker lists too many functions or too long names: it receives tasks of any function"
            );
            return None;
        }
        let mut list = Vec::with_capacity(functions.len());
        for function in functions {
            let id = match self.ids.get(&*function.name) {
                Some(&id) => id,
                None => {
                    self.last_id += 1;
                    self.ids.insert(function.name.as_str().into(), self.last_id);
                    self.last_id
                }
            };
            list.push((id, function.at_most_once));
        }
        list.sort_unstable();
        list.dedup_by_key(|(id, _)| *id);
        (!list.is_empty()).then(|| list.into())
    }

    /// Removes the names that no worker lists.
    fn forget_names(&mut self) {
        let classes = &self.classes;
        let is_listed = |id: FunctionId| {
            let lists = classes.iter().filter(|class| class.workers > 0);
            let mut lists = lists.filter_map(|class| class.functions.as_deref());
            lists.any(|list| position(list, id).is_some())
        };
        self.ids.retain(|_, id| is_listed(*id));
        self.last = None;
    }

    /// Records that a worker of the class has connected. Returns whether the eligibilities are to be rebuilt.
    pub(super) fn connect(&mut self, class: ClassId) -> bool {
        self.classes[class].connected += 1;
        self.classes[class].connected == 1
    }

    /// Records that a worker of the class was lost. Returns whether the eligibilities are to be rebuilt.
    pub(super) fn disconnect(&mut self, class: ClassId) -> bool {
        self.classes[class].connected -= 1;
        self.classes[class].connected == 0
    }

    /// Removes a worker of the class, which is not connected.
    pub(super) fn remove(&mut self, class: ClassId) {
        self.classes[class].workers -= 1;
    }

    /// Returns how many workers of these classes are connected.
    pub(super) fn connected(&self, eligibility: &Eligibility) -> usize {
        let classes = eligibility.iter().map(|&class| &self.classes[class]);
        classes.map(|class| class.connected).sum()
    }

    /// Returns whether any worker is connected.
    pub(super) fn has_workers(&self) -> bool {
        self.classes.iter().any(|class| class.connected > 0)
    }

    /// Returns the number of classes, which is above all class ids.
    pub(super) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Returns whether workers of the class declare the function as `at_most_once`.
    pub(super) fn is_at_most_once(&self, class: ClassId, function: FunctionId) -> bool {
        let list = self.classes[class].functions.as_deref().unwrap_or_default();
        position(list, function).is_some_and(|index| list[index].1)
    }

    /// Returns the different eligibilities. The first one is empty, for functions that no connected worker can run.
    pub(super) fn rebuild(&mut self) -> Vec<Eligibility> {
        let connected = || {
            let classes = self.classes.iter().enumerate();
            classes.filter(|(_, class)| class.connected > 0)
        };
        let all: Eligibility = connected().map(|(id, _)| id).collect();
        let unlisted = connected().filter(|(_, class)| class.functions.is_none());
        let unlisted: Eligibility = unlisted.map(|(id, _)| id).collect();
        let mut by_function = IdMap::<Eligibility>::default();
        for (id, class) in connected() {
            for &(function, _) in class.functions.as_deref().unwrap_or_default() {
                by_function.entry(function).or_default().push(id);
            }
        }
        for eligibility in by_function.values_mut() {
            eligibility.extend_from_slice(&unlisted);
            eligibility.sort_unstable();
        }
        for &function in self.ids.values() {
            by_function.entry(function).or_insert(unlisted.clone());
        }
        by_function.insert(ANY_FUNCTION, all);
        by_function.insert(UNKNOWN_FUNCTION, unlisted);

        let mut indexes = HashMap::from([(Eligibility::new(), 0)]);
        let mut eligibilities = vec![Eligibility::new()];
        self.eligibilities.clear();
        for (function, eligibility) in by_function {
            let index = *indexes
                .entry(eligibility)
                .or_insert_with_key(|eligibility| {
                    eligibilities.push(eligibility.clone());
                    eligibilities.len() - 1
                });
            self.eligibilities.insert(function, index);
        }
        eligibilities
    }

    /// Returns the function that a task calls.
    pub(super) fn resolve(&mut self, frame: &bytes::Bytes) -> FunctionId {
        let Ok((steps, stage)) = steps(frame) else {
            // Any worker answers a malformed message with an error.
            return ANY_FUNCTION;
        };
        if let Some((last_steps, last_stage, id)) = &self.last
            && (*last_stage, &**last_steps) == (stage, steps)
        {
            return *id;
        }
        let Ok(step) = step_at(steps, stage) else {
            return ANY_FUNCTION;
        };
        if let Some(&id) = self.ids.get(step.function) {
            self.last = Some((steps.into(), stage, id));
            return id;
        }
        let is_done = || Message::decode(frame.clone()).is_ok_and(|message| message.is_done());
        if step.function == "echo" || is_done() {
            return ANY_FUNCTION;
        }
        UNKNOWN_FUNCTION
    }

    /// Returns the index of a function's eligibility in the list that [`rebuild`](Self::rebuild) returned.
    pub(super) fn eligibility(&self, function: FunctionId) -> usize {
        let known = self.eligibilities.get(&function);
        let known = known.or_else(|| self.eligibilities.get(&UNKNOWN_FUNCTION));
        known.copied().unwrap_or_default()
    }

    /// Returns the names that connected workers list, sorted.
    pub(super) fn names(&self) -> Vec<&str> {
        let is_connected = |id: FunctionId| {
            let classes = self.classes.iter().filter(|class| class.connected > 0);
            let mut lists = classes.filter_map(|class| class.functions.as_deref());
            lists.any(|list| position(list, id).is_some())
        };
        let names = self.ids.iter().filter(|(_, id)| is_connected(**id));
        let mut names: Vec<_> = names.map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names
    }
}

fn position(list: &[(FunctionId, bool)], function: FunctionId) -> Option<usize> {
    list.binary_search_by_key(&function, |(id, _)| *id).ok()
}

/// Returns the name of the function that a task calls, if it names one.
pub(super) fn name(frame: &[u8]) -> Option<&str> {
    let (steps, stage) = steps(frame).ok()?;
    Some(step_at(steps, stage).ok()?.function)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn list(names: &[&str]) -> Vec<Function> {
        let function = |name: &&str| Function {
            name: (*name).to_owned(),
            at_most_once: name.starts_with("once"),
            ..Function::default()
        };
        names.iter().map(function).collect()
    }

    fn call(function: &str) -> Bytes {
        Message::new(function.to_owned(), "x").into_frame()
    }

    /// Returns the classes whose workers can run each function.
    fn eligible(
        table: &mut FunctionTable,
        built: &[Eligibility],
        functions: &[&str],
    ) -> Vec<Vec<usize>> {
        let of = |name: &&str| {
            let function = table.resolve(&call(&format!("m.{name}")));
            built[table.eligibility(function)].to_vec()
        };
        functions.iter().map(of).collect()
    }

    #[test]
    fn workers_with_the_same_list_in_any_order_are_one_class() {
        let mut table = FunctionTable::default();
        assert_eq!(table.add(&list(&["a", "b"])), 0);
        assert_eq!(table.add(&list(&["b", "a", "b"])), 0);
        assert_eq!(table.add(&list(&["a"])), 1);
        assert_eq!(table.add(&[]), 2);
        assert_eq!(table.add(&[]), 2);
        // The id of a class without workers is reused.
        table.remove(1);
        assert_eq!(table.add(&list(&["c"])), 1);
        assert_eq!(table.add(&list(&["a"])), 3);
        assert_eq!(table.classes(), 4);
    }

    #[test]
    fn last_resolved_function_is_unknown_after_its_name_was_forgotten() {
        let mut table = FunctionTable::default();
        let class = table.add(&list(&["a"]));
        let listed = table.resolve(&call("m.a"));
        assert_eq!(
            [listed, table.resolve(&call("m.a"))],
            [UNKNOWN_FUNCTION + 1; 2]
        );
        let mut steps = Message::new("m.a m.b".to_owned(), "x");
        assert_eq!(table.resolve(&steps.clone().into_frame()), listed);
        steps.set_stage(1);
        assert_eq!(table.resolve(&steps.into_frame()), UNKNOWN_FUNCTION);
        assert_eq!(table.resolve(&call("m.a")), listed);
        table.remove(class);
        table.forget_names();
        assert_eq!(table.resolve(&call("m.a")), UNKNOWN_FUNCTION);
    }

    #[test]
    fn function_is_eligible_for_connected_workers_that_list_it_or_list_none() {
        let mut table = FunctionTable::default();
        let (ab, bc) = (table.add(&list(&["a", "b"])), table.add(&list(&["b", "c"])));
        let any = table.add(&[]);
        assert!(table.connect(ab) && table.connect(bc) && !table.connect(ab));
        let built = table.rebuild();
        let names = ["a", "b", "c", "d", "echo"];
        assert_eq!(
            eligible(&mut table, &built, &names),
            [vec![ab], vec![ab, bc], vec![bc], vec![], vec![ab, bc]]
        );
        assert_eq!(table.names(), ["a", "b", "c"]);
        assert!(table.connect(any) && table.disconnect(bc) && !table.disconnect(ab));
        let built = table.rebuild();
        assert_eq!(
            eligible(&mut table, &built, &names),
            [
                vec![ab, any],
                vec![ab, any],
                vec![any],
                vec![any],
                vec![ab, any]
            ]
        );
        assert_eq!(table.names(), ["a", "b"]);
        assert_eq!(table.connected(&SmallVec::from_slice(&[ab, any])), 2);
        assert!(table.disconnect(ab) && table.has_workers());
        assert!(table.disconnect(any) && !table.has_workers());
    }

    #[test]
    fn uniform_workers_have_one_eligibility() {
        let mut table = FunctionTable::default();
        let class = table.add(&list(&["a", "b", "c"]));
        table.connect(class);
        assert_eq!(table.rebuild().len(), 2, "and the empty one");
    }

    #[test]
    fn messages_that_call_no_function_are_for_any_worker() {
        let mut table = FunctionTable::default();
        let class = table.add(&list(&["a"]));
        table.connect(class);
        let mut failed = Message::new("m.b", "x");
        failed.end(0);
        for frame in [
            call(""),
            call("b"),
            Bytes::from_static(b"\xff"),
            failed.into_frame(),
        ] {
            assert_eq!(table.resolve(&frame), ANY_FUNCTION);
        }
        assert_eq!(table.resolve(&call("m.b")), UNKNOWN_FUNCTION);
        assert_eq!(table.resolve(&call("m.b m.a")), UNKNOWN_FUNCTION);
        let mut second = Message::new("m.b m.a", "x");
        second.set_stage(1);
        assert_eq!(table.resolve(&second.into_frame()), UNKNOWN_FUNCTION + 1);
    }

    #[test]
    fn at_most_once_is_known_of_each_class_and_function() {
        let mut table = FunctionTable::default();
        let class = table.add(&list(&["a", "once"]));
        let any = table.add(&[]);
        let once = table.resolve(&call("m.once"));
        assert!(table.is_at_most_once(class, once));
        assert!(!table.is_at_most_once(any, once));
        let function = table.resolve(&call("m.a"));
        assert!(!table.is_at_most_once(class, function));
        assert!(!table.is_at_most_once(class, UNKNOWN_FUNCTION));
    }

    #[test]
    fn names_and_classes_are_bounded() {
        let mut table = FunctionTable::default();
        let names = |from: usize, count: usize| {
            let names: Vec<_> = (from..from + count).map(|it| format!("f{it}")).collect();
            list(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let first = table.add(&names(0, MAX_NAMES));
        assert!(table.classes[first].functions.is_some());
        let second = table.add(&names(MAX_NAMES, 1));
        assert!(table.classes[second].functions.is_none());
        // Names of removed workers are forgotten first.
        table.remove(first);
        let third = table.add(&names(MAX_NAMES, MAX_NAMES));
        assert!(table.classes[third].functions.is_some());
        assert_eq!(table.ids.len(), MAX_NAMES);

        let long = table.add(&list(&["x".repeat(MAX_NAME_LEN + 1).as_str()]));
        assert!(table.classes[long].functions.is_none());
        let mut table = FunctionTable::default();
        for number in 0..MAX_CLASSES {
            assert_eq!(table.add(&names(number, 1)), number);
        }
        let any = table.add(&names(MAX_CLASSES, 1));
        assert_eq!(
            (any, table.add(&names(MAX_CLASSES + 1, 1))),
            (MAX_CLASSES, MAX_CLASSES)
        );
        // A list without workers makes capacity for another one.
        let mut table = FunctionTable::default();
        for number in 0..MAX_CLASSES {
            table.add(&names(number, 1));
        }
        table.remove(7);
        let next = table.add(&names(MAX_CLASSES, 1));
        assert_eq!(next, 7);
        assert!(table.classes[next].functions.is_some());

        let longest = "x".repeat(MAX_NAME_LEN);
        let mut table = FunctionTable::default();
        let longest = table.add(&list(&[longest.as_str()]));
        assert!(table.classes[longest].functions.is_some());
    }
}
