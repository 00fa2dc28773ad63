//! The macros find palm by the path in the option `crate`.

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
    pub(crate) use bus as reexported;
}

struct Bar;

#[bus::mux_worker(server = "bar", crate = "crate::inner::reexported")]
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
fn macros_expand_to_the_path_of_a_renamed_crate() {
    assert_eq!(Foo::MANY.to_string(), "foo.many");
    assert_eq!(Bar::LIST.to_string(), "bar.list");
    let _ = Baz;
}
