//! [`Helper`]: the attributes of methods, `#[palm::method]`, `#[palm::scatter]`, `#[palm::gather]` and
//! `#[palm::handle_stream]`.
//!
//! The attribute of the enclosing `impl` block reads and removes them. A helper attribute that is expanded itself
//! is therefore misplaced, and its expansion says where it belongs.

#[cfg(test)]
mod tests;

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use syn::{Attribute, Error};

use crate::diagnostics::with_errors;
use crate::syntax::map_members;
use crate::text::is_misspelling;

/// A helper attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helper {
    Method,
    Scatter,
    Gather,
    HandleStream,
}

impl Helper {
    const ALL: [Self; 4] = [
        Self::Method,
        Self::Scatter,
        Self::Gather,
        Self::HandleStream,
    ];

    /// The attribute's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Scatter => "scatter",
            Self::Gather => "gather",
            Self::HandleStream => "handle_stream",
        }
    }

    /// Returns the helper that `attribute` is, whatever name the crate is imported by.
    pub(crate) fn from_attribute(attribute: &Attribute) -> Option<Self> {
        let last = attribute.path().segments.last()?;
        Self::from_name(&last.ident.to_string())
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|helper| name == helper.name())
    }

    /// Returns the helper whose name `attribute` misspells.
    pub(crate) fn from_misspelling(attribute: &Attribute) -> Option<Self> {
        let last = attribute.path().segments.last()?;
        let name = last.ident.to_string();
        Self::ALL
            .into_iter()
            .find(|helper| name != helper.name() && is_misspelling(&name, helper.name()))
    }

    /// The attributes of `impl` blocks that it belongs under, as a phrase.
    pub(crate) fn parents(self) -> &'static str {
        match self {
            Self::Method => {
                "`#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::worker]`, `#[palm::mux_worker]` or `#[palm::http_worker]`"
            }
            Self::Scatter | Self::Gather => "`#[palm::master]` or `#[palm::hub]`",
            Self::HandleStream => {
                "`#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]`, `#[palm::master]` or `#[palm::hub]`"
            }
        }
    }
}

/// Expands a misplaced helper attribute to an error.
pub(crate) fn expand(helper: Helper, item: TokenStream) -> TokenStream {
    let message = format!(
        "`#[palm::{}]` belongs on a method in an `impl` block under {}",
        helper.name(),
        helper.parents()
    );
    with_errors(item, &Error::new(Span::call_site(), message))
}

/// Removes the helper attributes from the members of an `impl` block or a trait that may not parse.
pub(crate) fn without_helper_attributes(item: TokenStream) -> TokenStream {
    map_members(item, |members| {
        let mut tokens = members.into_iter().peekable();
        let mut kept = TokenStream::new();
        while let Some(token) = tokens.next() {
            let is_helper = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '#')
                && matches!(tokens.peek(), Some(TokenTree::Group(group)) if is_helper_attribute(group));
            if is_helper {
                tokens.next();
            } else {
                kept.extend([token]);
            }
        }
        kept
    })
}

/// Whether `[path]` or `[path(..)]` is a helper attribute.
fn is_helper_attribute(attribute: &Group) -> bool {
    let path = attribute.stream().into_iter();
    let path = path.take_while(|token| !matches!(token, TokenTree::Group(_)));
    let last = path.filter_map(|token| match token {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    });
    last.last()
        .is_some_and(|name| Helper::from_name(&name).is_some())
}
