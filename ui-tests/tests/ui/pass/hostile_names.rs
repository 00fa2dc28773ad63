//! Expansions do not depend on any name in the user's module.

#![no_implicit_prelude]
#![deny(warnings)]
#![allow(dead_code, non_camel_case_types, clippy::wrong_self_convention)]

mod core {}
mod std {}
mod palm {}
mod bytes {}
mod inventory {}

struct str;
struct usize;
struct bool;
struct Result;
struct Option;
struct Some;
struct None;
struct Ok;
struct Err;
struct Vec;
struct String;
struct Box;
struct Iterator;
struct IntoIterator;
struct Send;
struct Sync;
struct Future;
struct Function;
struct Call;
struct Outcome;

/// A trait whose methods have the names of those that expansions call.
trait Everything {
    fn find(&self) {}
    fn call(&self) {}
    fn shared(&self) {}
    fn exclusive(&self) {}
    fn into_outcome(&self) {}
    fn into_iter(&self) {}
    fn next(&self) {}
    fn emit(&self) {}
    fn foo(&self) {}
}

impl<T: ?::core::marker::Sized> Everything for T {}

struct Foo;

#[::palm::server(name = "foo")]
impl Foo {
    #[::palm::method]
    fn foo(&self, payload: ::bytes::Bytes, _: ::palm::Context) -> ::bytes::Bytes {
        payload
    }

    #[::palm::method]
    async fn call(&mut self) -> ::core::result::Result<::std::string::String, ::std::io::Error> {
        ::core::result::Result::Ok(::std::string::String::new())
    }

    #[::palm::method]
    fn find(&self) -> impl ::core::iter::Iterator<Item = ::std::string::String> {
        ::core::iter::empty()
    }

    #[::palm::method(blocking)]
    fn next(
        &self,
    ) -> ::core::result::Result<
        impl ::core::iter::Iterator<Item = ::std::string::String>,
        ::std::io::Error,
    > {
        ::core::result::Result::Ok(::core::iter::empty())
    }

    #[::palm::method]
    fn r#match(&self) {}

    #[::palm::handle_stream]
    fn handle_stream(
        &self,
        message: ::palm::Message,
    ) -> (&'static ::core::primitive::str, ::palm::Message) {
        ("topic", message)
    }
}

struct Bar;

#[::palm::hub(name = "bar")]
impl Bar {
    #[::palm::scatter]
    fn scatter(&self, message: ::palm::Message) -> ::std::vec::Vec<::palm::Message> {
        ::std::vec![message]
    }

    #[::palm::gather]
    async fn gather(
        &mut self,
        message: ::palm::Message,
        _: ::palm::Context,
    ) -> ::core::result::Result<::core::option::Option<::palm::Message>, ::std::io::Error> {
        ::core::result::Result::Ok(::core::option::Option::Some(message))
    }
}

struct Baz;

#[::palm::inbound]
impl Baz {
    fn scatter(
        &mut self,
        message: ::palm::Message,
    ) -> impl ::core::iter::Iterator<Item = ::palm::Message> + use<> {
        ::core::iter::once(message)
    }

    fn handle_feedback(&mut self, _: &::bytes::Bytes) {}

    fn reply_feedback(&mut self, _: ::bytes::Bytes) -> &'static ::core::primitive::str {
        ""
    }
}

#[::palm::outbound]
impl Baz {
    async fn handle(&mut self, _: ::palm::Message, _: ::palm::Context) {}
}

#[::palm::bypass]
impl Baz {
    fn recv(
        &mut self,
        body: ::std::string::String,
    ) -> ::core::result::Result<::std::string::String, ::std::io::Error> {
        ::core::result::Result::Ok(body)
    }

    async fn run(self, _: ::palm::parts::BypassSender) {}
}

fn main() {
    ::std::assert_eq!(Foo::FOO.name(), "foo");
    ::std::assert_eq!(Foo::MATCH.name(), "match");
}
