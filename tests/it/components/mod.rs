//! Each kind of component: it answers, finds its upstream, and its hooks shape the stream.

use bytes::Bytes;
use palm::prelude::*;

use super::setup::soon;

mod addresses;
mod follow;
mod hooks;
mod kinds;
mod message_limit;

struct First;

/// The first step, which clients call.
#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " first"
    }
}

struct Middle;

#[palm::pipeline(name = "middle")]
impl Middle {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " middle"
    }

    #[palm::method]
    fn long_only(&self, text: String) -> Option<String> {
        (text.len() > 10).then_some(text)
    }
}

struct Last;

#[palm::sink(name = "last")]
impl Last {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " last"
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    fn mark(&self, text: String, context: Context) -> String {
        format!("{text} {}", context.name())
    }
}

async fn eval<const N: usize>(client: &Client, steps: [&str; N], payload: &str) -> Bytes {
    soon("an answer", client.eval(steps, payload).into_future())
        .await
        .unwrap()
}
