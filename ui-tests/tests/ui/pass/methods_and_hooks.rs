//! Methods and hooks of every form.

#![deny(warnings, missing_docs, unreachable_pub)]
#![allow(dead_code, missing_debug_implementations)]
#![allow(clippy::wrong_self_convention)]

use std::convert::Infallible;
use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::stream::BoxStream;
use palm::prelude::*;

/// A component with methods of every form.
#[derive(Default)]
pub struct Foo {
    text: String,
}

/// A server.
#[palm::server(name = "foo")]
impl Foo {
    /// Takes and returns nothing.
    #[palm::method]
    pub fn nothing(&self) {}

    #[palm::method]
    fn undocumented(&self, payload: String) -> String {
        payload
    }

    #[palm::method(name = "other")]
    async fn renamed(
        &mut self,
        text: String,
        context: Context,
    ) -> Result<Option<Bytes>, Infallible> {
        self.text = text + context.name();
        Ok(None)
    }

    #[palm::method]
    fn borrowed(&self) -> &str {
        &self.text
    }

    #[palm::method]
    async fn borrowed_later(&self) -> &str {
        &self.text
    }

    #[palm::method(blocking)]
    fn blocking(&mut self, payload: Vec<u8>) -> Vec<u8> {
        payload
    }

    #[palm::method]
    fn iterator(&self, payload: String) -> impl Iterator<Item = String> {
        self.text
            .split(' ')
            .map(move |word| word.to_owned() + &payload)
    }

    #[palm::method]
    fn iterator_of_borrowed(&self) -> impl Iterator<Item = &str> {
        self.text.split(' ')
    }

    #[palm::method]
    fn iterator_of_results(&mut self) -> impl Iterator<Item = Result<Bytes, Infallible>> {
        std::iter::from_fn(|| self.text.pop()).map(|letter| Ok(letter.to_string().into()))
    }

    #[palm::method]
    async fn fallible_iterator(&self) -> Result<impl Iterator<Item = Bytes>, std::io::Error> {
        Ok(std::iter::once(Bytes::new()))
    }

    #[palm::method]
    fn into_iterator(&self) -> impl IntoIterator<Item = Bytes, IntoIter: Send> {
        vec![Bytes::new()]
    }

    #[palm::method(blocking)]
    fn blocking_iterator(&self) -> impl IntoIterator<Item = String> {
        let local = std::rc::Rc::new(1);
        self.text.split(' ').map(move |word| word.repeat(*local))
    }

    #[palm::method]
    fn boxed_iterator(&self) -> Box<dyn Iterator<Item = Bytes> + Send> {
        Box::new(std::iter::empty())
    }

    #[palm::method]
    fn stream(&self) -> impl Stream<Item = Bytes> {
        Empty
    }

    #[palm::method]
    async fn boxed_stream(&mut self) -> Result<BoxStream<'_, Bytes>, Infallible> {
        Ok(Box::pin(Empty))
    }

    #[palm::method]
    fn pinned_stream(&self) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
        Box::pin(Empty)
    }

    #[palm::method]
    fn opaque(&self) -> Result<impl palm::IntoPayload, String> {
        Ok("a".to_owned())
    }

    #[palm::method]
    #[deprecated]
    fn deprecated(&self) {}

    #[palm::handle_stream]
    async fn handle_stream(
        &self,
        message: Message,
        context: Context,
    ) -> Result<(String, Message), Infallible> {
        Ok((context.name().to_owned(), message))
    }
}

/// A stream without items.
struct Empty;

impl Stream for Empty {
    type Item = Bytes;

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Bytes>> {
        std::task::Poll::Ready(None)
    }
}

struct Many;

#[palm::mux_worker(server = "master")]
impl Many {
    #[palm::method]
    fn list(&self, payload: Bytes) -> Vec<Bytes> {
        vec![payload]
    }

    #[palm::method]
    async fn at_most_one(&self) -> Option<Bytes> {
        None
    }

    #[palm::method]
    fn fallible(&self) -> Result<[Bytes; 1], String> {
        Err("no".to_owned())
    }

    #[palm::method]
    fn own_stream(&self) -> impl Stream<Item = Bytes> + use<> {
        Empty
    }
}

struct Split;

#[palm::master(name = "split")]
impl Split {
    #[palm::scatter]
    fn copies(&self, message: Message) -> impl Iterator<Item = Message> {
        std::iter::repeat_n(message, 2)
    }

    #[palm::gather]
    fn gather(&mut self, message: Message) -> BoxStream<'_, Message> {
        let _ = message;
        Box::pin(EmptyOf(std::marker::PhantomData))
    }
}

struct EmptyOf<T>(std::marker::PhantomData<T>);

impl<T> Stream for EmptyOf<T> {
    type Item = T;

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        std::task::Poll::Ready(None)
    }
}

fn main() {
    assert_eq!(Foo::RENAMED.to_string(), "foo.other");
    assert_eq!(Many::LIST.to_string(), "master.list");
}
