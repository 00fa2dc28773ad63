//! [`Routes`] finds the component that answers a call of several steps: the one that runs the last step.
//!
//! A component lists the components that follow it over links in its descriptor. From the first component the client
//! walks from one to the next by the names of the steps, and opens a link with each component that runs the last step.
//! The calls of a client share these links, and calls of the same route share one search. [`walk()`] decides where to
//! go; it does no I/O.

mod walk;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use self::walk::{unlisted, walk};
use crate::client::CallError;
use crate::client::answer_link::{AnswerLink, LinkFactory};
use crate::discovery::Directory;
use crate::function::Steps;
use crate::link::SUBSCRIBER;
use crate::link::client::LinkClient;
use crate::message::proto::Descriptor;
use crate::socket::Address;
use crate::wait_cause::WaitCause;

/// Limit on the search for components that have not started yet.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit on a search that only checks whether a known last component has moved.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(500);

/// The least time that each component of a route has to answer; a quarter of the search if that is shorter. An attempt
/// that is cut off by the end of its search reports nothing, so that the reason of the one before remains.
const MIN_ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Duration of a search that is not logged.
const SHORT_SEARCH: Duration = Duration::from_secs(1);

/// Delay between two attempts of a search.
const SEARCH_INTERVAL: Duration = Duration::from_millis(100);

/// Shortest interval between two checks of a known route.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Most last components from which a client receives answers.
const MAX_LINKS: usize = 64;

/// Most routes that a client remembers.
const MAX_ROUTES: usize = 256;

/// How a client finds the component that answers calls of several steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum AnswerSource {
    /// The client's options name the component.
    Configured,
    /// The client discovers the component.
    Discovered,
    /// The called component does not list its followers: it is a legacy peer, or links are disabled.
    Unlisted,
}

/// The routes of a client's calls that it has discovered.
#[derive(Debug)]
pub(in crate::client) struct Routes {
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
    /// The error of the last attempt.
    problem: Mutex<String>,
}

/// The time that a search may take.
#[derive(Debug, Clone, Copy)]
struct SearchLimit {
    until: Instant,
    /// Time that each component has to answer at least.
    min_answer: Duration,
}

impl SearchLimit {
    fn new(now: Instant, limit: Duration) -> Self {
        Self {
            until: now + limit,
            min_answer: MIN_ANSWER_TIMEOUT.min(limit / 4),
        }
    }

    /// Returns the deadline of a component that is asked now: half of the remaining time, but at least `min_answer`, so it
    /// may be later than `until`.
    fn answer_deadline(self) -> Instant {
        let now = Instant::now();
        now + self
            .min_answer
            .max(self.until.saturating_duration_since(now) / 2)
    }
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
    links: Vec<Arc<LinkClient>>,
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
    pub(in crate::client) fn new(
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

    /// Returns whether [`ensure`](Self::ensure) must search for components before a call is sent.
    pub(in crate::client) fn needs_search(&self, steps: &Steps) -> bool {
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
        let table = self.table.lock();
        let route = table.routes.iter().find(|route| route.is_of(steps));
        !route.is_some_and(|route| route.links.iter().all(|link| link.is_connected()))
    }

    /// Finds the last component of `steps` and receives answers from it, unless the route is known.
    ///
    /// Waits at most `limit`. Cancel safe.
    pub(in crate::client) async fn ensure(
        &self,
        steps: &Steps,
        limit: Duration,
    ) -> Result<(), CallError> {
        if !self.needs_search(steps) {
            return Ok(());
        }
        if self.answer_source == AnswerSource::Unlisted {
            return Err(no_route(steps, unlisted(&self.server)));
        }
        let now = Instant::now();
        let known = {
            let mut table = self.table.lock();
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
                let limit = SearchLimit::new(now, limit.min(REFRESH_TIMEOUT));
                let _ = timeout_at(limit.until, self.search(steps, limit)).await;
            }
            return Ok(());
        }
        let limit = SearchLimit::new(now, limit.min(SEARCH_TIMEOUT));
        let search = self.join_search(steps);
        let found = timeout_at(limit.until, async {
            let _one = search.one.lock().await;
            let cause = WaitCause::default();
            // Another call may have found the route meanwhile.
            while self.needs_search(steps) {
                match self.search(steps, limit).await {
                    Ok(()) => return,
                    Err(problem) => {
                        if now.elapsed() >= SHORT_SEARCH && cause.set(&problem) {
                            tracing::warn!("waiting for a route for `{steps}`: {problem}");
                        }
                        *search.problem.lock() = problem;
                    }
                }
                tokio::time::sleep(SEARCH_INTERVAL).await;
            }
        });
        if found.await.is_ok() {
            return Ok(());
        }
        let mut problem = search.problem.lock().clone();
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
        let mut searches = self.searches.lock();
        if let Some(search) = searches.get(&names).and_then(Weak::upgrade) {
            return search;
        }
        searches.retain(|_, search| search.strong_count() > 0);
        let search = Arc::<RouteSearch>::default();
        searches.insert(names, Arc::downgrade(&search));
        search
    }

    /// Makes one attempt to find the route.
    async fn search(&self, steps: &Steps, limit: SearchLimit) -> Result<(), String> {
        let start = self.directory.request().address().clone();
        // A master runs the first step under any component name.
        let first = std::iter::once(&*self.server);
        let others = steps.iter().skip(1).map(|step| step.server);
        let names: Vec<_> = first.chain(others).collect();
        let last = walk(start, &names, |address| {
            self.fetch_descriptor(address, limit).boxed()
        })
        .await?;
        self.open(steps, last, limit).await
    }

    /// Reads the descriptor of the component at `address`.
    async fn fetch_descriptor(&self, address: Address, limit: SearchLimit) -> Option<Descriptor> {
        let directory = if address == *self.directory.request().address() {
            self.directory.clone()
        } else {
            let (id, sockets) = (&self.link_factory.id, &self.link_factory.sockets);
            Directory::connect(&address, id, sockets).await.ok()?
        };
        let answer = timeout_at(limit.answer_deadline(), directory.descriptor());
        answer.await.ok()
    }

    /// Opens links with these components, and remembers the route.
    async fn open(
        &self,
        steps: &Steps,
        addresses: Vec<Address>,
        limit: SearchLimit,
    ) -> Result<(), String> {
        let mut opened = Vec::new();
        let last = steps.iter().last().map(|last| last.server);
        {
            let mut table = self.table.lock();
            if table.is_closed {
                return Err("the client is closed".to_owned());
            }
            for address in addresses {
                if !table.links.contains_key(&address) {
                    if table.links.len() >= MAX_LINKS {
                        // Drops the links of components that have moved to another address.
                        table.links.retain(|_, opened| opened.link.is_connected());
                    }
                    if table.links.len() >= MAX_LINKS {
                        return Err(format!(
                            "the client already receives answers from {MAX_LINKS} components: connect another client, or set `.answered_by(..)`"
                        ));
                    }
                    let name = last.unwrap_or_default();
                    let factory = &self.link_factory;
                    let link = factory.open_discovered(&address, SUBSCRIBER, name);
                    table.links.insert(address.clone(), link);
                }
                let link = &table.links[&address];
                opened.push((link.link.clone(), link.readiness()));
            }
        }
        let ready = opened.into_iter().map(|(link, ready)| async move {
            let ready = timeout_at(limit.answer_deadline(), AnswerLink::ready(ready)).await;
            ready.unwrap_or(false).then_some(link)
        });
        let links: Vec<_> = join_all(ready).await.into_iter().flatten().collect();
        if links.is_empty() {
            let last = last.unwrap_or_default();
            return Err(format!("no component `{last}` accepts a link"));
        }
        let mut table = self.table.lock();
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
    pub(in crate::client) fn close(&self) -> Vec<AnswerLink> {
        let mut table = self.table.lock();
        table.is_closed = true;
        table.routes.clear();
        table.links.drain().map(|(_, opened)| opened).collect()
    }
}

fn no_route(steps: &Steps, problem: String) -> CallError {
    CallError::NoRoute {
        function: steps.to_string(),
        problem,
    }
}
