//! Profiles: a component runs only together with those that it needs.

use crate::cluster::{Cluster, Component};
use crate::mistake::{Code, Mistake, Mistakes, Span, list};
use crate::template::Placeholder;

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        for (key, span) in needs(component) {
            if let Some(needed) = cluster.component(&key) {
                check_need(component, needed, span, mistakes);
            }
        }
    }
}

/// Returns the keys that a component refers to, with the places.
fn needs(component: &Component) -> Vec<(String, Span)> {
    let keys = component.upstream.iter().chain(&component.after);
    let mut needs: Vec<_> = keys
        .map(|key| (key.get_ref().clone(), key.span()))
        .collect();
    for template in component.templates() {
        for placeholder in template.get_ref().placeholders() {
            if let Placeholder::Of(key, _) = placeholder {
                needs.push((key.clone(), template.span()));
            }
        }
    }
    needs.sort_by(|one, other| one.0.cmp(&other.0));
    needs.dedup_by(|one, other| one.0 == other.0);
    needs
}

fn check_need(component: &Component, needed: &Component, span: Span, mistakes: &mut Mistakes) {
    let names = |component: &Component| {
        component
            .profiles
            .iter()
            .map(|it| it.get_ref().clone())
            .collect::<Vec<_>>()
    };
    let (own, other) = (names(component), names(needed));
    let Some(first) = needed.profiles.first() else {
        return;
    };
    let missing = match own.is_empty() {
        true => "without a profile".to_owned(),
        false => match own.iter().find(|profile| !other.contains(profile)) {
            Some(profile) => format!("with the profile `{profile}`"),
            None => return,
        },
    };
    let message = format!(
        "{missing}, `{}` runs and `{}` does not",
        component.key(),
        needed.key()
    );
    let mistake = Mistake::new(Code::ProfileMismatch, span, message);
    let mistake = mistake.related(first.span(), format!("`{}` has profiles", needed.key()));
    let profiles = list(other.iter().map(String::as_str));
    mistakes.push(mistake.help(format!(
        "give `{}` only profiles of `{}`: {profiles}",
        component.key(),
        needed.key()
    )));
}
