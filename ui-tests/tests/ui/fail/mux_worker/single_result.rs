#![allow(unused)]

use bytes::Bytes;

struct Foo;

#[palm::mux_worker]
impl Foo {
    #[palm::method]
    fn one(&self, payload: Bytes) -> Bytes {
        payload
    }

    #[palm::method]
    fn none(&self) {}
}

struct Bar;

#[palm::mux_worker]
impl Bar {
    #[palm::method]
    fn number(&self) -> u64 {
        1
    }

    #[palm::method]
    fn numbers(&self) -> Vec<u64> {
        vec![1]
    }
}

fn main() {}
