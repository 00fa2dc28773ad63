//! One build reports every mistake of a block, each at the token to change.

#![allow(unused)]

use bytes::Bytes;
use palm::prelude::*;

struct Foo;

#[palm::server(nmae = "foo", crate = 1)]
impl Foo {
    #[palm::method]
    fn no_receiver(payload: Bytes) {}

    #[palm::method]
    fn by_value(self, payload: Bytes) {}

    #[palm::method]
    fn two_payloads(&self, first: Bytes, second: Bytes) {}

    #[palm::method]
    fn context_first(&self, context: Context, payload: Bytes) {}

    #[palm::method]
    fn generic<T>(&self, payload: T) {}

    #[palm::method]
    fn opaque(&self, payload: impl palm::FromPayload) {}

    #[palm::method(blokcing)]
    fn misspelled(&self) {}

    #[palm::method(blocking)]
    async fn both(&self) {}

    #[palm::method(name = "two words")]
    fn two_words(&self) {}

    #[palm::method]
    unsafe extern "C" fn qualified(&self) {}
}

fn main() {
    // Uses of the methods cause no errors of their own.
    Foo.misspelled();
}
