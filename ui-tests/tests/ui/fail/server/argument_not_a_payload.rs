#![allow(unused)]

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn number(&self, payload: Option<u64>) {}

    #[palm::method]
    fn borrowed(&self, payload: &str) {}
}

fn main() {}
