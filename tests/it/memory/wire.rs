//! The fields of `palm.proto` that these tests need.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(fixed32, tag = "1")]
    pub(super) protocol: u32,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) session: Bytes,
    #[prost(uint64, tag = "3")]
    pub(super) first: u64,
    #[prost(uint64, tag = "4")]
    pub(super) received: u64,
    #[prost(uint64, tag = "5")]
    pub(super) credit_messages: u64,
    #[prost(uint64, tag = "6")]
    pub(super) credit_bytes: u64,
    #[prost(message, optional, tag = "10")]
    pub(super) hello: Option<Hello>,
    #[prost(message, optional, tag = "11")]
    pub(super) welcome: Option<Welcome>,
    #[prost(bool, tag = "14")]
    pub(super) closed: bool,
    #[prost(message, optional, tag = "15")]
    pub(super) refusal: Option<Refusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    #[prost(string, tag = "2")]
    pub(super) role: String,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) functions: Vec<Function>,
    #[prost(string, repeated, tag = "5")]
    pub(super) topics: Vec<String>,
    #[prost(string, tag = "6")]
    pub(super) client: String,
    #[prost(uint32, tag = "11")]
    pub(super) concurrency: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) doc: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Descriptor {
    #[prost(message, repeated, tag = "5")]
    pub(super) functions: Vec<Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refusal {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(string, tag = "2")]
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CacheRequest {
    #[prost(message, optional, tag = "9")]
    pub(super) watch: Option<Watch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Watch {
    #[prost(message, optional, tag = "2")]
    pub(super) after: Option<Cursor>,
    #[prost(uint32, tag = "3")]
    pub(super) wait_ms: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Cursor {
    #[prost(fixed64, tag = "1")]
    pub(super) record: u64,
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CacheReply {
    #[prost(message, optional, tag = "7")]
    pub(super) changes: Option<Changes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Changes {
    #[prost(message, optional, tag = "3")]
    pub(super) next: Option<Cursor>,
    #[prost(bool, tag = "4")]
    pub(super) crowded: bool,
}
