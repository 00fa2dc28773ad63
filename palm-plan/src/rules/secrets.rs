//! Secrets: the file is read by many, so it refers to them.

use crate::cluster::{Cluster, Component, Variable};
use crate::mistake::{Code, Mistake, Mistakes, Span};
use crate::template::{Part, Template};

/// Words at the end of a name that stand for a secret.
const WORDS: [&str; 8] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credentials",
    "apikey",
    "pwd",
];
/// The same for names that end with `key`.
const KEYS: [&str; 6] = ["api", "access", "auth", "private", "secret", "signing"];

pub(super) fn check(cluster: &Cluster, mistakes: &mut Mistakes) {
    for component in &cluster.components {
        for (name, variable) in &component.env {
            if let Variable::Text(text) = variable
                && (is_secret(name) && is_literal(text.get_ref()) || has_password(text.get_ref()))
            {
                report(
                    &format!("the variable `{name}`"),
                    text.span(),
                    name,
                    mistakes,
                );
            }
        }
        check_args(component, mistakes);
    }
}

/// Reports `--password VALUE`, `--password=VALUE` and URLs with a password.
fn check_args(component: &Component, mistakes: &mut Mistakes) {
    for (number, arg) in component.args.iter().enumerate() {
        let Some(Part::Text(text)) = arg.get_ref().0.first() else {
            continue;
        };
        let flag = text
            .strip_prefix('-')
            .map(|flag| flag.trim_start_matches('-'));
        let (name, has_value) = match flag.map(|flag| flag.split_once('=')) {
            Some(Some((name, value))) => (name, !value.is_empty()),
            Some(None) => (flag.unwrap_or_default(), false),
            None => ("", false),
        };
        let next = component.args.get(number + 1);
        if is_secret(name) && has_value || has_password(arg.get_ref()) {
            report("an argument", arg.span(), "SECRET", mistakes);
        } else if let Some(next) = next.filter(|next| is_secret(name) && is_literal(next.get_ref()))
        {
            report(
                &format!("the value of `{text}`"),
                next.span(),
                "SECRET",
                mistakes,
            );
        }
    }
}

fn report(what: &str, span: Span, name: &str, mistakes: &mut Mistakes) {
    let mistake = Mistake::new(
        Code::LiteralSecret,
        span,
        format!("{what} contains a secret"),
    );
    let mistake = mistake.label("many can read this file");
    mistakes.push(mistake.help(format!(
        "refer to it: `env = {{ {name} = {{ file = \"PATH\" }} }}`, or `{{ env = \"VARIABLE\" }}` for one of the environment \
         of `palm up`"
    )));
}

/// Returns whether a name says that its value is a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.rsplit(['_', '-', '.']);
    match words.next() {
        Some("key") => words.next().is_some_and(|word| KEYS.contains(&word)),
        Some(last) => WORDS.contains(&last),
        None => false,
    }
}

/// Returns whether a text has a value, and no placeholder.
fn is_literal(text: &Template) -> bool {
    matches!(&text.0[..], [Part::Text(text)] if !text.is_empty() && !text.starts_with('-'))
}

/// Returns whether a text is a URL with a password: `scheme://user:password@host`.
fn has_password(text: &Template) -> bool {
    let [Part::Text(text), ..] = &text.0[..] else {
        return false;
    };
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.and_then(|user| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_recognized_by_their_last_word() {
        for name in [
            "TOKEN",
            "DB_PASSWORD",
            "api-key",
            "AWS_SECRET_ACCESS_KEY",
            "client.secret",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "TOKEN_LIMIT",
            "CACHE_KEY",
            "KEY",
            "PASSWORD_FILE",
            "monkey",
            "",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn passwords_of_urls_are_recognized() {
        let has_password = |text| has_password(&Template::parse(text).unwrap());
        assert!(has_password("postgres://user:hunter2@db/images"));
        for text in [
            "postgres://user@db",
            "postgres://user:@db",
            "tcp://a:1",
            "a:b@c",
            "http://a/b:c@d",
        ] {
            assert!(!has_password(text), "{text}");
        }
    }
}
