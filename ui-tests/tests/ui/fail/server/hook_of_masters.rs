#![allow(unused)]

use palm::prelude::*;

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::scatter]
    fn scatter(&self, message: Message) -> Vec<Message> {
        vec![message]
    }
}

fn main() {}
