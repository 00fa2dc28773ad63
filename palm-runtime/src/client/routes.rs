//! How a client finds the component that answers a call of several steps: the last one.
//!
//! A component lists the components that follow it over links in its descriptor. From the component that it is
//! connected to the client goes on by the names of the steps, and takes its answers from the components that do
//! the last one, over links that its calls share. [`walk`] decides where to go, and knows no socket.

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

use super::answers::InFlightCalls;
use super::way::{self, Transport};
use super::{CallError, Reader};
use crate::discovery::{Directory, Readiness, until_in_place};
use crate::function::Steps;
use crate::link::connection::{Introduction, Link};
use crate::link::{Following, LinkOptions, SUBSCRIBER};
use crate::message::proto::Descriptor;
use crate::socket::{Address, SocketOptions};
use crate::together::Together;
use crate::wait_cause::WaitCause;

/// How long a search waits for components that are not there yet.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a search may take that only looks whether a last component has moved.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a search counts as short, and is not explained.
const SHORT_SEARCH: Duration = Duration::from_secs(1);

/// How long until a search looks again.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// The shortest time between two such lookups.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// How many components of one name a step may have, how many last components a client takes answers from, and how
/// many routes it remembers.
const MAX_SAME: usize = 16;
const MAX_LINKS: usize = 64;
const MAX_ROUTES: usize = 256;

/// Where the answers to calls of several steps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerSource {
    /// From where the client's options say.
    Configured,
    /// From the last component, which the client finds.
    Discovered,
    /// The component that is called is not asked for its followers: a legacy peer, or one without links.
    Unlisted,
}

/// What links of a client are made of.
#[derive(Debug)]
pub(super) struct LinkFactory {
    pub(super) id: ByteString,
    pub(super) sockets: SocketOptions,
    pub(super) options: LinkOptions,
    pub(super) weight: u32,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) transport: watch::Receiver<Option<Transport>>,
}

/// A link whose answers are read.
#[derive(Debug)]
pub(super) struct AnswerLink {
    pub(super) link: Arc<Link>,
    reader: Reader,
    ready: watch::Receiver<Option<Readiness>>,
}

impl LinkFactory {
    /// Opens a link; `takes_answers`: whether the component there is where this client takes answers. `last`: its
    /// name, if the client has found it; a client does without such links.
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
        let reader = way::read(
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
    /// Waits until the component has answered, and has in place what it follows itself. Cancel safe.
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

/// The components that do the last steps of a client's calls, as far as it knows them.
#[derive(Debug)]
pub(super) struct Routes {
    answer_source: AnswerSource,
    /// Of the component that is called, and its name.
    directory: Arc<Directory>,
    server: String,
    /// Whether it does only steps of its own name, as a server, and unlike a master.
    calls_by_name: bool,
    link_factory: LinkFactory,
    table: Mutex<RouteTable>,
    /// Those that are under way, by the names of the components.
    searches: Mutex<HashMap<String, Weak<RouteSearch>>>,
}

/// A search for one route, by one of the calls that wait for it.
#[derive(Debug, Default)]
struct RouteSearch {
    one: tokio::sync::Mutex<()>,
    /// Why it has not found it.
    problem: Mutex<String>,
}

#[derive(Debug, Default)]
struct RouteTable {
    /// By the names of its components.
    routes: Vec<Route>,
    links: HashMap<Address, AnswerLink>,
    is_closed: bool,
}

#[derive(Debug)]
struct Route {
    names: Vec<String>,
    links: Vec<Arc<Link>>,
    /// When it was looked whether its components have moved.
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

    /// Whether [`find`](Self::find) has something to do before a call is sent.
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
            // It is for another component, and refused at once.
            return false;
        }
        let table = self.table();
        let route = table.routes.iter().find(|route| route.is_of(steps));
        !route.is_some_and(|route| route.links.iter().all(|link| link.is_connected()))
    }

    /// Finds the last component of `steps` and takes answers from it from now on, if that is not so yet. Waits
    /// at most as long as `limit`. Cancel safe.
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
            // A last component is away. It may come back where it was: the call waits for it as for any other
            // component; and it may have moved.
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
            // Another call may have found it meanwhile.
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

    /// The search for the route of `steps`, which calls share.
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

    /// Looks once.
    async fn search(&self, steps: &Steps, until: Instant) -> Result<(), String> {
        let start = self.directory.request().address().clone();
        // A master does the first step whatever name that has.
        let first = std::iter::once(&*self.server);
        let others = steps.iter().skip(1).map(|step| step.server);
        let names: Vec<_> = first.chain(others).collect();
        let last = walk(start, &names, |address| self.ask(address, until).boxed()).await?;
        self.open(steps, last, until).await
    }

    /// What the component at `address` says of itself.
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

    /// Takes answers from these components.
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
                        // Components that have moved leave links behind.
                        table.links.retain(|_, opened| opened.link.is_connected());
                    }
                    if table.links.len() >= MAX_LINKS {
                        return Err(format!(
                            "the client takes answers from {MAX_LINKS} components already: connect another client, or say `.answered_by(..)`"
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
            return Err(format!("no link with `{last}` opens"));
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

    /// Takes all links that were opened; no others are opened from now on.
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
        "`{name}` does not list the components that follow it, since it is a legacy peer, or links are disabled: say by `.answered_by(..)` or `.sub_address(..)` which component is the last one"
    )
}

/// Goes from the component at `start`, which does the first of the steps whose components are `names`, to those
/// that do the last one.
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
        // One of palm tells its version.
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
                "no component `{name}` follows `{before}` for step {position} ({others}): start it with `.follow(..)`; if it follows without a link, as a legacy peer, say by `.answered_by(..)` or `.sub_address(..)` which component is the last one"
            ));
        }
        level = next;
        before = (*name).to_owned();
    }
    Ok(level)
}

/// Where the followers called `name` are, of components with these descriptors.
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

    /// `components`: where each is, its name, and the places of those that follow it. Tells where the last of
    /// `names` is found, from place 1 on.
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
    fn walk_ends_where_components_follow_each_other_in_a_circle() {
        let circle: &[(u16, &str, &[u16])] = &[(1, "a", &[2]), (2, "b", &[1])];
        check(circle, &["a", "b", "a", "b"], Ok(&[2]));
    }

    #[test]
    fn followers_without_an_address_are_left_out() {
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
