#![allow(unused)]

struct Foo;

#[palm::master(name = "foo")]
impl Foo {
    #[palm::method]
    fn foo(&self) {}
}

struct Bar;

#[palm::master(name = "bar")]
impl Bar {}

fn main() {}
