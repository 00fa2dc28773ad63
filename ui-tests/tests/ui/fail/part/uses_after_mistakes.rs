//! Uses of parts with mistakes cause no errors of their own.

use palm::parts::{Handler, RepService};
use palm::prelude::*;

struct Lines;

#[palm::inbound]
impl Lines {
    fn scater(&mut self, message: Message) -> Vec<Message> {
        vec![message]
    }
}

struct Archive;

#[palm::outbound]
impl Archive {
    fn handle(message: Message) -> Message {
        message
    }
}

fn main() {
    let mut server = ServerTemplate::new("lines");
    let requests = RepService::bind("tcp://127.0.0.1:5555");
    server.register_inbound(requests, "Rep").hooks(Lines).route("Archive");
    server.register_outbound(Handler::new(Archive), "Archive");
}
