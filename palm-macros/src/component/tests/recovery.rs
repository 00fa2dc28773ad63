//! Expansions of blocks with mistakes.

use expect_test::expect;
use proc_macro2::TokenStream;
use quote::quote;

use super::super::expand;
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
            the first parameter of a `#[palm::method]` is `&self`, or `&mut self` for exclusive access
            unknown option `blcking`; did you mean `blocking`?
            a server has no `#[palm::scatter]`, which belongs under `#[palm::master]` or `#[palm::hub]`; to answer a message with many results, return an iterator or a stream from a `#[palm::method]`
            a callable method cannot be generic: a message carries no type arguments; put the type parameters on the `impl` block
            a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access: the component outlives the call
            a method takes one payload and at most a `Context` after it: combine several values in one type
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
            impl Foo {
                /// Foo.
                #[allow(deprecated, private_interfaces)]
                pub const FOO: ::palm::__private::Function<(), ::palm::__private::NoAnswer> = ::palm::__private::Function::new(
                    "_",
                    "foo",
                );
            }
            const _: () = {
                #[automatically_derived]
                impl ::palm::__private::Shape for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    const NAME: &'static ::core::primitive::str = "_";
                    const EXCLUSIVE: ::core::primitive::bool = false;
                }
                #[automatically_derived]
                impl ::palm::__private::Callable for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    fn functions(
                        _: &::palm::__private::State<Self>,
                    ) -> &[::palm::__private::FunctionInfo] {
                        &[]
                    }
                    fn find(
                        _: &::palm::__private::State<Self>,
                        _: &::core::primitive::str,
                    ) -> ::core::option::Option<::core::primitive::usize> {
                        ::core::option::Option::None
                    }
                    fn call(
                        _: ::palm::__private::Arc<::palm::__private::State<Self>>,
                        _: ::core::primitive::usize,
                        _: ::palm::__private::Call,
                    ) -> impl ::core::future::Future<
                        Output = ::palm::__private::Outcome,
                    > + ::core::marker::Send + 'static {
                        ::core::future::pending()
                    }
                }
                const __PALM_REGISTRATION: ::palm::__private::Registration = ::palm::__private::Registration::new(
                    ::palm::__private::ComponentKind::Server,
                    "_",
                    "",
                    "",
                    "",
                    &[],
                    &[],
                );
                #[automatically_derived]
                impl ::palm::__private::Bind for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::ServerBuilder<Self>;
                }
                #[automatically_derived]
                impl ::palm::__private::Linked for Foo
                where
                    Foo: ::core::marker::Send + ::core::marker::Sync + 'static,
                {
                    type Builder = ::palm::__private::ServerBuilder<Self>;
                    const REGISTRATION: &'static ::palm::__private::Registration = &__PALM_REGISTRATION;
                }
            };
            ::core::compile_error! {
                "give the server a name: `#[palm::server(name = \"...\")]`"
            }
        "#]],
    );
}

#[test]
fn misspelt_helper_attribute_is_one_error_and_counts_as_the_helper() {
    check_errors(
        Kind::Server,
        quote!(name = "foo", crate = bus),
        quote! {
            impl Foo {
                #[bus::metod]
                fn misspelt(&self) {}
                #[palm::metod]
                fn of_another_crate(&self) {}
                #[metod]
                fn unqualified(&self) {}
            }
        },
        expect![[r#"
            unknown attribute `bus::metod`; did you mean `#[palm::method]`?
        "#]],
    );
    check_errors(
        Kind::Hub,
        quote!(name = "foo"),
        quote! { impl Foo { #[scater] fn foo(&self, message: Message) -> Vec<Message> {} } },
        expect![[r#"
            unknown attribute `scater`; did you mean `#[palm::scatter]`?
        "#]],
    );
}

#[test]
fn stand_in_of_unmarked_methods_has_their_constants() {
    check_constants(
        quote! { impl Foo { fn foo(&self, text: String) -> String {} fn new() -> Self {} } },
        &["FOO"],
    );
}

#[test]
fn stand_in_has_one_constant_of_each_name() {
    check_constants(
        quote! {
            impl Foo {
                const BAR: u8 = 0;
                #[palm::method]
                fn foo(&self) {}
                #[palm::method(name = "foo")]
                fn Foo(&self) {}
                #[palm::method]
                fn bar(&self) {}
            }
        },
        &["BAR", "FOO"],
    );
}

#[test]
fn body_that_does_not_parse_is_kept_for_rustc_to_report() {
    let item = quote! {
        impl Foo {
            #[palm::method]
            fn foo(&self) { let text = self.; }
        }
    };
    let tokens = expand(Kind::Worker, quote!(), item).to_string();
    assert!(tokens.starts_with("impl Foo { fn foo (& self) { let text = self . ; } }"));
    assert!(tokens.contains("__private :: Callable for Foo"));
    assert!(!tokens.contains("compile_error"));
}

/// Checks the associated constants of a server with mistakes, `item`.
fn check_constants(item: TokenStream, expected: &[&str]) {
    let tokens = expand(Kind::Server, quote!(name = "foo"), item);
    let file: syn::File = syn::parse2(tokens).expect("an expansion is a list of items");
    let members = file.items.iter().flat_map(|item| match item {
        syn::Item::Impl(item) => &item.items[..],
        _ => &[],
    });
    let constants = members.filter_map(|member| match member {
        syn::ImplItem::Const(constant) => Some(constant.ident.to_string()),
        _ => None,
    });
    assert_eq!(constants.collect::<Vec<_>>(), expected);
}
