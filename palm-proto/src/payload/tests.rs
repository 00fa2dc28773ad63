//! Codecs accept or reject any bytes without a panic, and decode what they encode.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

#[test]
fn type_names_have_no_module_paths() {
    for (name, short) in [
        ("alloc::string::String", "String"),
        ("&str", "&str"),
        ("()", "()"),
        (
            "palm::Json<alloc::vec::Vec<(u8, crate::Größe)>>",
            "Json<Vec<(u8, Größe)>>",
        ),
        ("[core::option::Option<u8>; 4]", "[Option<u8>; 4]"),
    ] {
        assert_eq!(without_paths(name), short);
    }
}

/// A message with a field of each kind.
#[derive(Clone, PartialEq, prost::Message)]
#[cfg_attr(
    any(feature = "json", feature = "messagepack"),
    derive(serde::Serialize, serde::Deserialize)
)]
struct Value {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(sint64, tag = "2")]
    number: i64,
    #[prost(double, optional, tag = "3")]
    fraction: Option<f64>,
    #[prost(bytes = "vec", tag = "4")]
    bytes: Vec<u8>,
    #[prost(btree_map = "string, uint32", tag = "5")]
    map: BTreeMap<String, u32>,
    /// Nested to any depth.
    #[prost(message, repeated, tag = "6")]
    values: Vec<Value>,
}

/// With finite numbers, because JSON has no others.
fn value() -> impl Strategy<Value = Value> {
    let leaf = (
        ".*",
        any::<i64>(),
        prop::option::of(-1e300..1e300),
        vec(any::<u8>(), 0..40),
        btree_map(".*", any::<u32>(), 0..4),
    );
    let leaf = leaf.prop_map(|(text, number, fraction, bytes, map)| Value {
        text,
        number,
        fraction,
        bytes,
        map,
        values: Vec::new(),
    });
    leaf.prop_recursive(3, 12, 4, |inner| {
        (inner.clone(), vec(inner, 0..4)).prop_map(|(mut value, values)| {
            value.values = values;
            value
        })
    })
}

/// An encoded value with some bytes changed, truncated at any position.
fn corrupted(written: impl Strategy<Value = Bytes>) -> impl Strategy<Value = Bytes> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (written, changes, any::<prop::sample::Index>()).prop_map(|(written, changes, end)| {
        let mut bytes = Vec::from(written);
        for (index, byte) in changes {
            if !bytes.is_empty() {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
        }
        bytes.truncate(end.index(bytes.len() + 1));
        bytes.into()
    })
}

/// Decodes a payload. An error has a position within it.
fn check_positioned<T: FromPayload<Error = PositionedError>>(payload: Bytes) {
    let len = payload.len();
    if let Err(error) = T::from_payload(payload) {
        assert!(error.position <= len, "{error} of {len}");
    }
}

fn written<T: IntoPayload>(value: T) -> Bytes {
    match value.into_payload() {
        Ok(payload) => payload,
        Err(error) => panic!("{}", error.into()),
    }
}

fn read<T: FromPayload>(payload: Bytes) -> T {
    T::from_payload(payload).unwrap_or_else(|error| panic!("{}", error.into()))
}

/// Repeats `open` for each level.
#[cfg(any(feature = "json", feature = "messagepack"))]
fn nested(open: &[u8], levels: usize) -> Bytes {
    open.repeat(levels).into()
}

/// Decodes a payload on a thread with the stack size of a runtime's threads.
fn on_a_small_stack(read: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
    thread.spawn(read).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn protobuf_errors_of_random_bytes_have_a_position_in_the_payload(bytes in vec(any::<u8>(), 0..200)) {
        check_positioned::<Protobuf<Value>>(bytes.into());
    }

    #[test]
    fn protobuf_errors_of_corrupted_values_have_a_position_in_the_payload(bytes in corrupted(value().prop_map(|value| written(Protobuf(value))))) {
        check_positioned::<Protobuf<Value>>(bytes);
    }

    #[test]
    fn protobuf_decodes_what_it_encodes(value in value()) {
        let found: Protobuf<Value> = read(written(Protobuf(value.clone())));
        prop_assert_eq!(found.0, value);
    }
}

#[test]
fn protobuf_rejects_too_many_levels() {
    on_a_small_stack(|| {
        // Each level contains all further ones.
        let mut payload = Vec::new();
        for _ in 0..5000 {
            // The key of field 6, with the wire type of a length.
            let mut level = vec![0x32];
            prost::encode_length_delimiter(payload.len(), &mut level).unwrap();
            level.extend(payload);
            payload = level;
        }
        let error = Protobuf::<Value>::from_payload(payload.into()).unwrap_err();
        assert!(error.to_string().contains("recursion"), "{error}");
    });
}

#[cfg(feature = "messagepack")]
mod message_pack {
    use super::*;

    /// Contains only values of its own type.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Tree(Vec<Tree>);

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    enum Logic {
        Not(Box<Logic>),
        Leaf,
    }

    proptest! {
        #[test]
        fn errors_of_random_bytes_have_a_position_in_the_payload(bytes in vec(any::<u8>(), 0..200)) {
            check_positioned::<MessagePack<Value>>(bytes.clone().into());
            check_positioned::<MessagePack<Tree>>(bytes.into());
        }

        #[test]
        fn errors_of_corrupted_values_have_a_position_in_the_payload(bytes in corrupted(value().prop_map(|value| written(MessagePack(value))))) {
            check_positioned::<MessagePack<Value>>(bytes);
        }

        #[test]
        fn values_are_decoded_as_encoded(value in value()) {
            let found: MessagePack<Value> = read(written(MessagePack(value.clone())));
            prop_assert_eq!(found.0, value);
        }

        #[test]
        fn trailing_bytes_are_rejected(value in value(), more in vec(any::<u8>(), 1..10)) {
            let payload = written(MessagePack(value));
            let len = payload.len();
            let error = MessagePack::<Value>::from_payload([payload.as_ref(), &more].concat().into());
            prop_assert_eq!(error.unwrap_err().position, len);
        }
    }

    #[test]
    fn too_many_levels_are_rejected() {
        on_a_small_stack(|| {
            // Nested arrays of one element, in a type that has them and in an unknown field.
            let deep = [&nested(b"\x91", 126)[..], b"\x90"].concat();
            read::<MessagePack<Tree>>(deep.into());
            let error = MessagePack::<Tree>::from_payload(nested(b"\x91", 100_000)).unwrap_err();
            assert_eq!(error.to_string(), "more than 127 levels at byte 128");
            let ignored = [&b"\x81\xa4more"[..], &nested(b"\x91", 100_000)].concat();
            check_positioned::<MessagePack<Value>>(ignored.into());
            // Variants of enums, which the crate does not count.
            let deep = [&nested(b"\x81\xa3Not", 126)[..], b"\xa4Leaf"].concat();
            read::<MessagePack<Logic>>(deep.into());
            check_positioned::<MessagePack<Logic>>(nested(b"\x81\xa3Not", 100_000));
        });
    }

    #[test]
    fn announced_lengths_allocate_nothing() {
        // Markers that announce four billion elements, bytes and pairs.
        for head in [b"\xdd", b"\xdb", b"\xc6", b"\xdf", b"\xc9"] {
            let payload = Bytes::from([&head[..], b"\xff\xff\xff\xff"].concat());
            check_positioned::<MessagePack<Value>>(payload.clone());
            check_positioned::<MessagePack<Vec<u64>>>(payload.clone());
            check_positioned::<MessagePack<BTreeMap<u8, u8>>>(payload.clone());
            check_positioned::<MessagePack<String>>(payload);
        }
    }
}

#[cfg(feature = "json")]
mod json {
    use super::*;

    /// Contains only values of its own type.
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Tree(Vec<Tree>);

    fn check<T>(payload: Bytes)
    where
        Json<T>: FromPayload<Error = CodecError>,
    {
        let lines = 1 + payload.iter().filter(|byte| **byte == b'\n').count();
        let longest = payload.split(|byte| *byte == b'\n').map(<[u8]>::len).max();
        if let Err(CodecError(error)) = Json::<T>::from_payload(payload) {
            let error = error.downcast::<serde_json::Error>().unwrap();
            assert!((1..=lines).contains(&error.line()), "{error}");
            assert!(Some(error.column()) <= longest, "{error}");
        }
    }

    proptest! {
        #[test]
        fn errors_of_random_bytes_have_a_position_in_the_payload(bytes in vec(any::<u8>(), 0..200)) {
            check::<Value>(bytes.into());
        }

        #[test]
        fn errors_of_random_text_have_a_position_in_the_payload(text in "[\\[\\]{}:,\"0-9a-z\\\\\n. -]{0,60}") {
            check::<Value>(text.clone().into());
            check::<Tree>(text.into());
        }

        #[test]
        fn errors_of_corrupted_values_have_a_position_in_the_payload(bytes in corrupted(value().prop_map(|value| written(Json(value))))) {
            check::<Value>(bytes);
        }

        #[test]
        fn values_are_decoded_as_encoded(value in value()) {
            let found: Json<Value> = read(written(Json(value.clone())));
            prop_assert_eq!(found.0, value);
        }
    }

    #[test]
    fn too_many_levels_are_rejected() {
        on_a_small_stack(|| {
            for open in [&b"["[..], b"{\"values\":[", b"{\"more\":"] {
                check::<Value>(nested(open, 100_000));
                check::<Tree>(nested(open, 100_000));
            }
        });
    }
}
