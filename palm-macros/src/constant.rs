//! [`Constant`]: the constant by which callers name a function, with the types of its argument and answer.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::Attribute;

use crate::paths::{PalmPath, at};
use crate::signature::{Answer, Signature, without_lifetimes};

/// The constant of a method or of a function of an interface.
#[derive(Debug)]
pub(crate) struct Constant<'a> {
    pub(crate) palm: &'a PalmPath,
    /// The component's name, an expression.
    pub(crate) server: TokenStream,
    /// The name that clients call the function by.
    pub(crate) name: &'a str,
    /// The constant itself.
    pub(crate) ident: &'a Ident,
    pub(crate) signature: &'a Signature,
    /// Documentation and deprecation, copied from the method.
    pub(crate) attributes: &'a [Attribute],
    /// The documentation of a method without any.
    pub(crate) default_doc: Option<String>,
}

impl Constant<'_> {
    /// Expands to the constant, an associated item.
    pub(crate) fn tokens(&self) -> TokenStream {
        let Self {
            server,
            name,
            attributes,
            ..
        } = self;
        let cfgs = &self.signature.cfgs;
        let ident = Ident::new(&self.ident.to_string(), at(self.ident.span()));
        let doc = self.default_doc.iter();
        let types = function_type(self.palm, self.signature);
        // Rustc reports a return type that does not fit once if the value has the span of the type.
        let span = self.signature.output.span(&self.signature.ident);
        let private = self.palm.private_at(span);
        let value = quote_spanned!(span=> #private::Function::new(#server, #name));
        quote! {
            #(#cfgs)*
            #(#[doc = #doc])*
            #(#attributes)*
            #[allow(deprecated, private_interfaces)]
            pub const #ident: #types = #value;
        }
    }
}

/// Returns the type that a method takes, `()` if it takes nothing.
pub(crate) fn input(palm: &PalmPath, signature: &Signature) -> TokenStream {
    match &signature.argument {
        _ if signature.has_open_types => {
            let private = palm.private();
            quote!(#private::Untyped)
        }
        Some(ty) => without_lifetimes(ty).into_token_stream(),
        None => quote!(()),
    }
}

/// Returns the type that a caller receives.
pub(crate) fn output(palm: &PalmPath, signature: &Signature) -> TokenStream {
    let private = palm.private();
    let span = signature.output.span(&signature.ident);
    match &signature.output.answer {
        _ if signature.has_open_types => quote!(#private::Bytes),
        Answer::None => quote!(#private::NoAnswer),
        Answer::Opaque => quote!(#private::Bytes),
        Answer::Type(ty) => ty.into_token_stream(),
        Answer::ItemOfIterator(ty) => {
            quote_spanned!(span=> <#ty as ::core::iter::IntoIterator>::Item)
        }
        Answer::ItemOfStream(ty) => {
            let private = palm.private_at(span);
            quote_spanned!(span=> <#ty as #private::Stream>::Item)
        }
    }
}

fn function_type(palm: &PalmPath, signature: &Signature) -> TokenStream {
    let private = palm.private();
    let (input, output) = (input(palm, signature), output(palm, signature));
    quote!(#private::Function<#input, #output>)
}
