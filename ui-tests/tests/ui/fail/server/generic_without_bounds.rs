#![allow(unused)]

struct Foo<T>(T);

#[palm::server(name = "foo")]
impl<T: ToString> Foo<T> {
    #[palm::method]
    fn foo(&self) -> String {
        self.0.to_string()
    }
}

fn main() {}
