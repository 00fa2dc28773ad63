//! The attributes of `impl` blocks, `#[palm::server]` and its kin, end to end.
//!
//! [`Kind`] says in what they differ, [`parse`] what was written and where, [`model`] what it
//! means, [`expand`] what becomes of it.

mod expand;
mod model;
mod parse;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;

use self::model::Component;
use self::parse::Written;
use crate::diagnostics::item_with_errors;
use crate::kind::Kind;

pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    let written = match Written::parse(kind, item.clone()) {
        Ok(written) => written,
        Err(error) => return item_with_errors(item, &error),
    };
    match Component::model(kind, args, &written) {
        Ok(component) => expand::tokens(&component),
        Err(errors) => item_with_errors(&written.item, &errors),
    }
}
