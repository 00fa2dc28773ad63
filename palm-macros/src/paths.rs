//! Paths and spans of expanded code.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Path;

/// The path of the crate `palm` in the user's code: the option `crate`, or `::palm`.
#[derive(Debug)]
pub(crate) struct PalmPath(pub(crate) Option<Path>);

impl PalmPath {
    /// Returns the path of the module with everything that expansions name.
    pub(crate) fn private(&self) -> TokenStream {
        match &self.0 {
            Some(palm) => quote!(#palm::__private),
            None => quote!(::palm::__private),
        }
    }

    /// Returns [`private`](Self::private) for an expression that rustc reports at `span`.
    ///
    /// Every token is located there: if one were elsewhere, rustc would underline everything in between.
    pub(crate) fn private_at(&self, span: Span) -> TokenStream {
        let relocated = self.private().into_iter().map(|mut token| {
            token.set_span(token.span().located_at(span));
            token
        });
        relocated.collect()
    }

    /// Whether `path` is an item of palm, as in `palm::method`.
    pub(crate) fn is_parent_of(&self, path: &Path) -> bool {
        let parent = path.segments.iter().rev().skip(1);
        let parent = parent.map(|segment| segment.ident.to_string());
        match &self.0 {
            Some(palm) => {
                let palm = palm.segments.iter().rev();
                parent.eq(palm.map(|segment| segment.ident.to_string()))
            }
            None => parent.eq(["palm".to_owned()]),
        }
    }
}

/// A span that errors are reported at, with names still resolved as those of the macro.
pub(crate) fn at(span: Span) -> Span {
    Span::call_site().located_at(span)
}
