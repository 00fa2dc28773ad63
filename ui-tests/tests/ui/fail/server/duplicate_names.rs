#![allow(unused)]

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn foo(&self) {}

    #[palm::method(name = "foo")]
    fn bar(&self) {}

    #[palm::method]
    fn foo_bar(&self) {}

    #[palm::method(name = "baz")]
    #[allow(non_snake_case)]
    fn fooBar(&self) {}
}

fn main() {}
