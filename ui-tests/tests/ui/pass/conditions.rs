//! Methods, hooks and blocks that depend on a `cfg`.

#![deny(warnings)]
#![allow(dead_code)]

use palm::__private::{Callable, Shape, State};

struct Foo;

#[palm::server(name = "foo")]
#[cfg(not(any()))]
impl Foo {
    #[palm::method]
    #[cfg(any())]
    fn gone(&mut self, payload: NoSuchType) -> NoSuchType {}

    #[palm::method]
    fn first(&self) {}

    #[cfg(any())]
    #[palm::method]
    fn either(&mut self) {}

    #[cfg(not(any()))]
    #[palm::method]
    fn either(&self) {}

    #[palm::method]
    fn last(&self) {}

    #[cfg(any())]
    #[palm::handle_stream]
    fn topic(&self, message: palm::Message) -> (NoSuchType, palm::Message) {}
}

struct Bar;

#[palm::server(name = "foo")]
#[cfg(any())]
impl Bar {
    #[palm::method]
    fn foo(&self) {}
}

struct NothingLeft;

#[palm::sink(name = "nothing")]
impl NothingLeft {
    #[cfg(any())]
    #[palm::method]
    fn foo(&self, message: bytes::Bytes) {}
}

fn main() {
    let state = State::new(Foo);
    let names = Foo::functions(&state).iter();
    let names: Vec<&str> = names.map(|function| &*function.name).collect();
    assert_eq!(names, ["first", "either", "last"]);
    for (index, name) in names.into_iter().enumerate() {
        assert_eq!(Foo::find(&state, name), Some(index));
    }
    assert_eq!(Foo::find(&state, "gone"), None);
    const { assert!(!Foo::EXCLUSIVE) };
    const { assert!(!Foo::HANDLES_STREAM) };
    assert_eq!(NothingLeft::functions(&State::new(NothingLeft)), []);
}
