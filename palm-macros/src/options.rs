//! The options of an attribute, `key = value` or a bare `key`, separated by commas: the loop over
//! them, written once for all attributes.

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Result, Token};

use crate::diagnostics::Diagnostics;

/// An option that an attribute takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) key: &'static str,
    /// How it is written, e.g. `name = "..."`.
    pub(crate) usage: &'static str,
}

pub(crate) const NAME: Accepted = Accepted {
    key: "name",
    usage: "name = \"...\"",
};
pub(crate) const SERVER: Accepted = Accepted {
    key: "server",
    usage: "server = \"...\"",
};
pub(crate) const CRATE: Accepted = Accepted {
    key: "crate",
    usage: "crate = path::of::palm",
};
pub(crate) const BLOCKING: Accepted = Accepted {
    key: "blocking",
    usage: "blocking",
};
pub(crate) const AT_MOST_ONCE: Accepted = Accepted {
    key: "at_most_once",
    usage: "at_most_once",
};

pub(crate) const MAX_RUNTIME_MS: Accepted = Accepted {
    key: "max_runtime_ms",
    usage: "max_runtime_ms = 1000",
};

/// The options that were given to one attribute. Taken from it one by one.
#[derive(Debug)]
pub(crate) struct Options {
    given: Vec<Given>,
    /// Whether what is missing may be behind a mistake.
    pub(crate) has_mistakes: bool,
}

#[derive(Debug)]
struct Given {
    key: Ident,
    accepted: Accepted,
    value: Option<Expr>,
}

/// The expression within the groups that `macro_rules` puts around a fragment.
fn without_groups(mut value: Expr) -> Expr {
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    value
}

impl Options {
    /// Parses `args` of the attribute called `attribute`, which takes the options `accepted`.
    pub(crate) fn parse(
        args: TokenStream,
        attribute: &str,
        accepted: &[Accepted],
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut given: Vec<Given> = Vec::new();
        let mut has_mistakes = false;
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                let (key, value) = parse_option(input, attribute, accepted)?;
                let name = key.unraw().to_string();
                let Some(&accepted) = accepted.iter().find(|accepted| name == accepted.key) else {
                    diagnostics.push(&key, unknown(&name, attribute, accepted));
                    has_mistakes = true;
                    continue;
                };
                if given.iter().any(|given| given.accepted.key == name) {
                    diagnostics.push(&key, format_args!("`{name}` is given twice"));
                    continue;
                }
                given.push(Given {
                    key,
                    accepted,
                    value: value.map(without_groups),
                });
            }
            Ok(())
        };
        if let Err(error) = parser.parse2(args) {
            diagnostics.push_error(error);
            has_mistakes = true;
        }
        Self {
            given,
            has_mistakes,
        }
    }

    /// The name that the option `accepted` gives. `Err` when it gives none, which is reported.
    pub(crate) fn take_name(
        &mut self,
        accepted: Accepted,
        diagnostics: &mut Diagnostics,
    ) -> Option<std::result::Result<LitStr, Reported>> {
        let given = self.take(accepted)?;
        let usage = accepted.usage;
        let name = match given.value {
            Some(Expr::Lit(ExprLit {
                lit: Lit::Str(name),
                ..
            })) => name,
            Some(other) => {
                diagnostics.push(other, format_args!("expected a string: `{usage}`"));
                return Some(Err(Reported));
            }
            None => {
                let key = given.key;
                diagnostics.push(&key, format_args!("`{key}` needs a value: `{usage}`"));
                return Some(Err(Reported));
            }
        };
        if let Some(problem) = problem_of_name(&name.value()) {
            diagnostics.push(&name, problem);
            return Some(Err(Reported));
        }
        Some(Ok(name))
    }

    /// The path that the option `accepted` gives, bare or as a string.
    pub(crate) fn take_path(
        &mut self,
        accepted: Accepted,
        diagnostics: &mut Diagnostics,
    ) -> Option<Path> {
        let given = self.take(accepted)?;
        let usage = accepted.usage;
        match given.value {
            Some(Expr::Path(path)) if path.qself.is_none() => Some(path.path),
            Some(Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            })) => match text.parse_with(Path::parse_mod_style) {
                Ok(path) => Some(path),
                Err(_) => {
                    diagnostics.push(text, format_args!("this is no path; write `{usage}`"));
                    None
                }
            },
            Some(other) => {
                diagnostics.push(other, format_args!("expected a path: `{usage}`"));
                None
            }
            None => {
                let key = given.key;
                diagnostics.push(&key, format_args!("`{key}` needs a value: `{usage}`"));
                None
            }
        }
    }

    /// The key of the option `accepted`, which takes no value, if it is given.
    pub(crate) fn take_flag(
        &mut self,
        accepted: Accepted,
        diagnostics: &mut Diagnostics,
    ) -> Option<Ident> {
        let given = self.take(accepted)?;
        if let Some(value) = given.value {
            let key = accepted.key;
            let message = format!("`{key}` takes no value: write `{key}`, or nothing");
            diagnostics.push(value, message);
        }
        Some(given.key)
    }

    /// The value of the option `accepted`, a number above 0, if it is given.
    pub(crate) fn take_number(
        &mut self,
        accepted: Accepted,
        diagnostics: &mut Diagnostics,
    ) -> Option<u64> {
        let Given { key, value, .. } = self.take(accepted)?;
        let number = match &value {
            Some(Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            })) => number.base10_parse().ok().filter(|&number| number > 0),
            _ => None,
        };
        if number.is_none() {
            let usage = accepted.usage;
            diagnostics.push(&key, format_args!("expected a number above 0: `{usage}`"));
        }
        number
    }

    fn take(&mut self, accepted: Accepted) -> Option<Given> {
        let index = self
            .given
            .iter()
            .position(|given| given.accepted.key == accepted.key)?;
        Some(self.given.swap_remove(index))
    }
}

/// The mistake is in the [`Diagnostics`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reported;

/// One option and the comma after it.
fn parse_option(
    input: ParseStream<'_>,
    attribute: &str,
    accepted: &[Accepted],
) -> Result<(Ident, Option<Expr>)> {
    if !input.peek(Ident::peek_any) {
        let usages = usages(accepted);
        return Err(input.error(format_args!(
            "expected an option: `palm::{attribute}` takes {usages}"
        )));
    }
    let key = input.call(Ident::parse_any)?;
    let value = if input.parse::<Option<Token![=]>>()?.is_some() {
        Some(parse_value(input, &key)?)
    } else {
        None
    };
    if !input.is_empty() {
        if value.is_none() && !input.peek(Token![,]) {
            return Err(
                input.error(match accepted.iter().find(|accepted| key == accepted.key) {
                    Some(accepted) => format!("expected `{}`", accepted.usage),
                    None => format!("expected `=` or `,` after `{key}`"),
                }),
            );
        }
        input.parse::<Token![,]>()?;
    }
    Ok((key, value))
}

fn parse_value(input: ParseStream<'_>, key: &Ident) -> Result<Expr> {
    if input.is_empty() || input.peek(Token![,]) {
        return Err(Error::new(
            key.span(),
            format_args!("`{key}` needs a value after the `=`"),
        ));
    }
    input.parse()
}

fn unknown(name: &str, attribute: &str, accepted: &[Accepted]) -> String {
    let near = accepted
        .iter()
        .find(|accepted| is_misspelling(name, accepted.key));
    match near {
        Some(near) => format!("unknown option `{name}`; did you mean `{}`?", near.usage),
        None if accepted.is_empty() => format!("`palm::{attribute}` takes no options"),
        None => format!(
            "unknown option `{name}`; `palm::{attribute}` takes {}",
            usages(accepted)
        ),
    }
}

fn usages(accepted: &[Accepted]) -> String {
    let usages: Vec<String> = accepted
        .iter()
        .map(|accepted| format!("`{}`", accepted.usage))
        .collect();
    match usages.as_slice() {
        [] => "no options".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Why `name` cannot be the name of a component or a function.
pub(crate) fn problem_of_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a name cannot be empty")
    } else if name.contains('.') {
        Some("a name cannot contain a dot, which stands between component and function")
    } else if name.contains(char::is_whitespace) {
        Some("a name cannot contain white space, which stands between the steps of a job")
    } else {
        None
    }
}

/// Whether at most two letters (one in a short word) are wrong, missing, too many or swapped.
fn is_misspelling(written: &str, meant: &str) -> bool {
    let allowed = if meant.len() < 5 { 1 } else { 2 };
    strsim::osa_distance(written, meant) <= allowed
}
