//! The macros of palm. Use them through the crate `palm`, which re-exports and documents them.
//!
//! An attribute reads an item and expands to it, followed by implementations of the runtime's traits:
//!
//! - `component`: the attributes of `impl` blocks (`#[palm::server]` and the others of `Kind`);
//! - `helper`: the attributes of methods inside these blocks (`#[palm::method]` and the hooks);
//! - `interface`: the attribute of a trait;
//! - `part`: the attributes of user-defined parts (`#[palm::inbound]` and the others of `Part`);
//! - `program`: the `main` function that `palm::main!` makes;
//! - `steps`: the check of step names that are written as literals.
//!
//! After a mistake an attribute reports every mistake that it finds and expands to *stand-ins*: the same
//! constants, types and trait implementations, without the user's methods behind them. Code that uses the item
//! then causes no further errors.

mod component;
mod constant;
mod diagnostics;
mod helper;
mod interface;
mod kind;
mod options;
mod part;
mod paths;
mod program;
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

/// Stands for [`macro@http_worker`] in builds of palm without the feature `http`, and names the feature.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn http_worker_without_feature(args: TokenStream, item: TokenStream) -> TokenStream {
    component::expand_without_feature(Kind::HttpWorker, "http", args.into(), item.into()).into()
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

#[doc(hidden)]
#[proc_macro]
pub fn main(input: TokenStream) -> TokenStream {
    program::expand(input.into()).into()
}
