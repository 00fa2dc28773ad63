//! [`Options`]: the options of an attribute, `key = value` or a bare `key`, separated by commas.

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Result, Token};

use crate::diagnostics::Diagnostics;
use crate::text::is_misspelling;

/// An option that an attribute accepts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionSpec {
    pub(crate) key: &'static str,
    /// An example, such as `name = "..."`.
    pub(crate) usage: &'static str,
}

pub(crate) const NAME: OptionSpec = OptionSpec {
    key: "name",
    usage: "name = \"...\"",
};
pub(crate) const SERVER: OptionSpec = OptionSpec {
    key: "server",
    usage: "server = \"...\"",
};
pub(crate) const CRATE: OptionSpec = OptionSpec {
    key: "crate",
    usage: "crate = path::of::palm",
};
pub(crate) const BLOCKING: OptionSpec = OptionSpec {
    key: "blocking",
    usage: "blocking",
};
pub(crate) const AT_MOST_ONCE: OptionSpec = OptionSpec {
    key: "at_most_once",
    usage: "at_most_once",
};
pub(crate) const MAX_RUNTIME_MS: OptionSpec = OptionSpec {
    key: "max_runtime_ms",
    usage: "max_runtime_ms = 1000",
};

/// The options of one attribute. The `take_` methods remove and check one each.
#[derive(Debug)]
pub(crate) struct Options {
    parsed: Vec<ParsedOption>,
    /// Whether a missing option may be a misspelt one.
    pub(crate) has_mistakes: bool,
}

#[derive(Debug)]
struct ParsedOption {
    key: Ident,
    spec: OptionSpec,
    value: Option<Expr>,
}

/// Returns the expression inside of the invisible groups that `macro_rules` puts around a fragment.
fn without_groups(mut value: Expr) -> Expr {
    while let Expr::Group(group) = value {
        value = *group.expr;
    }
    value
}

impl Options {
    /// Parses the arguments `args` of `attribute`, which accepts the options `accepted`.
    pub(crate) fn parse(
        args: TokenStream,
        attribute: &str,
        accepted: &[OptionSpec],
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut parsed: Vec<ParsedOption> = Vec::new();
        let mut has_mistakes = false;
        let parser = |input: ParseStream<'_>| {
            while !input.is_empty() {
                let (key, value) = parse_option(input, attribute, accepted)?;
                let name = key.unraw().to_string();
                let Some(&spec) = accepted.iter().find(|accepted| name == accepted.key) else {
                    diagnostics.push(&key, unknown(&name, attribute, accepted));
                    has_mistakes = true;
                    continue;
                };
                if parsed.iter().any(|option| option.spec.key == name) {
                    diagnostics.push(&key, format_args!("the option `{name}` is repeated"));
                    continue;
                }
                parsed.push(ParsedOption {
                    key,
                    spec,
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
            parsed,
            has_mistakes,
        }
    }

    /// Takes the name in the option `spec`.
    pub(crate) fn take_name(
        &mut self,
        spec: OptionSpec,
        diagnostics: &mut Diagnostics,
    ) -> Option<std::result::Result<LitStr, AlreadyReported>> {
        let option = self.take(spec)?;
        let usage = spec.usage;
        let name = match option.value {
            Some(Expr::Lit(ExprLit {
                lit: Lit::Str(name),
                ..
            })) => name,
            Some(other) => {
                diagnostics.push(other, format_args!("expected a string: `{usage}`"));
                return Some(Err(AlreadyReported));
            }
            None => {
                let key = option.key;
                diagnostics.push(&key, format_args!("`{key}` needs a value: `{usage}`"));
                return Some(Err(AlreadyReported));
            }
        };
        if let Some(problem) = problem_of_name(&name.value()) {
            diagnostics.push(&name, problem);
            return Some(Err(AlreadyReported));
        }
        Some(Ok(name))
    }

    /// Takes the path in the option `spec`, bare or as a string.
    pub(crate) fn take_path(
        &mut self,
        spec: OptionSpec,
        diagnostics: &mut Diagnostics,
    ) -> Option<Path> {
        let option = self.take(spec)?;
        let usage = spec.usage;
        match option.value {
            Some(Expr::Path(path)) if path.qself.is_none() => Some(path.path),
            Some(Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            })) => match text.parse_with(Path::parse_mod_style) {
                Ok(path) => Some(path),
                Err(_) => {
                    diagnostics.push(text, format_args!("expected a path: `{usage}`"));
                    None
                }
            },
            Some(other) => {
                diagnostics.push(other, format_args!("expected a path: `{usage}`"));
                None
            }
            None => {
                let key = option.key;
                diagnostics.push(&key, format_args!("`{key}` needs a value: `{usage}`"));
                None
            }
        }
    }

    /// Takes the key of the option `spec`, which has no value.
    pub(crate) fn take_flag(
        &mut self,
        spec: OptionSpec,
        diagnostics: &mut Diagnostics,
    ) -> Option<Ident> {
        let option = self.take(spec)?;
        if let Some(value) = option.value {
            let key = spec.key;
            let message = format!("`{key}` takes no value: write `{key}`");
            diagnostics.push(value, message);
        }
        Some(option.key)
    }

    /// Takes the positive integer in the option `spec`.
    pub(crate) fn take_number(
        &mut self,
        spec: OptionSpec,
        diagnostics: &mut Diagnostics,
    ) -> Option<u64> {
        let ParsedOption { key, value, .. } = self.take(spec)?;
        let number = match &value {
            Some(Expr::Lit(ExprLit {
                lit: Lit::Int(number),
                ..
            })) => number.base10_parse().ok().filter(|&number| number > 0),
            _ => None,
        };
        if number.is_none() {
            let usage = spec.usage;
            diagnostics.push(&key, format_args!("expected a positive integer: `{usage}`"));
        }
        number
    }

    fn take(&mut self, spec: OptionSpec) -> Option<ParsedOption> {
        let index = self
            .parsed
            .iter()
            .position(|option| option.spec.key == spec.key)?;
        Some(self.parsed.swap_remove(index))
    }
}

/// The option has a mistake, which is in the [`Diagnostics`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AlreadyReported;

/// Parses one option and the comma after it.
fn parse_option(
    input: ParseStream<'_>,
    attribute: &str,
    accepted: &[OptionSpec],
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

fn unknown(name: &str, attribute: &str, accepted: &[OptionSpec]) -> String {
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

fn usages(accepted: &[OptionSpec]) -> String {
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

/// Returns why `name` cannot be the name of a component or a function, if it cannot.
pub(crate) fn problem_of_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("a name cannot be empty")
    } else if name.contains('.') {
        Some("a name cannot contain a dot, which separates component and function")
    } else if name.contains(char::is_whitespace) {
        Some("a name cannot contain white space, which separates the steps of a job")
    } else {
        None
    }
}
