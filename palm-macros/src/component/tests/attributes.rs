//! Positions and options of attributes.

use expect_test::expect;
use quote::quote;

use super::{check_errors, check_worker};
use crate::kind::Kind;

#[test]
fn component_attribute_is_rejected_on_other_items() {
    let check = |item, expected| check_errors(Kind::Server, quote!(name = "foo"), item, expected);
    check(
        quote! { struct Foo; },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a struct: `#[palm::server(name = "...")] impl Foo { .. }`
        "#]],
    );
    check(
        quote! { enum Foo {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on an enum: `#[palm::server(name = "...")] impl Foo { .. }`
        "#]],
    );
    check(
        quote! { fn foo() {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a function: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { mod foo {} },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on a module: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { use foo; },
        expect![[r#"
            `#[palm::server]` belongs on an `impl` block, not on this item: `#[palm::server(name = "...")] impl MyComponent { .. }`
        "#]],
    );
    check(
        quote! { impl Trait for Foo { #[palm::method] fn foo(&self) {} } },
        expect![""],
    );
    check(
        quote! { impl<'a> Foo<'a> { #[palm::method] fn foo(&self) {} } },
        expect![[r#"
            a component outlives the call that starts it, so it cannot borrow: own the data, share it by `Arc`, or borrow for `'static`
        "#]],
    );
    check(
        quote! { impl Foo<'_> { #[palm::method] fn foo(&self) {} } },
        expect![[r#"
            a component outlives the call that starts it, so it cannot borrow: own the data, share it by `Arc`, or borrow for `'static`
        "#]],
    );
}

#[test]
fn component_options_are_checked() {
    let check = |kind, args, expected| {
        let item = match kind {
            Kind::Master => {
                quote! { impl Foo { #[palm::gather] fn foo(&self, message: Message) -> Vec<Message> {} } }
            }
            _ => quote! { impl Foo { #[palm::method] fn foo(&self) {} } },
        };
        check_errors(kind, args, item, expected);
    };
    check(
        Kind::Server,
        quote!(),
        expect![[r#"
            give the server a name: `#[palm::server(name = "...")]`
        "#]],
    );
    check(
        Kind::Server,
        quote!("foo"),
        expect![[r#"
            expected an option: `palm::server` takes `name = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(nmae = "foo"),
        expect![[r#"
            unknown option `nmae`; did you mean `name = "..."`?
        "#]],
    );
    check(
        Kind::Server,
        quote!(nam = "foo"),
        expect![[r#"
            unknown option `nam`; did you mean `name = "..."`?
        "#]],
    );
    check(
        Kind::Server,
        quote!(server = "foo"),
        expect![[r#"
            unknown option `server`; `palm::server` takes `name = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name),
        expect![[r#"
            `name` needs a value: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = ),
        expect![[r#"
            `name` needs a value after the `=`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name "foo"),
        expect![[r#"
            expected `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name("foo")),
        expect![[r#"
            expected `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo" crate = bus),
        expect![[r#"
            expected `,`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = 1),
        expect![[r#"
            expected a string: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = foo),
        expect![[r#"
            expected a string: `name = "..."`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = ""),
        expect![[r#"
            a name cannot be empty
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo.bar"),
        expect![[r#"
            a name cannot contain a dot, which separates component and function
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo bar"),
        expect![[r#"
            a name cannot contain white space, which separates the steps of a job
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", name = "bar"),
        expect![[r#"
            the option `name` is repeated
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = "::bus"),
        expect![""],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = "a b"),
        expect![[r#"
            expected a path: `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate = 1 + 1),
        expect![[r#"
            expected a path: `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Server,
        quote!(name = "foo", crate),
        expect![[r#"
            `crate` needs a value: `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Master,
        quote!(),
        expect![[r#"
            give the master a name: `#[palm::master(name = "...")]`
        "#]],
    );
    check(
        Kind::Worker,
        quote!(name = "foo"),
        expect![[r#"
            unknown option `name`; `palm::worker` takes `server = "..."` and `crate = path::of::palm`
        "#]],
    );
    check(
        Kind::Worker,
        quote!(sever = "foo"),
        expect![[r#"
            unknown option `sever`; did you mean `server = "..."`?
        "#]],
    );
    check(Kind::Worker, quote!(server = "foo"), expect![""]);
}

#[test]
fn method_options_are_checked() {
    check_worker(quote! { #[palm::method()] fn foo(&self) {} }, expect![""]);
    check_worker(
        quote! { #[palm::method = "foo"] fn foo(&self) {} },
        expect![[r#"
            write `#[palm::method(name = "...")]`
        "#]],
    );
    check_worker(
        quote! { #[palm::method("foo")] fn foo(&self) {} },
        expect![[r#"
            expected an option: `palm::method` takes `name = "..."`, `blocking`, `at_most_once` and `max_runtime_ms = 1000`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(name = "a.b")] fn foo(&self) {} },
        expect![[r#"
            a name cannot contain a dot, which separates component and function
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blokcing)] fn foo(&self) {} },
        expect![[r#"
            unknown option `blokcing`; did you mean `blocking`?
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking = true)] fn foo(&self) {} },
        expect![[r#"
            `blocking` takes no value: write `blocking`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(timeout = 3)] fn foo(&self) {} },
        expect![[r#"
            unknown option `timeout`; `palm::method` takes `name = "..."`, `blocking`, `at_most_once` and `max_runtime_ms = 1000`
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] async fn foo(&self) {} },
        expect![[r#"
            an `async` method cannot be `blocking`: remove one of the two
        "#]],
    );
    check_worker(
        quote! { #[palm::method(blocking)] fn foo(&self) -> impl Stream<Item = u8> {} },
        expect![[r#"
            a `blocking` method cannot return a stream: return an iterator, or remove `blocking`
        "#]],
    );
}

#[test]
fn helper_attribute_is_rejected_under_other_components() {
    let method = quote! { impl Foo { #[palm::method] fn foo(&self) {} } };
    let scatter =
        quote! { impl Foo { #[palm::scatter] fn foo(&self, message: Message) -> Vec<Message> {} } };
    let stream = quote! { impl Foo { #[palm::handle_stream] fn foo(&self, message: Message) -> (String, Message) {} } };
    let name = || quote!(name = "foo");
    check_errors(
        Kind::Master,
        name(),
        method,
        expect![[r#"
            a master has no callable methods: `#[palm::method]` belongs under `#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::worker]`, `#[palm::mux_worker]` or `#[palm::http_worker]`; a master has `#[palm::scatter]`, `#[palm::gather]` and `#[palm::handle_stream]`
        "#]],
    );
    check_errors(
        Kind::Sink,
        name(),
        scatter,
        expect![[r#"
            a sink has no `#[palm::scatter]`, which belongs under `#[palm::master]` or `#[palm::hub]`; to answer a message with many results, return an iterator or a stream from a `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::MuxWorker,
        quote!(),
        stream.clone(),
        expect![[r#"
            a mux worker returns its results to its master, which publishes them: put `#[palm::handle_stream]` under the `#[palm::master]` or `#[palm::hub]`
        "#]],
    );
    // A hook alone does not make a method callable.
    check_errors(
        Kind::Server,
        name(),
        stream,
        expect![[r#"
            this server has no callable methods: mark each method that clients may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::Server,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this server has no callable methods: mark each method that clients may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::MuxWorker,
        quote!(),
        quote! { impl Foo { fn foo(&self) {} } },
        expect![[r#"
            this mux worker has no callable methods: mark each method that clients may call with `#[palm::method]`
        "#]],
    );
    check_errors(
        Kind::Master,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this master has no hooks: mark a method with `#[palm::scatter]`, `#[palm::gather]` or `#[palm::handle_stream]`, or use `palm::Master::new("...")` without an `impl`
        "#]],
    );
    check_errors(
        Kind::Hub,
        name(),
        quote! { impl Foo {} },
        expect![[r#"
            this hub has no hooks: mark a method with `#[palm::scatter]`, `#[palm::gather]` or `#[palm::handle_stream]`, or use `palm::Hub::new("...")` without an `impl`
        "#]],
    );
    check_worker(
        quote! { #[palm::method] const FOO: u8 = 1; },
        expect![[r#"
            `#[palm::method]` belongs on a method
        "#]],
    );
    check_worker(
        quote! { #[palm::method] #[palm::method] fn foo(&self) {} },
        expect![[r#"
            `foo` already has `#[palm::method]`: a method has one of these attributes
        "#]],
    );
    check_worker(
        quote! { #[palm::method] #[palm::scatter] fn foo(&self) {} },
        expect![[r#"
            `foo` already has `#[palm::method]`: a method has one of these attributes
        "#]],
    );
}
