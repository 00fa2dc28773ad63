//! The macros of palm: syntax in, calls of the runtime out. Use them through the crate `palm`,
//! which re-exports and documents them.
//!
//! `component` is the attributes of an `impl` block, `helper` those of the methods in it, `interface` the
//! one of a trait, `part` those of parts of a user's own, `steps` the check of names that are written as literals.

mod component;
mod constant;
mod diagnostics;
mod helper;
mod interface;
mod kind;
mod options;
mod part;
mod paths;
mod signature;
mod steps;
mod syntax;
mod text;

use proc_macro::TokenStream;

use crate::helper::Helper;
use crate::kind::Kind;
use crate::part::Part;

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn server(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Server, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn pipeline(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Pipeline, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn sink(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Sink, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn worker(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Worker, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn mux_worker(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::MuxWorker, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn http_worker(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::HttpWorker, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn master(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Master, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn hub(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand(Kind::Hub, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn method(_: TokenStream, item: TokenStream) -> TokenStream {
    helper::expand(Helper::Method, item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn scatter(_: TokenStream, item: TokenStream) -> TokenStream {
    helper::expand(Helper::Scatter, item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn gather(_: TokenStream, item: TokenStream) -> TokenStream {
    helper::expand(Helper::Gather, item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn handle_stream(_: TokenStream, item: TokenStream) -> TokenStream {
    helper::expand(Helper::HandleStream, item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn interface(args: TokenStream, item: TokenStream) -> TokenStream {
    interface::expand(args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn inbound(args: TokenStream, item: TokenStream) -> TokenStream {
    part::expand(Part::Inbound, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn outbound(args: TokenStream, item: TokenStream) -> TokenStream {
    part::expand(Part::Outbound, args.into(), item.into()).into()
}

#[expect(
    missing_docs,
    reason = "documented at the re-export in `palm`, where doctests can run"
)]
#[proc_macro_attribute]
pub fn bypass(args: TokenStream, item: TokenStream) -> TokenStream {
    part::expand(Part::Bypass, args.into(), item.into()).into()
}

#[doc(hidden)]
#[proc_macro]
pub fn steps(input: TokenStream) -> TokenStream {
    steps::expand(input.into()).into()
}
