//! [`Routes`] finds the component that answers a call of several steps: the one that runs the last step.
//!
//! A component lists the components that follow it over links in its descriptor. From the first component the client
//! walks from one to the next by the names of the steps, and opens a link with each component that runs the last step.
//! The calls of a client share these links, and calls of the same route share one search. [`walk`] decides where to
//! go; it does no I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytestring::ByteString;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::in_flight::InFlightCalls;
use super::transport::{self, Transport};
use super::{CallError, Reader};
use crate::discovery::{Directory, Readiness, until_in_place};
use crate::function::Steps;
use crate::link::connection::{Introduction, Link};
use crate::link::{Following, LinkOptions, SUBSCRIBER};
use crate::message::proto::Descriptor;
use crate::socket::{Address, SocketOptions};
use crate::together::Together;
use crate::wait_cause::WaitCause;

/// Limit on the search for components that have not started yet.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit on a search that only checks whether a known last component has moved.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(500);

/// Duration of a search that is not logged.
const SHORT_SEARCH: Duration = Duration::from_secs(1);

/// Delay between two attempts of a search.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// Shortest interval between two checks of a known route.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Most components with the same name in one step.
const MAX_SAME: usize = 16;
/// Most last components from which a client receives answers.
const MAX_LINKS: usize = 64;
/// Most routes that a client remembers.
const MAX_ROUTES: usize = 256;

/// How a client knows where the answers to calls of several steps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerSource {
    /// The client's options name the component.
    Configured,
    /// The client discovers the component.
    Discovered,
    /// The called component does not list its followers: it is a legacy peer, or links are disabled.
    Unlisted,
}

/// Opens the links of a client.
#[derive(Debug)]
pub(super) struct LinkFactory {
    pub(super) id: ByteString,
    pub(super) sockets: SocketOptions,
    pub(super) options: LinkOptions,
    pub(super) weight: u32,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) transport: watch::Receiver<Option<Transport>>,
}

/// A link and the task that reads answers from it.
#[derive(Debug)]
pub(super) struct AnswerLink {
    pub(super) link: Arc<Link>,
    reader: Reader,
    ready: watch::Receiver<Option<Readiness>>,
}

impl LinkFactory {
    /// Opens a link.
    ///
    /// `takes_answers`: whether the client receives answers from this component. `last`: the name of the component if
    /// the client has discovered it; if such a link fails, the client continues without it.
    pub(super) fn open(
        &self,
        address: &Address,
        role: &'static str,
        takes_answers: bool,
        last: Option<&str>,
    ) -> AnswerLink {
        let following = Following {
            client: match takes_answers {
                true => self.id.to_string(),
                false => String::new(),
            },
            ..Following::default()
        };
        let introduction = Introduction {
            weight: self.weight,
            ..Introduction::following(role, &self.id, following)
        };
        let options = self.options.clone();
        let (link, arrivals) = Link::new(address, &self.sockets, introduction, options);
        let (ready_sender, ready) = watch::channel(None);
        let (answers, transport) = (self.answers.clone(), self.transport.clone());
        let last = last.map(str::to_owned);
        let reader = transport::read(
            link.clone(),
            arrivals,
            answers,
            transport,
            ready_sender,
            last,
        );
        let reader = tokio::spawn(Together::new([reader.boxed()]));
        AnswerLink {
            link,
            reader: AbortOnDropHandle::new(reader),
            ready,
        }
    }
}

impl AnswerLink {
    /// Waits until the component has answered and its own upstream subscriptions are in place. Returns `false` if the
    /// reader has ended. Cancel safe.
    pub(super) async fn ready(mut ready: watch::Receiver<Option<Readiness>>) -> bool {
        if ready.wait_for(Option::is_some).await.is_err() {
            return false;
        }
        until_in_place(ready).await;
        true
    }

    pub(super) fn readiness(&self) -> watch::Receiver<Option<Readiness>> {
        self.ready.clone()
    }

    pub(super) fn into_parts(self) -> (Arc<Link>, Reader) {
        (self.link, self.reader)
    }
}

/// The routes of a client's calls, as far as it has discovered them.
#[derive(Debug)]
pub(super) struct Routes {
    answer_source: AnswerSource,
    /// The directory of the called component.
    directory: Arc<Directory>,
    /// The name of the called component.
    server: String,
    /// Whether the called component rejects steps for other names, as a server does and a master does not.
    calls_by_name: bool,
    link_factory: LinkFactory,
    table: Mutex<RouteTable>,
    /// Searches in progress, by the names of the components.
    searches: Mutex<HashMap<String, Weak<RouteSearch>>>,
}

/// A search for one route. One of the calls that wait for it searches.
#[derive(Debug, Default)]
struct RouteSearch {
    one: tokio::sync::Mutex<()>,
    /// Why the last attempt failed.
    problem: Mutex<String>,
}

/// The routes that were found, and their links.
#[derive(Debug, Default)]
struct RouteTable {
    routes: Vec<Route>,
    links: HashMap<Address, AnswerLink>,
    is_closed: bool,
}

#[derive(Debug)]
struct Route {
    /// The names of the components of its steps.
    names: Vec<String>,
    links: Vec<Arc<Link>>,
    /// When the route was last checked.
    refreshed: Instant,
}

impl Route {
    fn is_of(&self, steps: &Steps) -> bool {
        self.names.len() == steps.len()
            && steps.iter().map(|step| step.server).eq(self.names.iter())
    }
}

impl Routes {
    pub(super) fn new(
        answer_source: AnswerSource,
        directory: Arc<Directory>,
        server: &str,
        calls_by_name: bool,
        link_factory: LinkFactory,
    ) -> Self {
        Self {
            answer_source,
            directory,
            server: server.to_owned(),
            calls_by_name,
            link_factory,
            table: Mutex::default(),
            searches: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, RouteTable> {
        lock(&self.table)
    }

    /// Returns whether [`ensure`](Self::ensure) has something to do before a call is sent.
    pub(super) fn needs_search(&self, steps: &Steps) -> bool {
        if steps.len() == 1 || self.answer_source == AnswerSource::Configured {
            return false;
        }
        if steps
            .iter()
            .last()
            .is_some_and(|last| last.server == self.server)
        {
            return false;
        }
        if self.calls_by_name
            && steps
                .iter()
                .next()
                .is_some_and(|first| first.server != self.server)
        {
            // The called component rejects the call.
            return false;
        }
        let table = self.table();
        let route = table.routes.iter().find(|route| route.is_of(steps));
        !route.is_some_and(|route| route.links.iter().all(|link| link.is_connected()))
    }

    /// Finds the last component of `steps` and receives answers from it, unless the route is known.
    ///
    /// Waits at most `limit`. Cancel safe.
    pub(super) async fn ensure(&self, steps: &Steps, limit: Duration) -> Result<(), CallError> {
        if !self.needs_search(steps) {
            return Ok(());
        }
        if self.answer_source == AnswerSource::Unlisted {
            return Err(no_route(steps, unlisted(&self.server)));
        }
        let now = Instant::now();
        let known = {
            let mut table = self.table();
            let mut routes = table.routes.iter_mut();
            let route = routes.find(|route| route.is_of(steps));
            route.map(|route| {
                let is_due = now.duration_since(route.refreshed) > REFRESH_INTERVAL;
                if is_due {
                    route.refreshed = now;
                }
                is_due
            })
        };
        if let Some(is_due) = known {
            // A last component is disconnected. The call waits for it, as for any other component, in case it returns
            // to its address. It may also have moved.
            if is_due {
                let _ = self.search(steps, now + limit.min(REFRESH_TIMEOUT)).await;
            }
            return Ok(());
        }
        let until = now + limit.min(SEARCH_TIMEOUT);
        let search = self.join_search(steps);
        let found = timeout_at(until, async {
            let _one = search.one.lock().await;
            let cause = WaitCause::default();
            // Another call may have found the route meanwhile.
            while self.needs_search(steps) {
                match self.search(steps, until).await {
                    Ok(()) => return,
                    Err(problem) => {
                        if now.elapsed() >= SHORT_SEARCH && cause.set(&problem) {
                            tracing::warn!("waiting for a route for `{steps}`: {problem}");
                        }
                        *lock(&search.problem) = problem;
                    }
                }
                tokio::time::sleep(SEARCH_INTERVAL).await;
            }
        });
        if found.await.is_ok() {
            return Ok(());
        }
        let mut problem = lock(&search.problem).clone();
        if problem.is_empty() {
            let cause = self.directory.wait_cause();
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            problem = format!("`{}` does not answer{cause}", self.server);
        }
        Err(no_route(steps, problem))
    }

    /// Returns the search for the route of `steps`, which is shared by all calls that wait for it.
    fn join_search(&self, steps: &Steps) -> Arc<RouteSearch> {
        let names: Vec<_> = steps.iter().map(|step| step.server).collect();
        let names = names.join(" ");
        let mut searches = lock(&self.searches);
        if let Some(search) = searches.get(&names).and_then(Weak::upgrade) {
            return search;
        }
        searches.retain(|_, search| search.strong_count() > 0);
        let search = Arc::<RouteSearch>::default();
        searches.insert(names, Arc::downgrade(&search));
        search
    }

    /// Makes one attempt to find the route.
    async fn search(&self, steps: &Steps, until: Instant) -> Result<(), String> {
        let start = self.directory.request().address().clone();
        // A master runs the first step, whatever component it names.
        let first = std::iter::once(&*self.server);
        let others = steps.iter().skip(1).map(|step| step.server);
        let names: Vec<_> = first.chain(others).collect();
        let last = walk(start, &names, |address| self.ask(address, until).boxed()).await?;
        self.open(steps, last, until).await
    }

    /// Reads the descriptor of the component at `address`.
    async fn ask(&self, address: Address, until: Instant) -> Option<Descriptor> {
        let directory = if address == *self.directory.request().address() {
            self.directory.clone()
        } else {
            let (id, sockets) = (&self.link_factory.id, &self.link_factory.sockets);
            Directory::connect(&address, id, sockets).await.ok()?
        };
        let half = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
        timeout_at(half, directory.descriptor()).await.ok()
    }

    /// Opens links with these components, and remembers the route.
    async fn open(
        &self,
        steps: &Steps,
        addresses: BTreeSet<Address>,
        until: Instant,
    ) -> Result<(), String> {
        let mut opened = Vec::new();
        let last = steps.iter().last().map(|last| last.server);
        {
            let mut table = self.table();
            if table.is_closed {
                return Err("the client is closed".to_owned());
            }
            for address in addresses {
                if !table.links.contains_key(&address) {
                    if table.links.len() >= MAX_LINKS {
                        // Links with components that have moved are left over.
                        table.links.retain(|_, opened| opened.link.is_connected());
                    }
                    if table.links.len() >= MAX_LINKS {
                        return Err(format!(
                            "the client already receives answers from {MAX_LINKS} components: connect another client, or set `.answered_by(..)`"
                        ));
                    }
                    let link = self.link_factory.open(&address, SUBSCRIBER, true, last);
                    table.links.insert(address.clone(), link);
                }
                let link = &table.links[&address];
                opened.push((link.link.clone(), link.readiness()));
            }
        }
        let ready = opened.into_iter().map(|(link, ready)| async move {
            let ready = timeout_at(until, AnswerLink::ready(ready)).await;
            ready.unwrap_or(false).then_some(link)
        });
        let links: Vec<_> = join_all(ready).await.into_iter().flatten().collect();
        if links.is_empty() {
            let last = last.unwrap_or_default();
            return Err(format!("no component `{last}` accepts a link"));
        }
        let mut table = self.table();
        table.routes.retain(|route| !route.is_of(steps));
        if table.routes.len() >= MAX_ROUTES {
            table.routes.clear();
        }
        let names = steps.iter().map(|step| step.server.to_owned()).collect();
        table.routes.push(Route {
            names,
            links,
            refreshed: Instant::now(),
        });
        Ok(())
    }

    /// Removes all links. No further ones are opened.
    pub(super) fn close(&self) -> Vec<AnswerLink> {
        let mut table = self.table();
        table.is_closed = true;
        table.routes.clear();
        table.links.drain().map(|(_, opened)| opened).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_route(steps: &Steps, problem: String) -> CallError {
    CallError::NoRoute {
        function: steps.to_string(),
        problem,
    }
}

fn unlisted(name: &str) -> String {
    format!(
        "`{name}` does not list the components that follow it, since it is a legacy peer, or links are disabled: name the last component by `.answered_by(..)` or `.sub_address(..)`"
    )
}

/// Walks from the component at `start`, which runs the first step, to the components that run the last one. `names`:
/// the component of each step.
async fn walk<'a>(
    start: Address,
    names: &[&str],
    ask: impl Fn(Address) -> BoxFuture<'a, Option<Descriptor>>,
) -> Result<BTreeSet<Address>, String> {
    let mut level = BTreeSet::from([start]);
    let mut before = names.first().copied().unwrap_or_default().to_owned();
    for (number, name) in names.iter().enumerate().skip(1) {
        let told = join_all(level.iter().cloned().map(&ask)).await;
        let told = level.iter().zip(&told);
        let answers: Vec<_> = told
            .filter_map(|(address, told)| Some((address, told.as_ref()?)))
            .collect();
        if answers.is_empty() {
            return Err(format!("`{before}` does not answer"));
        }
        // palm components publish their version.
        if answers.iter().all(|(_, told)| told.version.is_empty()) {
            return Err(unlisted(&before));
        }
        let next = followers(&answers, name);
        if next.is_empty() {
            let position = number + 1;
            let others: BTreeSet<_> = answers
                .iter()
                .flat_map(|(_, told)| &told.followers)
                .map(|follower| format!("`{}`", follower.name))
                .take(MAX_SAME)
                .collect();
            let others = match others.is_empty() {
                true => "no component does over a link".to_owned(),
                false => {
                    let others: Vec<_> = others.into_iter().collect();
                    format!("only {} do", others.join(", "))
                }
            };
            return Err(format!(
                "no component `{name}` follows `{before}` for step {position} ({others}): start it with `.follow(..)`; if it follows without a link, as a legacy peer does, name the last component by `.answered_by(..)` or `.sub_address(..)`"
            ));
        }
        level = next;
        before = (*name).to_owned();
    }
    Ok(level)
}

/// Returns the addresses of the followers called `name` of these components.
fn followers(components: &[(&Address, &Descriptor)], name: &str) -> BTreeSet<Address> {
    let mut found = BTreeSet::new();
    for (teller, descriptor) in components {
        let followers = descriptor.followers.iter();
        for follower in followers.filter(|follower| follower.name == name) {
            if let Ok(address) = follower.db_address.parse::<Address>() {
                found.insert(address.as_published_by(teller));
            }
            if found.len() == MAX_SAME {
                return found;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::message::proto::Follower;

    /// Asserts what `walk` finds from port 1. `components`: the port, name, and followers' ports of each.
    fn check(components: &[(u16, &str, &[u16])], names: &[&str], expected: Result<&[u16], &str>) {
        let address = |place: u16| -> Address {
            format!("tcp://127.0.0.1:{place}")
                .parse()
                .expect("an address")
        };
        let name = |place: u16| {
            let found = components.iter().find(|(at, ..)| *at == place);
            found.map_or("gone", |(_, name, _)| name).to_owned()
        };
        let ask = |at: Address| {
            let mut components = components.iter();
            let Some((_, name_of, followers)) = components.find(|it| address(it.0) == at) else {
                return ready(None).boxed();
            };
            let follower = |&place: &u16| Follower {
                name: name(place),
                db_address: address(place).to_string(),
                topics: Vec::new(),
            };
            let descriptor = Descriptor {
                version: match *name_of {
                    "legacy" => String::new(),
                    _ => "0.1.0".to_owned(),
                },
                followers: followers.iter().map(follower).collect(),
                ..Descriptor::default()
            };
            ready(Some(descriptor)).boxed()
        };
        let found = walk(address(1), names, ask).now_or_never();
        let found = found.expect("it waits for nothing");
        match (found, expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found, expected.iter().copied().map(address).collect());
            }
            (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
            (found, _) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn walk_follows_the_names_of_the_steps() {
        let line: &[(u16, &str, &[u16])] = &[
            (1, "a", &[2, 4]),
            (2, "b", &[3]),
            (3, "c", &[]),
            (4, "d", &[]),
        ];
        check(line, &["a", "b"], Ok(&[2]));
        check(line, &["a", "b", "c"], Ok(&[3]));
        check(line, &["a", "d"], Ok(&[4]));
    }

    #[test]
    fn walk_finds_all_components_of_the_last_name() {
        let fork: &[(u16, &str, &[u16])] = &[
            (1, "a", &[2, 3, 9]),
            (2, "b", &[4]),
            (3, "b", &[4, 5]),
            (4, "c", &[]),
            (5, "c", &[]),
        ];
        check(fork, &["a", "b"], Ok(&[2, 3]));
        check(fork, &["a", "b", "c"], Ok(&[4, 5]));
    }

    #[test]
    fn walk_names_the_step_that_has_no_component() {
        let line: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "b", &[])];
        check(
            line,
            &["a", "c"],
            Err("no component `c` follows `a` for step 2 (only `b` do)"),
        );
        check(
            line,
            &["a", "b", "c"],
            Err("no component `c` follows `b` for step 3 (no component"),
        );
        check(
            &[(1, "a", &[2])],
            &["a", "gone", "c"],
            Err("`gone` does not answer"),
        );
        check(
            &[(1, "legacy", &[])],
            &["legacy", "b"],
            Err("`.sub_address(..)`"),
        );
        let behind: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "legacy", &[])];
        check(behind, &["a", "legacy", "c"], Err("`legacy` does not list"));
    }

    #[test]
    fn walk_ends_on_a_cycle_of_components() {
        let circle: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "b", &[1])];
        check(circle, &["a", "b", "a", "b"], Ok(&[2]));
    }

    #[test]
    fn followers_without_an_address_are_skipped() {
        let teller: Address = "tcp://10.0.0.1:5555".parse().expect("an address");
        let follower = |db_address: &str| Follower {
            name: "b".to_owned(),
            db_address: db_address.to_owned(),
            topics: Vec::new(),
        };
        let descriptor = Descriptor {
            followers: vec![
                follower(""),
                follower("nonsense"),
                follower("tcp://0.0.0.0:7"),
            ],
            ..Descriptor::default()
        };
        let found = followers(&[(&teller, &descriptor)], "b");
        let expected: Address = "tcp://10.0.0.1:7".parse().expect("an address");
        assert_eq!(found, BTreeSet::from([expected]));
        let many = Descriptor {
            followers: (1..100)
                .map(|port| follower(&format!("tcp://10.0.0.1:{port}")))
                .collect(),
            ..Descriptor::default()
        };
        assert_eq!(followers(&[(&teller, &many)], "b").len(), MAX_SAME);
    }
}
