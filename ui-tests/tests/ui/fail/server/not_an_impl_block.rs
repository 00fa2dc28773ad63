#![allow(unused)]

use bytes::Bytes;

#[palm::server(name = "foo")]
struct Foo;

trait Trait {
    fn foo(&self, payload: Bytes) -> Bytes;
}

#[palm::server(name = "foo")]
impl Trait for Foo {
    #[palm::method]
    fn foo(&self, payload: Bytes) -> Bytes {
        payload
    }
}

fn main() {}
