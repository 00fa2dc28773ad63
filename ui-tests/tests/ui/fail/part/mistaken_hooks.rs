#![allow(unused)]

use palm::prelude::*;

struct Misspelt;

#[palm::inbound]
impl Misspelt {
    fn scater(&mut self, message: Message) -> Vec<Message> {
        vec![message]
    }
}

struct Nothing;

#[palm::bypass]
impl Nothing {
    fn other(&self) {}
}

struct NoMessages;

#[palm::outbound]
impl NoMessages {
    fn handle(&mut self, message: Message) -> u32 {
        1
    }
}

struct NoBody;

#[palm::bypass]
impl NoBody {
    fn recv(&mut self, body: u32) -> String {
        body.to_string()
    }
}

fn main() {}
