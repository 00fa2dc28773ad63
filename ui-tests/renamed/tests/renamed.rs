//! The macros find palm wherever `crate = ...` says that it is.

use bus::prelude::*;
use bytes::Bytes;

struct Foo;

#[bus::server(name = "foo", crate = bus)]
impl Foo {
    #[bus::method]
    async fn foo(&self, payload: Bytes) -> Result<Bytes, String> {
        Ok(payload)
    }

    #[bus::method(blocking)]
    fn many(&mut self, payload: String, context: Context) -> impl Iterator<Item = String> {
        let _ = context;
        std::iter::once(payload)
    }

    #[bus::handle_stream]
    fn handle_stream(&self, message: Message) -> (&'static str, Message) {
        ("topic", message)
    }
}

mod inner {
    pub(crate) use bus as palm_of_this_crate;
}

struct Bar;

#[bus::mux_worker(server = "bar", crate = "crate::inner::palm_of_this_crate")]
impl Bar {
    #[bus::method]
    fn list(&self, payload: Bytes) -> Vec<Bytes> {
        vec![payload]
    }
}

struct Baz;

#[bus::hub(name = "baz", crate = ::bus)]
impl Baz {
    #[bus::scatter]
    fn scatter(&self, message: Message) -> Vec<Message> {
        vec![message]
    }

    #[bus::gather]
    fn gather(&self, message: Message) -> Result<Option<Message>, String> {
        Ok(Some(message))
    }
}

#[test]
fn constants_name_the_functions() {
    assert_eq!(Foo::MANY.to_string(), "foo.many");
    assert_eq!(Bar::LIST.to_string(), "bar.list");
    let _ = Baz;
}
