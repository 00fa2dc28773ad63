//! Options that contradict other keys. The names and values of options are checked by the library that has them.

use crate::cluster::{Cluster, Component, Ready};
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes};
use crate::template::Endpoint;

/// Options that the file sets by keys of its own, and these keys.
const SET_BY_KEYS: &[(&str, &str)] = &[
    ("db_address", "address"),
    ("follow", "from"),
    ("name", "name"),
    ("pipelined", "to_client"),
    ("previous", "topic"),
    ("stream", "from"),
    ("sub_address", "from"),
    ("to_client", "to_client"),
];

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        check_options(component, mistakes);
        check_ready(component, mistakes);
    }
}

fn check_options(component: &Component, mistakes: &mut Mistakes) {
    let is_address = |name: &str| {
        Endpoint::ALL
            .iter()
            .any(|endpoint| endpoint.option() == Some(name))
    };
    for (name, option) in &component.options {
        let mistake = |message: String| Mistake::new(Code::Conflict, option.span.clone(), message);
        if let Some((_, key)) = SET_BY_KEYS.iter().find(|(set, _)| set == name) {
            let message = format!("the option `{name}` is set by the key `{key}`");
            mistakes
                .push(mistake(message).help(format!("write `{key} = ..` outside of `options`")));
        } else if name == "trust_network" {
            let message = "the option `trust_network` is set for the whole cluster".to_owned();
            mistakes
                .push(mistake(message).help("write `trust_network = true` at the top of the file"));
        } else if component.is_command() && !is_address(name) {
            let message = format!(
                "`{}` is a command, which does not learn the option `{name}`",
                component.key()
            );
            mistakes.push(
                mistake(message)
                    .help("only programs with `palm::main!` do: a command has `args` and `env`"),
            );
        }
    }
}

fn check_ready(component: &Component, mistakes: &mut Mistakes) {
    let Some(ready) = component
        .ready
        .as_ref()
        .filter(|it| *it.get_ref() == Ready::Address)
    else {
        return;
    };
    if component.address.is_none() && component.is(|kind| !kind.binds()) {
        let message = format!(
            "`{}` has no address that could become ready",
            component.key()
        );
        let mistake = Mistake::new(Code::Conflict, ready.span(), message);
        mistakes.push(match component.is(|kind| kind == Kind::Worker) {
            true => mistake.help("a worker binds no address: use `ready = \"running\"`, or \"notify\" for a program"),
            false => mistake.help("write its address: `address = \"tcp://127.0.0.1:PORT\"`, or use `ready = \"running\"`"),
        });
    }
}
