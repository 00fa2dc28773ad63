//! Expansions of blocks with mistakes.

use expect_test::expect;
use quote::quote;

use super::{check_errors, check_expansion};
use crate::kind::Kind;

#[test]
fn all_mistakes_of_a_block_are_reported_at_once() {
    check_errors(
        Kind::Server,
        quote!(nmae = "foo"),
        quote! {
            impl Foo {
                #[palm::method(blcking)] fn foo() {}
                #[palm::scatter] fn bar(&self) {}
                #[palm::method] fn baz<T>(self, a: T, b: T) {}
            }
        },
        expect![[r#"
            unknown option `nmae`; did you mean `name = "..."`?
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone, as its first parameter
            unknown option `blcking`; did you mean `blocking`?
            a server does not scatter: `#[palm::scatter]` belongs under `#[palm::master]` or `#[palm::hub]`; for many results of one message, let a `#[palm::method]` return an iterator or a stream
            a method that is called from afar cannot be generic: the bytes that arrive do not say which types are meant; put the parameters on the `impl` block
            a `#[palm::method]` takes `&self`, or `&mut self` to run alone: the component goes on after the call
            a method takes one payload, and then at most a `Context`: put what is sent together into one type
        "#]],
    );
}

#[test]
fn block_with_mistakes_keeps_its_items_without_helper_attributes() {
    check_expansion(
        Kind::Server,
        quote!(),
        quote! {
            impl Foo {
                /// Foo.
                #[palm::method]
                #[inline]
                fn foo(&self) {}
            }
        },
        expect![[r#"
            impl Foo {
                /// Foo.
                #[inline]
                fn foo(&self) {}
            }
            ::core::compile_error! {
                "give the server a name: `#[palm::server(name = \"...\")]`"
            }
        "#]],
    );
}
