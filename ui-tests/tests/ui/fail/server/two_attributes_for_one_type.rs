#![allow(unused)]

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn foo(&self) {}
}

#[palm::sink(name = "bar")]
impl Foo {
    #[palm::method]
    fn bar(&self) {}
}

fn main() {}
