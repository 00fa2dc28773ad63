//! Fair queueing: several flows share a queue, and each is served in proportion to its weight.
//!
//! The technique is start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queuing", 1996). Each flow has a
//! virtual time, which advances by `cost / weight` with each item that leaves; the next item comes from the flow
//! with the lowest virtual time. A flow that was empty starts at the virtual time of the queue, so that it
//! neither saves up service nor waits for more than about one item of each other flow. Within a flow, items leave
//! first in, first out.
//!
//! A queue does no I/O and reads no clock. Its owner bounds the usage of flows, see [`FairQueue::usage`].

use std::collections::{BTreeSet, VecDeque};

use crate::id_map::IdMap;

/// Identifies a flow: usually a client.
pub type FlowKey = u64;

/// The largest weight of a flow. The smallest is 1.
pub const MAX_WEIGHT: u32 = 100;

/// Number of bytes that cost as much as one message.
const BYTES_PER_COST: usize = 16 * 1024;

/// Virtual time per unit of cost at a weight of 1, so that `cost / weight` stays an integer.
const SCALE: u64 = 1 << 16;

/// How many idle flows are remembered, beyond as many as are busy, before those whose virtual time has passed are
/// forgotten.
const MAX_IDLE_FLOWS: usize = 64;

/// With more flows than this, an idle flow keeps no memory for items: small allocations that outlive a client keep
/// the allocator from returning the memory below them.
const MAX_FLOWS_WITH_MEMORY: usize = 4;

/// The flow of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub key: FlowKey,
    /// From 1 to [`MAX_WEIGHT`]; others are clamped.
    pub weight: u32,
}

impl Flow {
    /// A flow of weight 1.
    pub fn new(key: FlowKey) -> Self {
        Self { key, weight: 1 }
    }
}

/// The capacity that an item, or all items of a flow, occupy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub messages: usize,
    pub bytes: usize,
}

impl Usage {
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    pub fn subtract(&mut self, other: Self) {
        self.messages -= other.messages;
        self.bytes -= other.bytes;
    }

    fn cost(self) -> u64 {
        (self.messages + self.bytes / BYTES_PER_COST) as u64
    }
}

#[derive(Debug)]
struct FlowQueue<T> {
    items: VecDeque<(T, Usage)>,
    usage: Usage,
    weight: u32,
    /// The flow's virtual time.
    time: u64,
    is_paused: bool,
}

impl<T> FlowQueue<T> {
    fn is_ready(&self) -> bool {
        !self.is_paused && !self.items.is_empty()
    }

    fn advance(&mut self, cost: u64) {
        let weight = u64::from(self.weight.clamp(1, MAX_WEIGHT));
        self.time += cost * SCALE / weight;
    }
}

/// A queue of items of several flows. The next item comes from the flow with the lowest virtual time.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: IdMap<FlowQueue<T>>,
    /// Flows that have items and are not paused, besides `current`.
    ready: BTreeSet<(u64, FlowKey)>,
    /// The flow that was served last. It is kept out of `ready`, so that a single flow causes no reordering.
    current: Option<FlowKey>,
    /// The queue's virtual time: that of the last item that left.
    time: u64,
    /// The latest virtual time of any flow.
    latest: u64,
    usage: Usage,
    busy_flows: usize,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            flows: IdMap::default(),
            ready: BTreeSet::new(),
            current: None,
            time: 0,
            latest: 0,
            usage: Usage::default(),
            busy_flows: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Appends an item to its flow.
    pub fn push(&mut self, flow: Flow, item: T, usage: Usage) {
        self.insert(flow, usage, |items| items.push_back((item, usage)));
    }

    /// Returns an item, or the rest of one, to the front of its flow after [`pop`](Self::pop), and refunds
    /// what it had cost.
    pub fn restore(&mut self, flow: Flow, item: T, usage: Usage) {
        self.insert(flow, usage, |items| items.push_front((item, usage)));
        let (current, was_ready) = self.remove_from_order(flow.key);
        if let Some(queue) = self.flows.get_mut(&flow.key) {
            let weight = u64::from(queue.weight.clamp(1, MAX_WEIGHT));
            let refund = usage.cost() * SCALE / weight;
            queue.time = queue.time.saturating_sub(refund);
            // As before the item was removed: a new flow must not start after the refunded time.
            self.time = self.time.min(queue.time);
        }
        self.restore_order(flow.key, current, was_ready);
    }

    fn insert(&mut self, flow: Flow, usage: Usage, put: impl FnOnce(&mut VecDeque<(T, Usage)>)) {
        let now = self.time;
        let queue = self.flows.entry(flow.key).or_insert_with(|| FlowQueue {
            items: VecDeque::new(),
            usage: Usage::default(),
            weight: flow.weight,
            time: now,
            is_paused: false,
        });
        queue.weight = flow.weight;
        let was_empty = queue.items.is_empty();
        put(&mut queue.items);
        queue.usage.add(usage);
        self.usage.add(usage);
        if was_empty {
            self.busy_flows += 1;
            queue.time = queue.time.max(now);
            if queue.is_ready() && self.current != Some(flow.key) {
                self.ready.insert((queue.time, flow.key));
            }
        }
    }

    /// Removes a flow from the order, so that its virtual time may be changed.
    fn remove_from_order(&mut self, key: FlowKey) -> (bool, bool) {
        let is_current = self.current == Some(key);
        let time = self.flows.get(&key).map_or(0, |queue| queue.time);
        let was_ready = !is_current && self.ready.remove(&(time, key));
        (is_current, was_ready)
    }

    fn restore_order(&mut self, key: FlowKey, is_current: bool, was_ready: bool) {
        if !is_current
            && was_ready
            && let Some(queue) = self.flows.get(&key)
        {
            self.ready.insert((queue.time, key));
        }
    }

    /// Removes the next item: the first one of the flow whose virtual time is lowest.
    pub fn pop(&mut self) -> Option<(Flow, T)> {
        let key = self.next_flow()?;
        let has_many_flows = self.flows.len() > MAX_FLOWS_WITH_MEMORY;
        let queue = self.flows.get_mut(&key)?;
        let (item, usage) = queue.items.pop_front()?;
        queue.usage.subtract(usage);
        self.usage.subtract(usage);
        self.time = self.time.max(queue.time);
        queue.advance(usage.cost().max(1));
        self.latest = self.latest.max(queue.time);
        let flow = Flow {
            key,
            weight: queue.weight,
        };
        if queue.items.is_empty() {
            if has_many_flows {
                queue.items = VecDeque::new();
            }
            self.busy_flows -= 1;
            if self.busy_flows == 0 {
                // The next flow does not compete with flows that were served before.
                self.time = self.latest;
            }
            self.forget_idle();
        }
        Some((flow, item))
    }

    /// Removes a part of the next item: `take` removes it from the item, which has this usage, and returns
    /// the usage of the part. An item whose messages have all been removed leaves the queue.
    pub fn pop_part<U>(
        &mut self,
        take: impl FnOnce(&mut T, Usage) -> (U, Usage),
    ) -> Option<(Flow, U)> {
        let key = self.next_flow()?;
        let queue = self.flows.get_mut(&key)?;
        let (item, usage) = queue.items.front_mut()?;
        let (part, taken) = take(item, *usage);
        debug_assert!(taken.messages > 0, "a part has messages");
        if taken.messages >= usage.messages {
            self.pop()?;
        } else {
            usage.subtract(taken);
            queue.usage.subtract(taken);
            self.usage.subtract(taken);
            self.time = self.time.max(queue.time);
            queue.advance(taken.cost());
            self.latest = self.latest.max(queue.time);
        }
        let weight = self.flows.get(&key).map_or(1, |queue| queue.weight);
        Some((Flow { key, weight }, part))
    }

    /// Finds the flow that is served next, and makes it the current one.
    pub fn next_flow(&mut self) -> Option<FlowKey> {
        let current = self.current.and_then(|key| {
            let queue = self.flows.get(&key)?;
            queue.is_ready().then_some((queue.time, key))
        });
        let first = self.ready.first().copied();
        let next = match (current, first) {
            (Some(current), Some(first)) => current.min(first),
            (one, other) => one.or(other)?,
        };
        if current != Some(next) {
            self.ready.remove(&next);
            if let Some(current) = current {
                self.ready.insert(current);
            }
            self.current = Some(next.1);
        }
        Some(next.1)
    }

    /// Forgets empty flows whose virtual time has passed: they would start at the queue's virtual time anyway.
    fn forget_idle(&mut self) {
        if self.flows.len() > 2 * self.busy_flows + MAX_IDLE_FLOWS {
            let now = self.time;
            let busy = |queue: &FlowQueue<T>| {
                !queue.items.is_empty() || queue.is_paused || queue.time > now
            };
            self.flows.retain(|_, queue| busy(queue));
            if self.flows.capacity() > 4 * (self.flows.len() + MAX_IDLE_FLOWS) {
                self.flows.shrink_to(2 * MAX_IDLE_FLOWS);
            }
        }
    }

    /// Pauses or resumes a flow. The items of a paused flow stay in the queue.
    pub fn set_paused(&mut self, key: FlowKey, is_paused: bool) {
        let now = self.time;
        let Some(queue) = self.flows.get_mut(&key) else {
            if is_paused {
                // The flow may receive items later.
                let queue = FlowQueue {
                    items: VecDeque::new(),
                    usage: Usage::default(),
                    weight: 1,
                    time: now,
                    is_paused,
                };
                self.flows.insert(key, queue);
            }
            return;
        };
        if queue.is_paused == is_paused {
            return;
        }
        queue.is_paused = is_paused;
        if self.current == Some(key) {
            return;
        }
        if is_paused {
            self.ready.remove(&(queue.time, key));
        } else if queue.is_ready() {
            queue.time = queue.time.max(now);
            self.ready.insert((queue.time, key));
        }
    }

    /// Returns whether an item can be removed now.
    pub fn is_ready(&self) -> bool {
        let current = self.current.and_then(|key| self.flows.get(&key));
        !self.ready.is_empty() || current.is_some_and(FlowQueue::is_ready)
    }

    /// Returns how many messages and bytes a flow holds.
    pub fn usage(&self, key: FlowKey) -> Usage {
        self.flows
            .get(&key)
            .map_or(Usage::default(), |queue| queue.usage)
    }

    /// Returns how many messages and bytes all flows hold.
    pub fn total(&self) -> Usage {
        self.usage
    }

    /// Returns how many flows hold items.
    pub fn busy_flows(&self) -> usize {
        self.busy_flows
    }

    /// Returns the items, flow by flow.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let flows = self.flows.values();
        flows.flat_map(|flow| flow.items.iter().map(|(item, _)| item))
    }

    /// Keeps the items for which `keep` returns `true`, also of paused flows. A kept item may get a smaller usage.
    pub fn retain(&mut self, mut keep: impl FnMut(FlowKey, &mut T, &mut Usage) -> bool) {
        for (&key, queue) in &mut self.flows {
            let was_empty = queue.items.is_empty();
            let (usage, total) = (&mut queue.usage, &mut self.usage);
            queue.items.retain_mut(|(item, taken)| {
                for sum in [&mut *usage, &mut *total] {
                    sum.subtract(*taken);
                }
                let keeps = keep(key, item, taken);
                if keeps {
                    usage.add(*taken);
                    total.add(*taken);
                }
                keeps
            });
            if !was_empty && queue.items.is_empty() {
                self.busy_flows -= 1;
                self.ready.remove(&(queue.time, key));
            }
        }
    }

    /// Removes all items, flow by flow, in no order between flows.
    pub fn drain(&mut self) -> Vec<(Flow, T)> {
        let mut items = Vec::new();
        for (&key, queue) in &mut self.flows {
            let flow = Flow {
                key,
                weight: queue.weight,
            };
            items.extend(queue.items.drain(..).map(|(item, _)| (flow, item)));
            queue.usage = Usage::default();
        }
        self.ready.clear();
        self.usage = Usage::default();
        self.busy_flows = 0;
        items
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: Usage = Usage {
        messages: 1,
        bytes: 0,
    };

    fn queue(items: &[(u64, u32, usize)]) -> FairQueue<u64> {
        let mut queue = FairQueue::default();
        for &(key, weight, count) in items {
            for _ in 0..count {
                queue.push(Flow { key, weight }, key, ONE);
            }
        }
        queue
    }

    fn served(queue: &mut FairQueue<u64>, count: usize) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop())
            .take(count)
            .map(|(_, item)| item)
            .collect()
    }

    #[test]
    fn flows_take_turns() {
        let mut queue = queue(&[(1, 1, 100), (2, 1, 3), (3, 1, 3)]);
        assert_eq!(served(&mut queue, 7), [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn new_flow_waits_for_one_item_of_each_other_flow() {
        let mut queue = queue(&[(1, 1, 100), (2, 1, 100)]);
        served(&mut queue, 50);
        queue.push(Flow::new(9), 9, ONE);
        assert!(served(&mut queue, 3).contains(&9));
    }

    #[test]
    fn idle_flow_saves_up_no_service() {
        let mut queue = queue(&[(1, 1, 1000)]);
        queue.push(Flow::new(2), 2, ONE);
        served(&mut queue, 500);
        for _ in 0..100 {
            queue.push(Flow::new(2), 2, ONE);
        }
        let twos = served(&mut queue, 100)
            .iter()
            .filter(|&&it| it == 2)
            .count();
        assert!((49..=51).contains(&twos), "{twos}");
    }

    #[test]
    fn service_follows_weights() {
        let mut queue = queue(&[(1, 1, 1000), (2, 4, 1000)]);
        let twos = served(&mut queue, 500)
            .iter()
            .filter(|&&it| it == 2)
            .count();
        assert!((399..=401).contains(&twos), "{twos}");
    }

    #[test]
    fn large_items_cost_more() {
        let mut queue = FairQueue::default();
        for _ in 0..100 {
            queue.push(
                Flow::new(1),
                1,
                Usage {
                    messages: 1,
                    bytes: 9 * BYTES_PER_COST,
                },
            );
            queue.push(Flow::new(2), 2, ONE);
        }
        let ones = served(&mut queue, 55).iter().filter(|&&it| it == 1).count();
        assert_eq!(ones, 5);
    }

    #[test]
    fn restored_item_is_next_of_its_flow_and_refunded() {
        let mut queue = FairQueue::default();
        let many = Usage {
            messages: 10,
            bytes: 0,
        };
        queue.push(Flow::new(1), 1, many);
        queue.push(Flow::new(2), 2, ONE);
        let (flow, item) = queue.pop().unwrap();
        assert_eq!(item, 1);
        let rest = Usage {
            messages: 9,
            bytes: 0,
        };
        queue.restore(flow, 11, rest);
        assert_eq!(
            queue.total(),
            Usage {
                messages: 10,
                bytes: 0
            }
        );
        assert_eq!(served(&mut queue, 2), [2, 11]);
    }

    #[test]
    fn new_flow_does_not_wait_for_the_restored_rest_of_an_item() {
        let mut queue = FairQueue::default();
        let usage = |messages| Usage { messages, bytes: 0 };
        queue.push(Flow::new(1), 1, usage(256));
        let (flow, _) = queue.pop().unwrap();
        queue.restore(flow, 1, usage(255));
        queue.push(Flow::new(2), 2, ONE);
        assert!(served(&mut queue, 2).contains(&2));
    }

    #[test]
    fn flow_that_restores_the_rest_of_its_items_is_charged_for_what_left() {
        let usage = |messages| Usage { messages, bytes: 0 };
        let (light, heavy) = (Flow::new(1), Flow { key: 2, weight: 4 });
        let mut queue = FairQueue::default();
        for _ in 0..200 {
            queue.push(light, 1, ONE);
            queue.push(heavy, 10, usage(10));
        }
        let mut served = [0; 2];
        for _ in 0..500 {
            // One message of the item is served, and the rest is restored.
            let (flow, messages) = queue.pop().unwrap();
            served[flow.key as usize - 1] += 1;
            if messages > 1 {
                queue.restore(flow, messages - 1, usage(messages - 1));
            }
        }
        assert!((98..=102).contains(&served[0]), "{served:?}");
    }

    #[test]
    fn paused_flow_is_not_served_when_an_item_is_restored_to_it() {
        let mut queue = queue(&[(1, 1, 1), (2, 1, 2)]);
        let (flow, item) = queue.pop().unwrap();
        assert_eq!(item, 1);
        queue.set_paused(1, true);
        assert_eq!(served(&mut queue, 1), [2]);
        queue.restore(flow, item, ONE);
        assert_eq!(served(&mut queue, 9), [2]);
        queue.set_paused(1, false);
        assert_eq!(served(&mut queue, 9), [1]);
    }

    #[test]
    fn forgetting_idle_flows_changes_nothing_for_the_others() {
        let mut queue = queue(&[(2, 1, 400)]);
        let many = Usage {
            messages: 200,
            bytes: 0,
        };
        queue.push(Flow::new(1), 1, many);
        assert_eq!(served(&mut queue, 1), [1]);
        queue.set_paused(3, true);
        let mut twos = 0;
        for key in 100..100 + 2 * MAX_IDLE_FLOWS as u64 {
            queue.push(Flow::new(key), key, ONE);
            let mut next = served(&mut queue, 2);
            next.sort_unstable();
            assert_eq!(next, [2, key]);
            twos += 1;
        }
        assert!(queue.flows.len() <= MAX_IDLE_FLOWS + 4);
        queue.push(Flow::new(3), 3, ONE);
        queue.push(Flow::new(1), 1, ONE);
        // The first flow was served 200 messages at once, the second one fewer.
        let next = served(&mut queue, 50);
        assert_eq!(
            next, [2; 50],
            "the first flow is ahead, the third is paused"
        );
        let mut rest = served(&mut queue, 1000);
        rest.retain(|&item| item == 2);
        assert_eq!(twos + next.len() + rest.len(), 400);
        assert_eq!(queue.usage(3), ONE);
    }

    #[test]
    fn idle_flows_are_forgotten_though_many_others_are_ahead() {
        let mut queue = queue(&[(1, 1, 10_000)]);
        let large = Usage {
            messages: 5000,
            bytes: 0,
        };
        for key in 10..110 {
            queue.push(Flow::new(key), key, large);
        }
        served(&mut queue, 101);
        for key in 1000..2000 {
            queue.push(Flow::new(key), key, ONE);
            served(&mut queue, 2);
        }
        assert!(
            queue.flows.len() <= 101 + MAX_IDLE_FLOWS,
            "{}",
            queue.flows.len()
        );
    }

    #[test]
    fn few_idle_flows_are_remembered_alongside_busy_ones() {
        let mut queue = queue(&[(1, 1, 1000), (2, 1, 1000), (3, 1, 1000), (4, 1, 1000)]);
        for key in 10..500 {
            queue.push(Flow::new(key), key, ONE);
            served(&mut queue, 5);
        }
        assert!(queue.flows.len() <= 2 * 4 + MAX_IDLE_FLOWS + 1);
    }

    #[test]
    fn drained_queue_returns_all_items_in_the_order_of_their_flows_and_is_empty() {
        let mut queue = FairQueue::default();
        for (key, item) in [(1, 10), (2, 20), (1, 11), (3, 30)] {
            queue.push(Flow::new(key), item, ONE);
        }
        queue.set_paused(3, true);
        assert_eq!(queue.pop().map(|(_, item)| item), Some(10));
        let mut items: Vec<_> = queue
            .drain()
            .into_iter()
            .map(|(flow, item)| (flow.key, item))
            .collect();
        items.sort_by_key(|(key, _)| *key);
        assert_eq!(items, [(1, 11), (2, 20), (3, 30)]);
        assert_eq!((queue.total(), queue.busy_flows()), (Usage::default(), 0));
        assert_eq!(queue.usage(2), Usage::default());
        assert!(!queue.is_ready() && queue.pop().is_none());
        queue.push(Flow::new(2), 21, ONE);
        assert_eq!(queue.pop().map(|(_, item)| item), Some(21));
    }

    #[test]
    fn parts_of_an_item_are_removed_in_turn_with_other_flows() {
        let mut queue = FairQueue::default();
        let usage = |messages| Usage { messages, bytes: 0 };
        queue.push(Flow::new(1), vec![1; 100], usage(100));
        let pop = |queue: &mut FairQueue<Vec<u64>>| {
            let take = |items: &mut Vec<u64>, _| (items.pop().unwrap(), ONE);
            queue.pop_part(take).map(|(_, item)| item)
        };
        for _ in 0..10 {
            assert_eq!(pop(&mut queue), Some(1));
        }
        queue.push(Flow::new(2), vec![2; 3], usage(3));
        let mut order = Vec::new();
        while queue.busy_flows() == 2 {
            order.extend(pop(&mut queue));
        }
        assert!(order.len() <= 6, "{order:?}");
        assert_eq!(queue.usage(1).messages, 100 - 10 - (order.len() - 3));
        while pop(&mut queue).is_some() {}
        assert_eq!((queue.total(), queue.busy_flows()), (Usage::default(), 0));
    }

    #[test]
    fn paused_flow_keeps_its_items_until_it_is_resumed() {
        let mut queue = queue(&[(1, 1, 2), (2, 1, 2)]);
        served(&mut queue, 1);
        queue.set_paused(1, true);
        queue.set_paused(3, true);
        queue.push(Flow::new(3), 3, ONE);
        assert_eq!(served(&mut queue, 9), [2, 2]);
        assert!(!queue.is_ready());
        assert_eq!((queue.usage(1).messages, queue.busy_flows()), (1, 2));
        queue.set_paused(1, false);
        queue.set_paused(3, false);
        assert!(queue.is_ready());
        let mut rest = served(&mut queue, 9);
        rest.sort_unstable();
        assert_eq!(rest, [1, 3]);
    }

    #[test]
    fn idle_flows_are_forgotten() {
        let mut queue = FairQueue::default();
        for key in 0..10_000 {
            queue.push(Flow::new(key), key, ONE);
            queue.pop();
        }
        assert!(queue.flows.len() <= MAX_IDLE_FLOWS + 2);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { key: u64, messages: usize },
        Pop,
        PopAndRestore,
        Pause { key: u64, is_paused: bool },
        Retain { key: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..5_u64, 1..20_usize).prop_map(|(key, messages)| Step::Push { key, messages }),
            3 => Just(Step::Pop),
            1 => Just(Step::PopAndRestore),
            1 => (0..5_u64, any::<bool>())
                .prop_map(|(key, is_paused)| Step::Pause { key, is_paused }),
            1 => (0..5_u64).prop_map(|key| Step::Retain { key }),
        ]
    }

    proptest! {
        /// Compared with a simple model: items of a flow leave in order, none is lost, and paused flows are not served.
        #[test]
        fn items_leave_in_the_order_of_their_flow(steps in prop::collection::vec(step(), 0..200)) {
            let mut queue = FairQueue::default();
            let mut model = vec![(false, VecDeque::new()); 5];
            let mut number = 0;
            for step in steps {
                match step {
                    Step::Push { key, messages } => {
                        number += 1;
                        let usage = Usage { messages, bytes: 0 };
                        queue.push(Flow::new(key), (number, usage), usage);
                        model[key as usize].1.push_back((number, usage));
                    }
                    Step::Pop | Step::PopAndRestore => {
                        let popped = queue.pop();
                        let is_ready = model.iter().any(|(paused, items)| !paused && !items.is_empty());
                        prop_assert_eq!(popped.is_some(), is_ready);
                        if let Some((flow, item)) = popped {
                            let (is_paused, items) = &mut model[flow.key as usize];
                            prop_assert!(!*is_paused);
                            prop_assert_eq!(items.front(), Some(&item));
                            if matches!(step, Step::Pop) {
                                items.pop_front();
                            } else {
                                queue.restore(flow, item, item.1);
                            }
                        }
                    }
                    Step::Pause { key, is_paused } => {
                        queue.set_paused(key, is_paused);
                        model[key as usize].0 = is_paused;
                    }
                    Step::Retain { key } => {
                        queue.retain(|flow, (number, _), _| flow != key || *number % 2 == 0);
                        model[key as usize].1.retain(|(number, _)| *number % 2 == 0);
                    }
                }
                let mut total = Usage::default();
                for (key, (_, items)) in model.iter().enumerate() {
                    let mut usage = Usage::default();
                    items.iter().for_each(|(_, it)| usage.add(*it));
                    prop_assert_eq!(queue.usage(key as u64), usage);
                    total.add(usage);
                }
                prop_assert_eq!(queue.total(), total);
                let busy = model.iter().filter(|(_, items)| !items.is_empty()).count();
                prop_assert_eq!(queue.busy_flows(), busy);
                let is_ready = model.iter().any(|(paused, items)| !paused && !items.is_empty());
                prop_assert_eq!(queue.is_ready(), is_ready);
            }
        }

        /// Two busy flows of equal weight never differ by more than about one item of each, whatever the items cost.
        #[test]
        fn busy_flows_are_served_equally(costs in prop::collection::vec((1..50_usize, 1..50_usize), 50)) {
            let mut queue = FairQueue::default();
            for &(one, other) in &costs {
                for (key, messages) in [(1, one), (2, other)] {
                    let usage = Usage { messages, bytes: 0 };
                    queue.push(Flow::new(key), messages, usage);
                }
            }
            let mut served = [0_i64; 2];
            while queue.busy_flows() == 2 {
                let (flow, messages) = queue.pop().unwrap();
                served[flow.key as usize - 1] += messages as i64;
                prop_assert!((served[0] - served[1]).abs() <= 100);
            }
        }
    }
}
