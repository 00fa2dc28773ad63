//! The attributes of methods: `#[palm::method]`, `#[palm::scatter]`, `#[palm::gather]` and
//! `#[palm::handle_stream]`.
//!
//! They are read, and taken away, by the attribute of the `impl` block around them. So one that is
//! expanded on its own is out of its place, and says where that is.

#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use syn::{Attribute, Error};

use crate::diagnostics::item_with_errors;

/// Which attribute it is.
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

    /// Recognises an attribute of ours, whatever name the crate is imported by.
    pub(crate) fn of(attribute: &Attribute) -> Option<Self> {
        let last = attribute.path().segments.last()?;
        Self::ALL
            .into_iter()
            .find(|helper| last.ident == helper.name())
    }

    /// The attributes of `impl` blocks that it belongs under, as a phrase.
    pub(crate) fn place(self) -> &'static str {
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

/// The answer to a helper attribute outside of its place.
pub(crate) fn expand(helper: Helper, item: TokenStream) -> TokenStream {
    let message = format!(
        "`#[palm::{}]` belongs on a method in an `impl` block under {}",
        helper.name(),
        helper.place()
    );
    item_with_errors(item, &Error::new(Span::call_site(), message))
}
