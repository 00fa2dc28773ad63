#![allow(unused)]

struct Foo<'a>(&'a str);

#[palm::server(name = "foo")]
impl<'a> Foo<'a> {
    #[palm::method]
    fn foo(&self) -> String {
        self.0.to_owned()
    }
}

fn main() {}
