//! [`Constant`]: what names a function for its callers, with its types.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::Attribute;
use syn::spanned::Spanned as _;

use crate::paths::{Palm, at};
use crate::signature::{Answer, Signature, without_lifetimes};

/// A constant that stands for a method.
#[derive(Debug)]
pub(crate) struct Constant<'a> {
    pub(crate) palm: &'a Palm,
    /// The component's name, as an expression.
    pub(crate) server: TokenStream,
    /// The name that the function is called by.
    pub(crate) name: &'a str,
    /// The name of the constant.
    pub(crate) ident: &'a Ident,
    pub(crate) signature: &'a Signature,
    /// Documentation and deprecation.
    pub(crate) attributes: &'a [Attribute],
    /// Where there is no documentation.
    pub(crate) default_doc: Option<String>,
}

impl Constant<'_> {
    pub(crate) fn tokens(&self) -> TokenStream {
        let private = self.palm.private();
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
        quote! {
            #(#cfgs)*
            #(#[doc = #doc])*
            #(#attributes)*
            #[allow(deprecated, private_interfaces)]
            pub const #ident: #types = #private::Function::new(#server, #name);
        }
    }
}

/// What a method takes.
pub(crate) fn input(signature: &Signature) -> TokenStream {
    match &signature.argument {
        Some(ty) => without_lifetimes(ty).into_token_stream(),
        None => quote!(()),
    }
}

/// What its caller gets.
pub(crate) fn output(palm: &Palm, signature: &Signature) -> TokenStream {
    let private = palm.private();
    let ty = signature.output.ty.as_ref();
    let span = at(ty.map_or(signature.ident.span(), |ty| ty.span()));
    match &signature.output.answer {
        Answer::Nothing => quote!(#private::NoAnswer),
        Answer::Opaque => quote!(#private::Bytes),
        Answer::Of(ty) => ty.into_token_stream(),
        Answer::OfIterator(ty) => {
            quote_spanned!(span=> <#ty as ::core::iter::IntoIterator>::Item)
        }
        Answer::OfStream(ty) => {
            let private = palm.private_at(span);
            quote_spanned!(span=> <#ty as #private::Stream>::Item)
        }
    }
}

fn function_type(palm: &Palm, signature: &Signature) -> TokenStream {
    let private = palm.private();
    let (input, output) = (input(signature), output(palm, signature));
    quote!(#private::Function<#input, #output>)
}
