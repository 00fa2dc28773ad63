//! Streams: topics, the way back to the client, workers, and the functions that are called.

use toml::Spanned;

use crate::cluster::{Cluster, Component};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, list, suggestion};

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        check_path_back(cluster, component, mistakes);
        check_followed_topics(cluster, component, mistakes);
        check_emitted_topics(cluster, component, mistakes);
        check_workers(cluster, component, mistakes);
        for call in &component.calls {
            check_call(cluster, call, mistakes);
        }
    }
}

fn check_path_back(cluster: &Cluster, component: &Component, mistakes: &mut Mistakes) {
    let Some(to_client) = component.to_client.as_ref().filter(|it| !it.get_ref()) else {
        return;
    };
    if cluster.followers(component.key()).next().is_none() {
        let message = format!(
            "the results of `{}` go to followers, and no component follows it",
            component.key()
        );
        let mistake = Mistake::new(Code::NoPathBack, to_client.span(), message);
        mistakes.push(mistake.help(
            "the last step answers the client: remove `to_client`, or write `to_client = true`",
        ));
    }
}

/// Reports a topic that the component upstream does not publish under.
fn check_followed_topics(cluster: &Cluster, component: &Component, mistakes: &mut Mistakes) {
    if !component.is(Kind::is_step) {
        return;
    }
    for key in &component.upstream {
        let Some(upstream) = cluster
            .component(key.get_ref())
            .filter(|it| it.is(Kind::binds))
        else {
            continue;
        };
        let topic = component
            .topic
            .as_ref()
            .map_or(upstream.name(), |topic| topic.get_ref());
        let span = component.topic.as_ref().unwrap_or(key).span();
        if let Some(topics) = &upstream.topics {
            if topics.iter().any(|emitted| emitted.get_ref() == topic) {
                continue;
            }
            let message = format!(
                "`{}` does not publish under the topic `{topic}`",
                upstream.key()
            );
            let known = topics.iter().map(|topic| topic.get_ref().as_str());
            let mut mistake =
                Mistake::new(Code::TopicNotEmitted, span, message).help(suggestion(topic, known));
            if let Some(first) = topics.first() {
                mistake = mistake.related(first.span(), "its topics");
            }
            mistakes.push(mistake);
        } else if component.topic.is_none() {
            let Some(to_client) = upstream.to_client.as_ref().filter(|it| *it.get_ref()) else {
                continue;
            };
            let message = format!(
                "`{}` sends its results to the client, so `{}` receives nothing",
                upstream.key(),
                component.key()
            );
            let mistake = Mistake::new(Code::TopicNotEmitted, span, message);
            let mistake = mistake.related(to_client.span(), "the results go to the client");
            mistakes.push(mistake.help(
                "remove `to_client`: then the steps of each message decide where its result goes",
            ));
        }
    }
}

fn check_emitted_topics(cluster: &Cluster, component: &Component, mistakes: &mut Mistakes) {
    for topic in component.topics.iter().flatten() {
        let follows = |follower: &Component| {
            let followed = follower.topic.as_ref();
            followed.map_or(component.name(), |topic| topic.get_ref()) == topic.get_ref()
        };
        if !cluster.followers(component.key()).any(follows) {
            let message = format!(
                "no component follows the topic `{}` of `{}`",
                topic.get_ref(),
                component.key()
            );
            let mistake = Mistake::new(Code::TopicNotFollowed, topic.span(), message);
            let help = format!(
                "its messages are dropped: add a component with `from = \"{}\"` and `topic = \"{}\"`",
                component.key(),
                topic.get_ref()
            );
            mistakes.push(mistake.help(help));
        }
    }
}

fn check_workers(cluster: &Cluster, component: &Component, mistakes: &mut Mistakes) {
    let is_exposed = cluster
        .expose
        .iter()
        .any(|(key, _)| key.get_ref() == component.key());
    let has_workers = cluster.workers(component.key()).next().is_some();
    // One whose master is wrong may be meant for this component.
    let is_stray = |worker: &Component| {
        let masters = worker.upstream.iter();
        let mut masters = masters.filter_map(|key| cluster.component(key.get_ref()));
        worker.is(|kind| kind == Kind::Worker) && !masters.any(|it| it.is(Kind::has_workers))
            || worker.kind.is_none()
    };
    let has_stray = cluster.components.iter().any(is_stray);
    // Workers of other hosts can connect to an exposed one.
    if component.is(Kind::has_workers) && !has_workers && !is_exposed && !has_stray {
        let message = format!("`{}` has no workers, so its calls wait", component.key());
        let mistake = Mistake::new(Code::NoWorkers, component.key.span(), message);
        mistakes.push(mistake.help(format!(
            "add a component with `kind = \"worker\"` and `master = \"{}\"`",
            component.key()
        )));
    }
}

/// Reports a call whose steps no path of components runs: `a.f b.g` needs an entry point `a` that a component `b` follows.
fn check_call(cluster: &Cluster, call: &Spanned<String>, mistakes: &mut Mistakes) {
    let mut reached: Vec<&Component> = Vec::new();
    let steps: Vec<_> = call.get_ref().split_whitespace().collect();
    for (number, step) in steps.iter().enumerate() {
        let Some(name) = step
            .split_once('.')
            .filter(|(name, function)| !name.is_empty() && !function.is_empty())
        else {
            let message = format!("`{step}` is not a function");
            let mistake = Mistake::new(Code::MalformedName, call.span(), message);
            mistakes.push(mistake.help("write `NAME.FUNCTION`, with the name of a component; several steps are separated by spaces"));
            return;
        };
        let name = name.0;
        let named: Vec<_> = cluster
            .components
            .iter()
            .filter(|it| it.is(Kind::binds) && it.name() == name)
            .collect();
        if named.is_empty() {
            let known = cluster
                .components
                .iter()
                .filter(|it| it.is(Kind::binds))
                .map(Component::name);
            let known: Vec<_> = known.collect();
            let message = format!("no component has the name `{name}`");
            let mistake = Mistake::new(Code::UnknownReference, call.span(), message);
            mistakes.push(mistake.help(suggestion(name, known.iter().copied())));
            return;
        }
        let next: Vec<&Component> = match number {
            0 => named
                .iter()
                .copied()
                .filter(|it| it.is(Kind::is_entry_point))
                .collect(),
            _ => named
                .iter()
                .copied()
                .filter(|it| follows_any(it, &reached))
                .collect(),
        };
        if next.is_empty() {
            mistakes.push(no_route(call, number, step, &reached, named[0]));
            return;
        }
        reached = next;
    }
    let is_last = |it: &&Component| {
        it.to_client
            .as_ref()
            .is_none_or(|to_client| *to_client.get_ref())
    };
    if steps.is_empty() {
        let message = "a call names at least one function".to_owned();
        mistakes.push(Mistake::new(Code::MalformedName, call.span(), message));
    } else if !reached.iter().any(is_last) {
        let message = format!(
            "`{}` sends its results to followers, so the call has no answer",
            reached[0].key()
        );
        let mistake = Mistake::new(Code::NoRoute, call.span(), message);
        mistakes.push(mistake.help("add the next step to the call, or remove `to_client`"));
    }
}

fn follows_any(component: &Component, reached: &[&Component]) -> bool {
    let mut upstream = component.upstream.iter();
    upstream.any(|key| reached.iter().any(|it| it.key() == key.get_ref()))
}

fn no_route(
    call: &Spanned<String>,
    number: usize,
    step: &str,
    reached: &[&Component],
    named: &Component,
) -> Mistake {
    let (message, help) = match number {
        0 => (
            format!(
                "a call cannot begin with `{step}`: `{}` is a step",
                named.key()
            ),
            "a call begins at a server or master".to_owned(),
        ),
        _ => (
            format!("`{step}` is not downstream of the step before it"),
            format!(
                "`{}` has to follow {}",
                named.key(),
                list(reached.iter().map(|it| it.key()))
            ),
        ),
    };
    let mistake = Mistake::new(Code::NoRoute, call.span(), message).help(help);
    mistake.related(named.key.span(), "the component with this name")
}
