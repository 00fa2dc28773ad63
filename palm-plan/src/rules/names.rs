//! Names: their characters, and which of them clients can tell apart.

use toml::Spanned;

use crate::cluster::Cluster;
use crate::kind::Kind;
use crate::mistake::{Code, Mistake, Mistakes};

/// Longest name of a cluster, in bytes. With the longest key it fits into the path of a socket.
const MAX_CLUSTER_NAME: usize = 24;
/// Longest key of a component, in bytes.
const MAX_KEY: usize = 32;

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    if !cluster.name.span().is_empty() {
        check_word(
            &cluster.name,
            "the name of the cluster",
            MAX_CLUSTER_NAME,
            mistakes,
        );
    }
    for component in &cluster.components {
        check_word(&component.key, "the key of a component", MAX_KEY, mistakes);
        if component.name.span() != component.key.span() {
            check_name(&component.name, mistakes);
        }
    }
    check_duplicates(cluster, mistakes);
}

/// Reports a name that cannot be part of a path: it becomes that of folders and sockets.
fn check_word(name: &Spanned<String>, what: &str, max: usize, mistakes: &mut Mistakes) {
    let text = name.get_ref();
    let is_part = |it: char| it.is_ascii_alphanumeric() || it == '-' || it == '_';
    let problem = match text.chars().find(|&it| !is_part(it)) {
        Some(found) => format!("{what} has the character `{}`", found.escape_debug()),
        None if text.is_empty() => format!("{what} is empty"),
        None if text.len() > max => format!("{what} has {} characters", text.len()),
        None => return,
    };
    let help = format!("use at most {max} of the characters A-Z, a-z, 0-9, `-` and `_`");
    mistakes.push(Mistake::new(Code::MalformedName, name.span(), problem).help(help));
}

/// Reports a name that cannot be part of a call, `name.function`.
fn check_name(name: &Spanned<String>, mistakes: &mut Mistakes) {
    let text = name.get_ref();
    let is_wrong = |it: char| it == '.' || it.is_whitespace() || it.is_control();
    let problem = match text.chars().find(|&it| is_wrong(it)) {
        Some(found) => format!(
            "the name `{}` has the character `{}`",
            text.escape_debug(),
            found.escape_debug()
        ),
        None if text.is_empty() => "the name is empty".to_owned(),
        None => return,
    };
    let help = "clients call `name.function`, so a name has no dot and no space";
    mistakes.push(Mistake::new(Code::MalformedName, name.span(), problem).help(help));
}

/// Reports two entry points with one name, an entry point and a step with one name, and two groups of workers.
fn check_duplicates(cluster: &Cluster, mistakes: &mut Mistakes) {
    for (number, component) in cluster.components.iter().enumerate() {
        let clashes = cluster.components[..number].iter().find(|before| {
            let both = |fits: fn(Kind) -> bool| component.is(fits) && before.is(fits);
            let is_entry = component.is(Kind::is_entry_point) || before.is(Kind::is_entry_point);
            before.name() == component.name()
                && (both(Kind::binds) && is_entry || both(|kind| kind == Kind::Worker))
        });
        let Some(before) = clashes else {
            continue;
        };
        let message = format!(
            "`{}` and `{}` have the name `{}`",
            before.key(),
            component.key(),
            component.name()
        );
        let mistake = Mistake::new(Code::DuplicateName, component.name.span(), message);
        let mistake = mistake.related(before.name.span(), "the first one");
        mistakes.push(match component.is(|kind| kind == Kind::Worker) {
            true => mistake.help("a master tells workers apart by their names: leave `name` out, or choose another one"),
            false => mistake.help("clients call a component by its name: choose another one"),
        });
    }
}
