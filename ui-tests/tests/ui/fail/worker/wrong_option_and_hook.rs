#![allow(unused)]

use palm::prelude::*;

struct Foo;

#[palm::worker(name = "foo")]
impl Foo {
    #[palm::method]
    fn foo(&self) {}

    #[palm::handle_stream]
    fn topic(&self, message: Message) -> (&'static str, Message) {
        ("topic", message)
    }
}

fn main() {}
