#![allow(unused)]

struct Foo;

impl Foo {
    #[palm::method]
    fn foo(&self) {}

    #[palm::scatter]
    fn scatter(&self) {}
}

#[palm::handle_stream]
fn bar() {}

fn main() {
    Foo.foo();
    bar();
}
