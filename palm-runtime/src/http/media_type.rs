//! Which media type a function takes and gives: that of the codec in its types.

use crate::message::proto::Function;

/// What the bytes of an argument or a result are.
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
    /// What the type `written` is made to. Only its name is known here, so another name for a codec's
    /// type, or a type of the user's, counts as bytes.
    fn from_rust_type(written: &str) -> Self {
        let words = written.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        // In `Result<Json<T>, E>` the error, which comes last, does not count.
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

    /// Whether a body of this media type can be it. Types that clients set without being told, as curl does, count as
    /// none.
    pub(super) fn accepts(self, media_type: &str) -> bool {
        const UNTOLD: [&str; 3] = [
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
        is_own || essence.is_empty() || UNTOLD.contains(&&*essence)
    }

    /// Whether only the method knows what the bytes are.
    pub(super) fn is_opaque(self) -> bool {
        matches!(self, Self::Nothing | Self::Bytes)
    }

    /// What `function` takes.
    pub(super) fn of_input(function: &Function) -> Self {
        Self::from_rust_type(&function.input)
    }

    /// What `function` gives.
    pub(super) fn of_output(function: &Function) -> Self {
        match Self::from_rust_type(&function.output) {
            Self::Nothing if function.output != "()" => Self::Bytes,
            content => content,
        }
    }

    /// The media type.
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
    fn body_of_another_codec_is_unsupported() {
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
    fn the_codec_in_a_type_says_what_it_is() {
        for (written, expected) in [
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
            assert_eq!(PayloadType::from_rust_type(written), expected, "{written}");
        }
    }
}
