//! `impl Shape`: the name of the component and its hooks.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::{Thread, access, call, is_exclusive, private, private_at, unwrap};
use crate::component::model::{Component, Hook};
use crate::helper::Helper;
use crate::paths::at;
use crate::signature::{Signature, Yields};

/// Returns the `impl`.
pub(super) fn implementation(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let name = component.name.expression(component);
    let exclusive = is_exclusive(component);
    let hooks = component.hooks.iter().map(|hook| match hook.helper {
        Helper::HandleStream => publication(component, hook),
        _ => split(component, hook),
    });
    let body = quote! {
        const NAME: &'static ::core::primitive::str = #name;
        const EXCLUSIVE: ::core::primitive::bool = #exclusive;
        #(#hooks)*
    };
    super::implementation(component, &quote!(#private::Shape), &body)
}

/// Returns `scatter` or `gather`, which emit messages.
fn split(component: &Component<'_>, hook: &Hook) -> TokenStream {
    let private = private(component);
    let signature = &hook.signature;
    let cfgs = &signature.cfgs;
    let flag = hook.helper.flag();
    let name = format_ident!("{}", hook.helper.name());
    let access = access(component, signature, Thread::Async);
    let call = call(component, signature, &arguments(signature));
    let call = unwrap(
        component,
        signature,
        call,
        &quote!(::core::result::Result::Err(__palm_failure)),
    );
    let span = signature
        .output
        .ty
        .as_ref()
        .map_or(signature.ident.span(), |ty| ty.span());
    let private_at_output = private_at(component, span);
    let send = match signature.output.yields {
        Yields::Stream => quote_spanned!(at(span)=> send_stream),
        Yields::One | Yields::Iterator => quote_spanned!(at(span)=> send_iterator),
    };
    let send = quote_spanned! {at(span)=>
        #private_at_output::check::#send(__palm_emit, __palm_result).await;
    };
    quote! {
        #(#cfgs)*
        const #flag: ::core::primitive::bool = true;
        #(#cfgs)*
        fn #name(
            __palm_state: &#private::State<Self>,
            __palm_message: #private::Message,
            __palm_context: #private::Context,
            __palm_emit: &mut #private::Emit<'_>,
        ) -> impl ::core::future::Future<
            Output = ::core::result::Result<(), #private::CallFailure>,
        > + ::core::marker::Send {
            async move {
                #access
                #call
                #send
                ::core::result::Result::Ok(())
            }
        }
    }
}

/// Returns `handle_stream`, which returns a topic and a message.
fn publication(component: &Component<'_>, hook: &Hook) -> TokenStream {
    let private = private(component);
    let signature = &hook.signature;
    let cfgs = &signature.cfgs;
    let flag = hook.helper.flag();
    let access = access(component, signature, Thread::Async);
    let call = call(component, signature, &arguments(signature));
    let ty = &signature.output.ty;
    let span = at(ty.as_ref().map_or(signature.ident.span(), |ty| ty.span()));
    let private_at_output = private_at(component, span);
    let publication = if signature.output.is_opaque {
        quote_spanned!(span=> #private_at_output::IntoPublication::into_publication(__palm_result))
    } else {
        quote_spanned!(span=> <#ty as #private_at_output::IntoPublication>::into_publication(__palm_result))
    };
    quote! {
        #(#cfgs)*
        const #flag: ::core::primitive::bool = true;
        #(#cfgs)*
        fn handle_stream(
            __palm_state: &#private::State<Self>,
            __palm_message: #private::Message,
            __palm_context: #private::Context,
        ) -> impl ::core::future::Future<
            Output = ::core::result::Result<
                (#private::ByteString, #private::Message),
                #private::CallFailure,
            >,
        > + ::core::marker::Send {
            async move {
                #access
                #call
                #publication
            }
        }
    }
}

/// Returns the arguments of a hook: the message and, if the hook takes it, the context.
fn arguments(signature: &Signature) -> Vec<TokenStream> {
    let message = signature
        .argument
        .iter()
        .map(|ty| quote_spanned!(at(ty.span())=> __palm_message));
    let context = signature
        .context
        .iter()
        .map(|ty| quote_spanned!(at(ty.span())=> __palm_context));
    message.chain(context).collect()
}
