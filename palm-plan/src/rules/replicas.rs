//! Replicas: which components may have them, and their bounds.

use crate::cluster::{Cluster, Component};
use crate::keys::MAX_REPLICAS;
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes};

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        let Some(span) = component.replicas.span.clone() else {
            continue;
        };
        let replicas = &component.replicas;
        if let Some(kind) = component.kind().filter(|kind| kind.binds()) {
            let message = format!(
                "`{}` is a {kind}, which cannot have replicas",
                component.key()
            );
            let mistake =
                Mistake::new(Code::ReplicasOfBound, span, message).help(why(component, kind));
            mistakes.push(mistake.help(instead(kind)));
        } else if replicas.min > replicas.max {
            let message = format!(
                "the fewest replicas, {}, are more than the most, {}",
                replicas.min, replicas.max
            );
            mistakes.push(Mistake::new(Code::ReplicasReversed, span, message));
        } else if !(replicas.min..=replicas.max).contains(&replicas.start)
            && replicas.start <= MAX_REPLICAS
        {
            let message = format!(
                "{} replicas are not between {} and {}",
                replicas.start, replicas.min, replicas.max
            );
            mistakes.push(
                Mistake::new(Code::ReplicasReversed, span, message)
                    .help("`start` is between `min` and `max`"),
            );
        }
    }
}

fn why(component: &Component, kind: Kind) -> String {
    match kind.is_step() {
        true => format!(
            "each replica would receive every message that `{}` receives",
            component.key()
        ),
        false => "it binds its address, which only one process can do".to_owned(),
    }
}

fn instead(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "use a master, `kind = \"master\"`, and workers with `replicas`",
        Kind::Master | Kind::Hub => "give `replicas` to its workers",
        _ => "use a hub, `kind = \"hub\"`, and workers with `replicas`",
    }
}
