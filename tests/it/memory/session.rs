//! Sessions of links whose headers are written by hand.

use std::collections::VecDeque;

use bytes::Bytes;
use palm::prelude::*;
use palm::socket::{Dealer, Frames};
use prost::Message as _;

use super::super::setup::{address, options, soon};
use super::wire::{self, Header, Hello};

const PROTOCOL: u32 = u32::from_le_bytes(*b"PLK1");
pub(super) const CROWDED: i32 = 3;
pub(super) const WRONG: i32 = 4;

/// A session whose headers are written by hand: it sends without regard to credit, and never sends a message again.
pub(super) struct Session {
    dealer: Dealer,
    id: Bytes,
    sent: u64,
    arrived: VecDeque<Frames>,
}

impl Session {
    /// Opens a connection, and sends a `hello` over it.
    pub(super) async fn send_hello(db_address: &str, number: u32, hello: Hello) -> Self {
        let dealer = Dealer::connect(&address(db_address), &options()).await;
        let mut session = Self {
            dealer: dealer.unwrap(),
            id: session_id(number),
            sent: 0,
            arrived: VecDeque::new(),
        };
        let hello = Some(hello);
        let header = session.header();
        session.send(Header { hello, ..header }, &[]).await;
        session
    }

    /// Sends the `hello` of another session over the same connection, which ends this session.
    pub(super) async fn send_next_hello(&mut self, number: u32, hello: Hello) {
        self.id = session_id(number);
        self.sent = 0;
        let hello = Some(hello);
        let header = self.header();
        self.send(Header { hello, ..header }, &[]).await;
    }

    /// Opens the session of a subscriber that grants no credit, and waits for `welcome`.
    pub(super) async fn subscriber(db_address: &str, number: u32, topic: &str) -> Self {
        let hello = Hello {
            version: 3,
            role: "subscriber".to_owned(),
            name: format!("subscriber{number}"),
            topics: vec![topic.to_owned()],
            ..Hello::default()
        };
        let mut session = Self::send_hello(db_address, number, hello).await;
        assert_eq!(session.refusal().await, None);
        session
    }

    /// Opens the session of a worker that has `functions`, grants credit for many tasks, and ends none.
    pub(super) async fn worker(db_address: &str, number: u32, functions: &[&str]) -> Self {
        let functions = functions.iter().map(|name| wire::Function {
            name: (*name).to_owned(),
            doc: String::new(),
        });
        let hello = Hello {
            version: 3,
            role: "worker".to_owned(),
            name: format!("worker{number}"),
            functions: functions.collect(),
            concurrency: 1000,
            ..Hello::default()
        };
        let mut session = Self::send_hello(db_address, number, hello).await;
        assert_eq!(session.refusal().await, None);
        let header = Header {
            credit_messages: 1_000_000,
            credit_bytes: 1 << 40,
            ..session.header()
        };
        session.send(header, &[]).await;
        session
    }

    /// Opens the session of a client that grants no credit, and waits for `welcome`.
    pub(super) async fn client(db_address: &str, number: u32) -> Self {
        let name = format!("client{number}");
        let hello = Hello {
            version: 3,
            role: "client".to_owned(),
            client: name.clone(),
            name,
            ..Hello::default()
        };
        let mut session = Self::send_hello(db_address, number, hello).await;
        assert_eq!(session.refusal().await, None);
        session
    }

    pub(super) fn header(&self) -> Header {
        Header {
            protocol: PROTOCOL,
            session: self.id.clone(),
            first: self.sent,
            ..Header::default()
        }
    }

    pub(super) async fn send(&mut self, header: Header, messages: &[Bytes]) {
        self.sent += messages.len() as u64;
        let header = Bytes::from(header.encode_to_vec());
        let frames = std::iter::once(header).chain(messages.iter().cloned());
        let sent = self.dealer.send(frames.collect());
        soon("capacity to send", sent).await.unwrap();
    }

    pub(super) async fn receive(&mut self) -> Header {
        if self.arrived.is_empty() {
            let mut arrived = Vec::new();
            let received = self.dealer.recv_many(&mut arrived, 64);
            soon("a header", received).await.unwrap();
            self.arrived.extend(arrived);
        }
        let frames = self.arrived.pop_front().unwrap();
        Header::decode(frames[0].clone()).unwrap()
    }

    /// Waits for the answer to the `hello`; returns the kind of the refusal, or `None` for a welcome.
    pub(super) async fn refusal(&mut self) -> Option<i32> {
        loop {
            let header = self.receive().await;
            if let Some(refusal) = header.refusal {
                assert!(!refusal.reason.is_empty());
                return Some(refusal.kind);
            }
            if header.welcome.is_some() {
                return None;
            }
        }
    }

    /// Calls a function once for each payload.
    pub(super) async fn call(&mut self, function: &str, client: &str, payloads: &[Bytes]) {
        let frames: Vec<_> = payloads
            .iter()
            .map(|payload| {
                let mut message = Message::new(function, payload.clone());
                message.set_client(client.to_owned());
                message.into_frame()
            })
            .collect();
        let header = self.header();
        self.send(header, &frames).await;
    }
}

fn session_id(number: u32) -> Bytes {
    [[0; 12].as_slice(), &number.to_be_bytes()].concat().into()
}
