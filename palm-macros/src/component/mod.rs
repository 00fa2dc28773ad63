//! The attributes of `impl` blocks: `#[palm::server]` and the others of [`Kind`].
//!
//! [`parse`] reads the block and its helper attributes, [`model`] checks every rule that needs no types, and
//! [`expand`] writes the implementations, or stand-ins if there are mistakes.

mod expand;
mod model;
mod parse;
#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};

use self::model::{Component, ComponentOptions};
use self::parse::Block;
use crate::diagnostics::{Diagnostics, with_errors};
use crate::helper::without_helper_attributes;
use crate::kind::Kind;

/// Expands the attribute `kind` with the options `args` on `item`.
pub(crate) fn expand(kind: Kind, args: TokenStream, item: TokenStream) -> TokenStream {
    expand_with(kind, None, args, item)
}

/// Expands the attribute `kind` in a build of palm that lacks the `feature` for it.
pub(crate) fn expand_without_feature(
    kind: Kind,
    feature: &str,
    args: TokenStream,
    item: TokenStream,
) -> TokenStream {
    expand_with(kind, Some(feature), args, item)
}

fn expand_with(
    kind: Kind,
    missing_feature: Option<&str>,
    args: TokenStream,
    item: TokenStream,
) -> TokenStream {
    let mut diagnostics = Diagnostics::default();
    if let Some(feature) = missing_feature {
        let message = format!(
            "`#[palm::{}]` needs the feature `{feature}` of palm: add `features = [\"{feature}\"]` to the \
             dependency in Cargo.toml",
            kind.attribute()
        );
        diagnostics.push_at(Span::call_site(), message);
    }
    let options = ComponentOptions::parse(kind, args, &mut diagnostics);
    let block = match Block::parse(kind, &options.palm, item.clone(), &mut diagnostics) {
        Ok(block) => block,
        // The mistakes of the options would mean nothing on another item.
        Err(error) => return with_errors(without_helper_attributes(item), &error),
    };
    let component = Component::model(kind, options, &block, &mut diagnostics);
    match diagnostics.finish() {
        Ok(()) => expand::component(&component),
        Err(errors) => with_errors(expand::stand_in(&component, missing_feature), &errors),
    }
}
