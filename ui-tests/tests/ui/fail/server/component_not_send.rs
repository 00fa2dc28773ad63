#![allow(unused)]

use std::rc::Rc;

struct Foo(Rc<str>);

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn foo(&self) -> String {
        self.0.to_string()
    }
}

fn main() {}
