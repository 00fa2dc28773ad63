//! Where the expansions find what they name.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Path;

/// The crate `palm`, as the user imports it.
#[derive(Debug)]
pub(crate) struct Palm(pub(crate) Option<Path>);

impl Palm {
    /// `::palm::__private`, or where the user says that it is.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.0 {
            Some(palm) => quote!(#palm::__private),
            None => quote!(::palm::__private),
        }
    }

    /// [`private`](Self::private), for an expression that is reported at `span`: one token elsewhere, and
    /// rustc would underline everything between.
    pub(crate) fn private_at(&self, span: Span) -> TokenStream {
        let relocated = self.private().into_iter().map(|mut token| {
            token.set_span(token.span().located_at(span));
            token
        });
        relocated.collect()
    }
}

/// A place to report errors at. Names that are resolved there are still ours.
pub(crate) fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}
