#![allow(unused)]

use bytes::Bytes;
use palm::prelude::*;

struct Foo;

#[palm::hub(name = "foo")]
impl Foo {
    #[palm::scatter]
    fn scatter(&self, message: Message) -> impl Iterator<Item = Bytes> {
        std::iter::once(message.payload().clone())
    }

    #[palm::gather]
    fn gather(&self, message: Bytes) -> Vec<Message> {
        Vec::new()
    }

    #[palm::handle_stream]
    fn handle_stream(&self, message: Message) -> (Message, &'static str) {
        (message, "topic")
    }
}

fn main() {}
