//! `palm::steps!`: checks step names that are written as literals at compile time.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{ParseStream, Parser as _};
use syn::{LitStr, Path, Result, Token};

use crate::diagnostics::Diagnostics;

/// Expands `$crate; "first.split second.count", "third.join"` to one `Steps`.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let parser = |input: ParseStream<'_>| {
        let palm = input.call(Path::parse_mod_style)?;
        input.parse::<Token![;]>()?;
        let literals = input.parse_terminated(<LitStr as syn::parse::Parse>::parse, Token![,])?;
        check(literals.iter()).map(|steps| quote!(#palm::Steps::__checked(#steps)))
    };
    parser.parse2(input).unwrap_or_else(|error| {
        let errors = error.into_iter().map(|error| error.to_compile_error());
        quote!({ #(#errors;)* })
    })
}

/// Returns all steps in one string, separated by single spaces.
fn check<'a>(literals: impl Iterator<Item = &'a LitStr>) -> Result<String> {
    let mut diagnostics = Diagnostics::default();
    let mut steps: Vec<String> = Vec::new();
    for literal in literals {
        let text = literal.value();
        if text.trim().is_empty() {
            diagnostics.push(literal, "expected a step of the form `server.function`");
        }
        for step in text.split_whitespace() {
            let is_step = step.split_once('.').is_some_and(|(server, function)| {
                !server.is_empty() && !function.is_empty() && !function.contains('.')
            });
            if !is_step {
                let message = format!("`{step}` is not of the form `server.function`");
                diagnostics.push(literal, message);
            }
            steps.push(step.to_owned());
        }
    }
    if steps.is_empty() {
        diagnostics.push_at(
            proc_macro2::Span::call_site(),
            "expected at least one step: `steps![\"server.function\"]`",
        );
    }
    diagnostics.finish()?;
    Ok(steps.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_expansion(input: TokenStream, expected: &str) {
        assert_eq!(expand(input).to_string(), expected);
    }

    #[test]
    fn steps_are_joined_and_their_form_is_checked() {
        check_expansion(
            quote!(palm; "a.b  c.d", "e.f",),
            r#"palm :: Steps :: __checked ("a.b c.d e.f")"#,
        );
        check_expansion(
            quote!(palm; "a.b c", "a.b.c"),
            r#"{ :: core :: compile_error ! { "`c` is not of the form `server.function`" } ; :: core :: compile_error ! { "`a.b.c` is not of the form `server.function`" } ; }"#,
        );
        check_expansion(
            quote!(palm; " "),
            r#"{ :: core :: compile_error ! { "expected a step of the form `server.function`" } ; :: core :: compile_error ! { "expected at least one step: `steps![\"server.function\"]`" } ; }"#,
        );
    }
}
