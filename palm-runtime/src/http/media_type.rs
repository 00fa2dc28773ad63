//! [`PayloadType`]: the media type of a function's argument and results, derived from the codec in its signature.

use crate::message::proto::Function;

/// How an argument or a result is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadType {
    Nothing,
    Text,
    Json,
    MessagePack,
    Protobuf,
    Bytes,
}

impl PayloadType {
    /// Derives the encoding from the text of a Rust type, such as `Result<Json<T>, E>`.
    ///
    /// Only the text is known, so an alias of a codec's type and a type of the user count as bytes.
    fn from_rust_type(rust_type: &str) -> Self {
        let words = rust_type.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        // The first word that is not a wrapper decides. The error of a `Result` comes last, so it is ignored.
        for word in words.filter(|word| !word.is_empty()) {
            return match word {
                "Json" => Self::Json,
                "MessagePack" => Self::MessagePack,
                "Protobuf" => Self::Protobuf,
                "String" | "ByteString" | "str" => Self::Text,
                "impl" | "dyn" | "Result" | "Option" | "Iterator" | "IntoIterator" | "Stream"
                | "Item" | "Vec" | "Send" | "static" | "palm" | "std" | "core" | "Box" | "Pin"
                | "BoxStream" | "futures" | "result" | "option" | "string" | "bytes" => continue,
                _ => Self::Bytes,
            };
        }
        Self::Nothing
    }

    /// Returns whether a body of this media type can be an argument of this type.
    ///
    /// Media types that clients such as curl set by default are accepted for every argument.
    pub(super) fn accepts(self, media_type: &str) -> bool {
        const CLIENT_DEFAULTS: [&str; 3] = [
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "text/plain",
        ];

        let essence = media_type.split(';').next().unwrap_or_default();
        let essence = essence.trim().to_ascii_lowercase();
        let is_own = match self {
            Self::Nothing | Self::Text | Self::Bytes => true,
            Self::Json => {
                essence == "application/json"
                    || essence.ends_with("+json")
                    || essence == "text/json"
            }
            Self::MessagePack => matches!(
                &*essence,
                "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack"
            ),
            Self::Protobuf => matches!(
                &*essence,
                "application/x-protobuf"
                    | "application/protobuf"
                    | "application/vnd.google.protobuf"
            ),
        };
        is_own || essence.is_empty() || CLIENT_DEFAULTS.contains(&&*essence)
    }

    /// Returns whether the gateway cannot know the format of the bytes.
    pub(super) fn is_opaque(self) -> bool {
        matches!(self, Self::Nothing | Self::Bytes)
    }

    /// Returns the type of the argument of `function`.
    pub(super) fn from_input(function: &Function) -> Self {
        Self::from_rust_type(&function.input)
    }

    /// Returns the type of the results of `function`.
    pub(super) fn from_output(function: &Function) -> Self {
        match Self::from_rust_type(&function.output) {
            Self::Nothing if function.output != "()" => Self::Bytes,
            content => content,
        }
    }

    /// Returns the value of the `Content-Type` header.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
            Self::Protobuf => "application/x-protobuf",
            Self::Text => "text/plain; charset=utf-8",
            Self::Nothing | Self::Bytes => "application/octet-stream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_type_rejects_media_types_of_other_codecs() {
        let all = [
            "application/json",
            "application/problem+json; charset=utf-8",
            "application/msgpack",
            "Application/X-Protobuf",
            "image/png",
            "multipart/form-data; boundary=x",
            "application/octet-stream",
            "application/x-www-form-urlencoded",
            "text/plain;charset=UTF-8",
            "",
        ];
        let check = |content: PayloadType, expected: [u8; 10]| {
            let supported = all.map(|media_type| u8::from(content.accepts(media_type)));
            assert_eq!(supported, expected, "{content:?}");
        };
        check(PayloadType::Json, [1, 1, 0, 0, 0, 0, 1, 1, 1, 1]);
        check(PayloadType::MessagePack, [0, 0, 1, 0, 0, 0, 1, 1, 1, 1]);
        check(PayloadType::Protobuf, [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]);
        for content in [PayloadType::Nothing, PayloadType::Text, PayloadType::Bytes] {
            check(content, [1; 10]);
        }
    }

    #[test]
    fn payload_type_follows_the_codec_in_a_rust_type() {
        for (rust_type, expected) in [
            ("Json<Thumbnail>", PayloadType::Json),
            ("Result<Json<Png>, ResizeError>", PayloadType::Json),
            ("impl Iterator<Item = String> + use<>", PayloadType::Text),
            (
                "impl Stream<Item = Result<MessagePack<T>, E>>",
                PayloadType::MessagePack,
            ),
            ("palm::Protobuf<Order>", PayloadType::Protobuf),
            ("&'static str", PayloadType::Text),
            ("Bytes", PayloadType::Bytes),
            ("Vec<u8>", PayloadType::Bytes),
            ("Celsius", PayloadType::Bytes),
            ("()", PayloadType::Nothing),
            ("", PayloadType::Nothing),
        ] {
            let found = PayloadType::from_rust_type(rust_type);
            assert_eq!(found, expected, "{rust_type}");
        }
    }
}
