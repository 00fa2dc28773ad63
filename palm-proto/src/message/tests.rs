//! The codec compared with prost, on messages, unknown fields and random bytes.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use prost::Message as _;

use super::proto::PalmMessage;
use super::wire_format::{WireType, put_key, put_varint};
use super::{DecodeError, Message};

/// Copies the text. Unknown fields are dropped, because prost does not keep them.
impl From<Message> for PalmMessage {
    fn from(message: Message) -> Self {
        Self {
            pipeline: message.pipeline().to_owned(),
            client: message.client().to_owned(),
            stage: message.stage(),
            function: message.function().to_owned(),
            cache: message.cache().to_owned(),
            payload: message.payload().clone(),
        }
    }
}

impl From<PalmMessage> for Message {
    fn from(message: PalmMessage) -> Self {
        let mut copy = Message::new(message.function, message.payload);
        copy.set_pipeline(message.pipeline);
        copy.set_client(message.client);
        copy.set_stage(message.stage);
        copy.set_cache(message.cache);
        copy
    }
}

fn any_message() -> impl Strategy<Value = PalmMessage> {
    let text = "\\PC{0,40}";
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (text, text, any::<i64>(), text, text, payload).prop_map(
        |(pipeline, client, stage, function, cache, payload)| PalmMessage {
            pipeline,
            client,
            stage,
            function,
            cache,
            payload: payload.into(),
        },
    )
}

/// An unknown field of several wire types.
fn any_unknown() -> impl Strategy<Value = Vec<u8>> {
    let field = 7_u32..5000;
    prop_oneof![
        (field.clone(), any::<u64>()).prop_map(|(field, value)| {
            let mut out = Vec::new();
            put_key(field, WireType::Varint, &mut out);
            put_varint(value, &mut out);
            out
        }),
        (field.clone(), prop::collection::vec(any::<u8>(), 0..50)).prop_map(|(field, value)| {
            let mut out = Vec::new();
            put_key(field, WireType::LengthDelimited, &mut out);
            put_varint(value.len() as u64, &mut out);
            out.extend(value);
            out
        }),
        (field, any::<u64>()).prop_map(|(field, value)| {
            let mut out = Vec::new();
            put_key(field, WireType::Fixed64, &mut out);
            out.extend(value.to_le_bytes());
            out
        }),
    ]
}

proptest! {
    #[test]
    fn messages_are_encoded_and_decoded_as_by_prost(plain in any_message()) {
        let message = Message::decode(plain.encode_to_vec().into()).unwrap();
        prop_assert_eq!(&message, &Message::from(plain.clone()));
        prop_assert_eq!(PalmMessage::decode(Message::from(plain.clone()).encode()).unwrap(), plain);
    }

    #[test]
    fn changed_message_keeps_unknown_fields(
        plain in any_message(),
        unknown in prop::collection::vec(any_unknown(), 0..4),
        front in any::<bool>(),
    ) {
        let unknown = unknown.concat();
        let mut frame = plain.encode_to_vec();
        if front {
            frame.splice(0..0, unknown.iter().copied());
        } else {
            frame.extend(&unknown);
        }
        let mut message = Message::decode(frame.into()).unwrap();
        message.set_payload("new");
        let sent = Message::decode(message.encode()).unwrap();
        prop_assert_eq!(&sent.0.unknown[..], &unknown[..]);
        prop_assert_eq!(sent.function(), plain.function);
    }

    #[test]
    fn unchanged_message_returns_its_frame(plain in any_message()) {
        let frame = Bytes::from(plain.encode_to_vec());
        let sent = Message::decode(frame.clone()).unwrap().into_frame();
        prop_assert_eq!(sent.as_ptr(), frame.as_ptr());
        prop_assert_eq!(sent, frame);
    }

    #[test]
    fn random_bytes_are_accepted_as_by_prost(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let ours = Message::decode(bytes.clone().into());
        let theirs = PalmMessage::decode(&bytes[..]);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} {:?}", ours, theirs);
    }
}

#[test]
fn unknown_fields_between_known_ones_are_kept_in_order() {
    let mut frame = Vec::new();
    for index in 0..100_u64 {
        put_key(16, WireType::Varint, &mut frame);
        put_varint(index, &mut frame);
        frame.extend(b"\x22\x03a.b");
    }
    let message = Message::decode(frame.into()).unwrap().with_payload("x");
    let mut expected = BytesMut::new();
    for index in 0..100_u64 {
        put_key(16, WireType::Varint, &mut expected);
        put_varint(index, &mut expected);
    }
    let sent = Message::decode(message.encode()).unwrap();
    assert_eq!(sent.0.unknown, expected);
    assert_eq!(sent.function(), "a.b");
}

#[test]
fn payload_is_a_view_of_the_frame() {
    let frame = Message::new("a.b", vec![7; 1000]).encode();
    let message = Message::decode(frame.clone()).unwrap();
    let frame_range = frame.as_ptr_range();
    assert!(frame_range.contains(&message.payload().as_ptr()));
    assert!(frame_range.contains(&message.function().as_ptr()));
}

#[test]
fn message_of_pylm_is_decoded_and_encoded_unchanged() {
    // Captured from pylm's client: eval(['srv.foo', 'other.bar'], b'pay', cache='CC').
    let mut frame = vec![0x0a, 0x24];
    frame.extend([b'p'; 36]);
    frame.extend([0x12, 0x24]);
    frame.extend([b'c'; 36]);
    frame.extend(b"\x22\x11srv.foo other.bar\x2a\x02CC\x32\x03pay");
    let mut message = Message::decode(frame.clone().into()).unwrap();
    assert_eq!(message.stage(), 0);
    assert_eq!(message.step().unwrap().function, "foo");
    assert_eq!(
        (message.cache(), &message.payload()[..]),
        ("CC", &b"pay"[..])
    );
    message.set_payload("pay");
    assert_eq!(message.encode(), frame);
}

#[test]
fn decode_errors_name_field_and_cause() {
    let check = |bytes: &[u8], expected: &str| {
        let error: DecodeError = Message::decode(Bytes::copy_from_slice(bytes)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    check(b"\x0a\xff\x01", "field 1 announces 255 bytes, 0 are left");
    check(b"\x0a\x02\xff\xfe", "field 1 is not UTF-8");
    check(b"\x18", "not a protobuf message");
    check(b"\x20\x05", "field 4 has wire type 0");
}
