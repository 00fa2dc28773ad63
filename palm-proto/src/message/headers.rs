//! The extension `headers` of a message: what a caller adds to its calls besides the payload.

use bytestring::ByteString;
use prost::Message as _;

use super::proto::{Extensions, Header};

/// Names and values that travel with a call, such as a token or a tenant. Names are unique and case-sensitive.
///
/// Part 2 of the wire contract (`proto/README.md`) defines them. They are not encrypted, and travel with the results of
/// the call to its next steps and back to its client.
///
/// ```
/// use palm::middleware::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("token", "secret");
/// assert_eq!(headers.get("token"), Some("secret"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(ByteString, ByteString)>);

impl Headers {
    /// Returns no headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut headers = self.iter();
        headers.find(|(known, _)| *known == name).map(|it| it.1)
    }

    /// Sets the value of `name`, and returns the previous one.
    pub fn insert(
        &mut self,
        name: impl Into<ByteString>,
        value: impl Into<ByteString>,
    ) -> Option<ByteString> {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => Some(std::mem::replace(known, value)),
            None => {
                self.0.push((name, value));
                None
            }
        }
    }

    /// Removes `name`, and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<ByteString> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }

    /// Returns the names and values, in the order in which they were inserted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns the number of headers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes the headers among extension fields. The last value of a name counts.
    pub(super) fn from_extension(headers: Vec<Header>) -> Self {
        let mut read = Self::new();
        for Header { name, value } in headers {
            read.insert(name, value);
        }
        read
    }

    /// Returns the extension fields.
    #[doc(hidden)]
    pub fn to_extensions(&self) -> Extensions {
        let header = |(name, value): (&str, &str)| Header {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        Extensions {
            headers: self.iter().map(header).collect(),
            ..Extensions::default()
        }
    }

    /// Encodes the extension fields.
    #[doc(hidden)]
    pub fn encode(&self) -> Vec<u8> {
        self.to_extensions().encode_to_vec()
    }
}

/// Values are not shown, because they may be secret.
impl std::fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn headers_travel_with_a_message_and_its_result() {
        let mut headers = Headers::new();
        assert_eq!(headers.insert("token", "first"), None);
        headers.insert("tenant", "blue");
        assert_eq!(headers.insert("token", "second").as_deref(), Some("first"));
        assert_eq!(format!("{headers:?}"), r#"["token", "tenant"]"#);

        let mut frame = Message::new("a.b", "x").encode().to_vec();
        frame.extend(headers.encode());
        let message = Message::decode(frame.into()).unwrap();
        assert_eq!(message.headers(), headers);
        let result = Message::decode(message.with_payload("y").encode()).unwrap();
        assert_eq!(result.headers(), headers);

        assert_eq!(headers.remove("tenant").as_deref(), Some("blue"));
        assert_eq!((headers.get("tenant"), headers.len()), (None, 1));
        assert_eq!(Message::new("a.b", "x").headers(), Headers::new());
    }

    #[test]
    fn last_value_of_a_repeated_header_counts() {
        let mut frame = Message::new("a.b", "x").encode().to_vec();
        for value in ["first", "last"] {
            let mut headers = Headers::new();
            headers.insert("token", value);
            frame.extend(headers.encode());
        }
        let message = Message::decode(frame.into()).unwrap();
        assert_eq!(message.headers().get("token"), Some("last"));
    }
}
