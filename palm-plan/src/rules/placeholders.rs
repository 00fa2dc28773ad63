//! Placeholders: the component exists and has the address.

use super::suggest_key;
use crate::cluster::{Cluster, Component};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes, Span, list};
use crate::template::{Endpoint, Part, Placeholder, span_within};

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        for template in component.templates() {
            for part in &template.get_ref().0 {
                if let Part::Placeholder(placeholder, at) = part {
                    let span = span_within(mistakes.text(), template, at.clone());
                    check_placeholder(cluster, component, &span, placeholder, mistakes);
                }
            }
        }
    }
}

fn check_placeholder(
    cluster: &Cluster,
    component: &Component,
    span: &Span,
    placeholder: &Placeholder,
    mistakes: &mut Mistakes,
) {
    let (owner, endpoint) = match placeholder {
        Placeholder::Own(endpoint) => (component, *endpoint),
        Placeholder::Of(key, endpoint) => match cluster.component(key) {
            Some(owner) => (owner, *endpoint),
            None => {
                let message =
                    format!("no component has the key `{key}`, which a placeholder names");
                let mistake = Mistake::new(Code::UnknownReference, span.clone(), message);
                mistakes.push(mistake.help(suggest_key(cluster, key, |it| {
                    it.is(|kind| has(kind, *endpoint))
                })));
                return;
            }
        },
        _ => return,
    };
    let Some(kind) = owner.kind() else {
        return;
    };
    let mistake = |message| {
        let mistake = Mistake::new(Code::MalformedPlaceholder, span.clone(), message);
        match &owner.kind {
            Some(kind) => mistake.related(
                kind.span(),
                format!("`{}` is a {}", owner.key(), kind.get_ref()),
            ),
            None => mistake,
        }
    };
    let all = Endpoint::ALL
        .into_iter()
        .filter(|&it| has(kind, it))
        .map(Endpoint::name);
    let all: Vec<_> = all.collect();
    if !has(kind, endpoint) {
        let message = format!(
            "`{}` is a {kind}, which has no address `{endpoint}`",
            owner.key()
        );
        mistakes.push(match (all.is_empty(), kind) {
            (false, _) => mistake(message).help(format!("it has {}", list(all))),
            (true, Kind::Worker) => {
                mistake(message).help("a worker binds no address: it connects to its master")
            }
            (true, _) => mistake(message),
        });
    } else if endpoint == Endpoint::Address && owner.address.is_none() {
        let message = format!("`{}` has no `address`", owner.key());
        mistakes.push(
            mistake(message)
                .help("write its address in the file: `address = \"tcp://127.0.0.1:PORT\"`"),
        );
    }
}

/// Returns whether components of a kind have an address.
pub(crate) fn has(kind: Kind, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::Db | Endpoint::Pub => kind.binds(),
        Endpoint::Pull => kind.is_entry_point(),
        Endpoint::WorkerPull | Endpoint::WorkerPush => kind.has_workers(),
        Endpoint::Address => matches!(kind, Kind::Gateway | Kind::Process),
    }
}
