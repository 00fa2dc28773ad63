#![allow(unused)]

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    fn thumbnail(&self) {}
}

fn main() {
    let _ = Foo::THUMBNAIL;
    let _ = Foo::THUMBNALI;
}
