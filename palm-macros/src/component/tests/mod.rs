//! Tests of the component attributes by subject: tokens in, the formatted expansion or the messages out.

mod attributes;
mod expansion;
mod names;
mod recovery;
mod signature;

use expect_test::Expect;
use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::expand;
use crate::kind::Kind;

/// Checks the whole expansion, formatted.
fn check_expansion(kind: Kind, args: TokenStream, item: TokenStream, expected: Expect) {
    let tokens = expand(kind, args, item);
    let file = syn::parse2(tokens).expect("an expansion is a list of items");
    expected.assert_eq(&prettyplease::unparse(&file));
}

/// Checks the messages, one a line.
fn check_errors(kind: Kind, args: TokenStream, item: TokenStream, expected: Expect) {
    let mut messages = String::new();
    collect_messages(expand(kind, args, item), &mut messages);
    expected.assert_eq(&messages);
}

/// Checks the messages for a worker's block with `members`.
fn check_worker(members: TokenStream, expected: Expect) {
    check_errors(
        Kind::Worker,
        quote!(),
        quote! { impl Foo { #members } },
        expected,
    );
}

fn collect_messages(tokens: TokenStream, messages: &mut String) {
    let mut in_error = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => in_error = ident == "compile_error",
            TokenTree::Group(group) if in_error => {
                let message: syn::LitStr = syn::parse2(group.stream()).unwrap();
                messages.push_str(&message.value());
                messages.push('\n');
                in_error = false;
            }
            TokenTree::Group(group) => collect_messages(group.stream(), messages),
            _ => {}
        }
    }
}
