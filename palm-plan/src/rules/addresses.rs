//! Addresses: duplicates, those that other hosts can reach, and those that a command does not learn.

use toml::Spanned;

use crate::address::Address;
use crate::cluster::{Cluster, Component};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, list};
use crate::template::{Endpoint, Placeholder};

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    let bound = bound(cluster, mistakes);
    for (number, (key, address)) in bound.iter().enumerate() {
        check_duplicate(key, address, &bound[..number], mistakes);
        check_open(cluster, address, mistakes);
    }
    for component in &cluster.components {
        check_told(cluster, component, mistakes);
    }
    for (key, address) in &cluster.expose {
        check_exposed(cluster, key, address, mistakes);
    }
}

/// Returns the addresses of the file that components bind, with the keys of these, and reports malformed ones.
fn bound<'a>(cluster: &'a Cluster, mistakes: &mut Mistakes) -> Vec<(&'a str, Spanned<Address>)> {
    let mut bound = Vec::new();
    for component in cluster
        .components
        .iter()
        .filter(|component| !component.is(|kind| kind == Kind::Worker))
    {
        bound.extend(
            component
                .address
                .iter()
                .map(|address| (component.key(), address.clone())),
        );
        for (name, option) in &component.options {
            let is_address = Endpoint::ALL
                .iter()
                .any(|endpoint| endpoint.option() == Some(name));
            let (true, Some(text)) = (is_address, option.value.get_ref().as_str()) else {
                continue;
            };
            match Address::parse(text) {
                Ok(address) => {
                    bound.push((component.key(), Spanned::new(option.value.span(), address)))
                }
                Err(problem) => {
                    let message = format!("the address `{text}` is malformed: {problem}");
                    mistakes.push(Mistake::new(
                        Code::MalformedAddress,
                        option.value.span(),
                        message,
                    ));
                }
            }
        }
    }
    for (key, address) in &cluster.expose {
        bound.push((key.get_ref(), address.clone()));
    }
    bound.sort_by_key(|(_, address)| address.span().start);
    bound
}

fn check_duplicate(
    key: &str,
    address: &Spanned<Address>,
    before: &[(&str, Spanned<Address>)],
    mistakes: &mut Mistakes,
) {
    let same = before
        .iter()
        .find(|(_, other)| other.get_ref().overlaps(address.get_ref()));
    let Some((other_key, other)) = same else {
        return;
    };
    let message = format!("`{key}` and `{other_key}` bind the same address");
    let mistake = Mistake::new(Code::DuplicateAddress, address.span(), message);
    let mistake = mistake.related(other.span(), "the first one");
    mistakes.push(match *other_key == key {
        true => mistake.help("an address in `expose` is the `db_address`: remove the other one"),
        false => mistake.help("choose another port, or remove one of them: then an address is chosen for the component"),
    });
}

fn check_open(cluster: &Cluster, address: &Spanned<Address>, mistakes: &mut Mistakes) {
    if !cluster.trusts_network && address.get_ref().is_open() {
        let message = format!(
            "other hosts can reach `{}`, and every peer that does can join, read and stop others",
            address.get_ref()
        );
        let mistake = Mistake::new(Code::OpenAddress, address.span(), message);
        let mistake = mistake.help("bind the loopback address, such as `tcp://127.0.0.1:PORT`");
        mistakes.push(mistake.help(
            "or, on a trusted private network, write `trust_network = true` at the top of the file",
        ));
    }
}

/// Reports a command that does not learn the address that it binds, or that of the component upstream.
fn check_told(cluster: &Cluster, component: &Component, mistakes: &mut Mistakes) {
    let (true, Some(kind)) = (component.is_command(), component.kind()) else {
        return;
    };
    if component.has_unknown_placeholders {
        return;
    }
    let uses = |fits: &dyn Fn(&Placeholder) -> bool| {
        component
            .templates()
            .any(|template| template.get_ref().placeholders().any(fits))
    };
    let is_exposed = |key: &str| {
        cluster
            .expose
            .iter()
            .any(|(exposed, _)| exposed.get_ref() == key)
    };
    let mistake = |message| Mistake::new(Code::AddressNotTold, component.key.span(), message);
    let uses_db = uses(&|it| *it == Placeholder::Own(Endpoint::Db));
    if kind.binds() && component.address.is_none() && !is_exposed(component.key()) && !uses_db {
        let message = format!(
            "the command of `{}` does not learn the address that it has to bind",
            component.key()
        );
        let help = "pass it as an argument or a variable, such as `args = [\"--db\", \"{db}\"]`; if the address is in the \
                    command itself, write it here too: `address = \"tcp://..\"`";
        mistakes.push(mistake(message).help(help));
    }
    for key in &component.upstream {
        let Some(upstream) = cluster.component(key.get_ref()) else {
            continue;
        };
        let is_known = upstream.address.is_some() || is_exposed(upstream.key());
        let uses_it = uses(&|it| matches!(it, Placeholder::Of(of, _) if of == upstream.key()));
        if !is_known && !uses_it {
            let message = format!(
                "the command of `{}` does not learn the address of `{}`",
                component.key(),
                upstream.key()
            );
            let help = format!(
                "pass it as an argument or a variable, such as `args = [\"--db\", \"{{{}.db}}\"]`",
                upstream.key()
            );
            mistakes.push(mistake(message).help(help));
        }
    }
}

/// Reports an exposed component whose steps downstream answer at addresses that clients outside cannot reach.
fn check_exposed(
    cluster: &Cluster,
    key: &Spanned<String>,
    address: &Spanned<Address>,
    mistakes: &mut Mistakes,
) {
    if let Address::Ipc(_) = address.get_ref() {
        let message = format!("clients outside cannot reach `{}`", address.get_ref());
        let mistake = Mistake::new(Code::MalformedAddress, address.span(), message);
        mistakes.push(mistake.help("write `tcp://HOST:PORT`"));
        return;
    }
    if !cluster
        .component(key.get_ref())
        .is_some_and(|it| it.is(Kind::binds))
    {
        return;
    }
    let mut hidden = Vec::new();
    let mut queue: Vec<&str> = vec![key.get_ref()];
    let mut seen = queue.clone();
    while let Some(next) = queue.pop() {
        for follower in cluster.followers(next) {
            if seen.contains(&follower.key()) {
                continue;
            }
            seen.push(follower.key());
            queue.push(follower.key());
            let is_exposed = cluster
                .expose
                .iter()
                .any(|(exposed, _)| exposed.get_ref() == follower.key());
            let answers = follower.to_client.as_ref().is_none_or(|it| *it.get_ref());
            let is_tcp = follower
                .address
                .as_ref()
                .is_some_and(|it| matches!(it.get_ref(), Address::Tcp(..)));
            if answers && !is_exposed && !is_tcp {
                hidden.push(follower.key());
            }
        }
    }
    if !hidden.is_empty() {
        let message = format!(
            "clients outside can call `{}`, but cannot receive the answers of {}",
            key.get_ref(),
            list(hidden.iter().copied())
        );
        let mistake = Mistake::new(Code::AnswersUnreachable, key.span(), message);
        mistakes.push(
            mistake
                .help("the last step of a call answers the client: expose these components, too"),
        );
    }
}
