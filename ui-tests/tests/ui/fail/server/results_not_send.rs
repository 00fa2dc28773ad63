#![allow(unused)]

use std::rc::Rc;

struct Foo;

#[palm::server(name = "foo")]
impl Foo {
    #[palm::method]
    async fn future(&self) {
        let local = Rc::new(1);
        std::future::ready(()).await;
        drop(local);
    }

    #[palm::method]
    fn iterator(&self) -> impl Iterator<Item = String> {
        let local = Rc::new("a".to_owned());
        (0..3).map(move |_| local.to_string())
    }
}

fn main() {}
