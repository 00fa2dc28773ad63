//! Collects mistakes, so that the user sees all of them in one build, and puts the user's item
//! beside them, so that its uses add no "cannot find" errors.

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
    /// A mistake in `tokens`.
    pub(crate) fn push(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.push_error(Error::new_spanned(tokens, message));
    }

    /// A mistake at `span`.
    pub(crate) fn push_at(&mut self, span: Span, message: impl Display) {
        self.push_error(Error::new(span, message));
    }

    /// A mistake that syn found.
    pub(crate) fn push_error(&mut self, error: Error) {
        match &mut self.errors {
            Some(errors) => errors.combine(error),
            None => self.errors = Some(error),
        }
    }

    /// What came of it: `value` if there was no mistake.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T> {
        match (self.errors, value) {
            (Some(errors), _) => Err(errors),
            (None, Some(value)) => Ok(value),
            (None, None) => panic!("bug in palm-macros: no value, and no mistake that says why"),
        }
    }
}

/// The user's item with the mistakes in it.
pub(crate) fn item_with_errors(item: impl ToTokens, errors: &Error) -> TokenStream {
    let mut tokens = item.into_token_stream();
    tokens.extend(errors.to_compile_error());
    tokens
}
