//! [`Diagnostics`]: collects mistakes, so that one build reports all of them.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{Error, Result};

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    errors: Option<Error>,
}

impl Diagnostics {
    /// Adds a mistake in `tokens`.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push_error(Error::new_spanned(tokens, message));
    }

    /// Adds a mistake at `span`.
    pub(crate) fn push_at(&mut self, span: Span, message: impl Display) {
        self.push_error(Error::new(span, message));
    }

    /// Adds the mistakes of `error`.
    pub(crate) fn push_error(&mut self, error: Error) {
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            None => self.errors = Some(error),
        }
    }

    /// Returns an error with all mistakes, if there are any.
    pub(crate) fn finish(self) -> Result<()> {
        self.errors.map_or(Ok(()), Err)
    }
}

/// Returns `items` followed by the mistakes of `errors`.
pub(crate) fn with_errors(items: impl ToTokens, errors: &Error) -> TokenStream {
    let mut tokens = items.into_token_stream();
    tokens.extend(errors.to_compile_error());
    tokens
}
