//! Receivers, parameters, qualifiers and results of methods and hooks.

use expect_test::expect;
use proc_macro2::TokenStream;
use quote::quote;

use super::{check_errors, check_worker};
use crate::kind::Kind;

#[test]
fn method_takes_self_by_reference() {
    check_worker(
        quote! { #[palm::method] fn foo() {} },
        expect![[r#"
            the first parameter of a `#[palm::method]` is `&self`, or `&mut self` for exclusive access
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(self) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access: the component outlives the call
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(mut self) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access: the component outlives the call
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(self: Arc<Self>) {} },
        expect![[r#"
            a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(payload: Bytes) {} },
        expect![[r#"
            the first parameter of a `#[palm::method]` is `&self`, or `&mut self` for exclusive access
        "#]],
    );
}

#[test]
fn method_takes_a_payload_and_a_context() {
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Bytes, b: Bytes) {} },
        expect![[r#"
            a method takes one payload and at most a `Context` after it: combine several values in one type
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Context, b: Bytes) {} },
        expect![[r#"
            the context comes last: swap the parameters
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Context, b: Context) {} },
        expect![[r#"
            this method already takes a context
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Bytes, b: Context, c: Bytes) {} },
        expect![[r#"
            the context comes last: swap the parameters
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: &Context) {} },
        expect![[r#"
            take the context by value: `context: Context`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: impl FromPayload) {} },
        expect![[r#"
            name the type: a message does not say which type `impl` stands for
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, a: Option<impl FromPayload>) {} },
        expect![[r#"
            name the type: a message does not say which type `impl` stands for
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self, #[cfg(unix)] a: Bytes) {} },
        expect![[r#"
            a parameter cannot depend on a `cfg`: write the method twice, each under its `cfg`
        "#]],
    );
}

#[test]
fn method_has_no_qualifiers_and_no_type_parameters() {
    check_worker(
        quote! { #[palm::method] const unsafe extern "C" fn foo<T>(&self, a: T) {} },
        expect![[r#"
            a `#[palm::method]` cannot be `const`
            a `#[palm::method]` cannot be `unsafe`: a remote caller cannot uphold its safety contract
            a `#[palm::method]` cannot be `extern`
            a callable method cannot be generic: a message carries no type arguments; put the type parameters on the `impl` block
        "#]],
    );
}

#[test]
fn hook_takes_and_returns_messages() {
    let check = |members, expected| {
        check_errors(
            Kind::Hub,
            quote!(name = "foo"),
            quote! { impl Foo { #members } },
            expected,
        )
    };
    check(
        quote! { #[palm::scatter] fn foo(&self) {} },
        expect![[r#"
            a `#[palm::scatter]` takes the message: `fn foo(&self, message: Message)`
            a `#[palm::scatter]` returns messages: `-> impl Iterator<Item = Message>`, or a `Vec` or stream of them
        "#]],
    );
    check(
        quote! { #[palm::scatter] fn foo(&self, a: Message) -> Message {} },
        expect![[r#"
            a `#[palm::scatter]` returns messages, but this is `Message`: return `Vec<Message>` or an iterator or stream of `Message`
        "#]],
    );
    check(
        quote! { #[palm::gather] fn foo(&self, a: Message, b: u8) -> Vec<Message> {} },
        expect![[r#"
            a `#[palm::gather]` takes the message and at most a `Context` after it
        "#]],
    );
    check(
        quote! { #[palm::gather(blocking)] fn foo<T>(&self, a: Message) -> Vec<Message> {} },
        expect![[r#"
            a `#[palm::gather]` cannot be generic; put the type parameters on the `impl` block
            `palm::gather` takes no options
        "#]],
    );
    check(
        quote! { #[palm::gather = 1] fn foo(&self, a: Message) -> Vec<Message> {} },
        expect![[r#"
            write `#[palm::gather]`
        "#]],
    );
    check(
        quote! { #[palm::handle_stream] fn foo(&self, a: Message) {} },
        expect![[r#"
            a `#[palm::handle_stream]` returns a topic and the message: `-> (&'static str, Message)`
        "#]],
    );
    check(
        quote! {
            #[palm::scatter] fn foo(&self, a: Message) -> Vec<Message> {}
            #[palm::scatter] fn bar(&self, a: Message) -> Vec<Message> {}
        },
        expect![[r#"
            `foo` is already the `#[palm::scatter]` of this component, which has at most one
        "#]],
    );
}

#[test]
fn mux_worker_method_returns_many_results() {
    let check = |ty: TokenStream, expected| {
        let item = quote! { impl Foo { #[palm::method] fn foo(&self) #ty {} } };
        check_errors(Kind::MuxWorker, quote!(), item, expected);
    };
    check(
        quote!(),
        expect![[r#"
            a method of a mux worker returns its results: an iterator, a `Vec` or a stream of payloads
        "#]],
    );
    check(
        quote!(-> Bytes),
        expect![[r#"
            a method of a mux worker returns many results, but `Bytes` is a single one: return `Vec<Bytes>`, an iterator or a stream, or use `#[palm::worker]`
        "#]],
    );
    check(
        quote!(-> Result<Vec<u8>, Error>),
        expect![[r#"
            a method of a mux worker returns many results, but `Vec<u8>` is a single one: return `Vec<Vec<u8>>`, an iterator or a stream, or use `#[palm::worker]`
        "#]],
    );
    check(quote!(-> Option<Bytes>), expect![""]);
    check(quote!(-> Vec<String>), expect![""]);
}

#[test]
fn iterator_behind_into_iterator_is_send() {
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> impl IntoIterator<Item = Bytes> {} },
        expect![[r#"
            the iterator behind `impl IntoIterator` may not be `Send`: return `impl Iterator<..>` or `impl IntoIterator<.., IntoIter: Send>`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> Result<impl IntoIterator<Item = Bytes>, Error> {} },
        expect![[r#"
            the iterator behind `impl IntoIterator` may not be `Send`: return `impl Iterator<..>` or `impl IntoIterator<.., IntoIter: Send>`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] fn foo(&self) -> impl IntoIterator<Item = Bytes> {} },
        expect![""],
    );
    check_worker(
        quote! { #[palm::method] fn foo(&self) -> impl IntoIterator<Item = Bytes, IntoIter: Send> {} },
        expect![""],
    );
}

#[test]
fn http_worker_method_returns_one_result() {
    check_errors(
        Kind::HttpWorker,
        quote!(name = "images"),
        quote! {
            impl Foo {
                #[palm::method]
                fn many(&self) -> impl Iterator<Item = Bytes> {}
                #[palm::method]
                async fn one(&self, payload: Bytes) -> Result<Vec<u8>, Error> {}
            }
        },
        expect![[r#"
            unknown option `name`; `palm::http_worker` takes `server = "..."` and `crate = path::of::palm`
            an HTTP worker sends one response per request: return one value, such as `Json<Vec<T>>`
        "#]],
    );
}
