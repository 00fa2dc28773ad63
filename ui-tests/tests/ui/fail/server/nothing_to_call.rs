#![allow(unused)]

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    fn foo(&self) {}
}

fn main() {}
