//! `impl Callable`: the list of functions and the dispatch by name.
//!
//! A method may depend on `cfg`s, which only rustc evaluates, so the macro cannot number the methods. The variants
//! of an enum, in the order of the list, do so.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::{Thread, access, call, failure, private, private_at, unwrap};
use crate::component::model::{Component, Method};
use crate::paths::at;
use crate::signature::{Access, Yields};
use crate::text;

/// Returns `__PALM_FUNCTIONS`.
///
/// The list is outside of the `impl`, because the registration has no type parameters.
pub(super) fn function_list(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let functions = component.methods.iter().map(|method| {
        let Method {
            signature,
            name,
            doc,
            ..
        } = method;
        let cfgs = &signature.cfgs;
        let input = signature
            .argument
            .as_ref()
            .map(text::source)
            .unwrap_or_default();
        let output = signature
            .output
            .ty
            .as_ref()
            .map_or("()".to_owned(), text::source);
        let receiver = match signature.access {
            Access::Shared => format_ident!("Shared"),
            Access::Exclusive => format_ident!("Exclusive"),
        };
        let results = match signature.output.yields {
            Yields::One => format_ident!("One"),
            Yields::Iterator | Yields::Stream => format_ident!("Many"),
        };
        let takes_context = signature.context.is_some();
        let at_most_once = method.at_most_once.then(|| quote!(.at_most_once()));
        let max_runtime = method
            .max_runtime_ms
            .map(|milliseconds| quote!(.max_runtime_ms(#milliseconds)));
        quote! {
            #(#cfgs)*
            #private::FunctionInfo::new(
                #name,
                #doc,
                (#input, #output),
                #private::Receiver::#receiver,
                #private::Results::#results,
                #takes_context,
            )#at_most_once #max_runtime
        }
    });
    quote! {
        const __PALM_FUNCTIONS: &[#private::FunctionInfo] = &[#(#functions),*];
    }
}

/// Returns the enum of functions and the `impl`.
pub(super) fn implementation(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let indices = indices(component);
    let names = component.methods.iter().map(|method| {
        let cfgs = &method.signature.cfgs;
        let ident = &method.signature.ident;
        let name = &method.name;
        quote! {
            #(#cfgs)*
            #name => ::core::option::Option::Some(__PalmFunction::#ident as ::core::primitive::usize),
        }
    });
    let arms = component.methods.iter().map(|method| {
        let cfgs = &method.signature.cfgs;
        let ident = &method.signature.ident;
        let arm = arm(component, method);
        let allow = method.is_deprecated().then(|| quote!(#[allow(deprecated)]));
        quote! {
            #(#cfgs)*
            #allow
            _ if __palm_index == __PalmFunction::#ident as ::core::primitive::usize => { #arm }
        }
    });
    let body = quote! {
        fn functions(_: &#private::State<Self>) -> &[#private::FunctionInfo] {
            __PALM_FUNCTIONS
        }

        fn find(
            _: &#private::State<Self>,
            __palm_name: &::core::primitive::str,
        ) -> ::core::option::Option<::core::primitive::usize> {
            match __palm_name {
                #(#names)*
                _ => ::core::option::Option::None,
            }
        }

        fn call(
            __palm_state: #private::Arc<#private::State<Self>>,
            __palm_index: ::core::primitive::usize,
            mut __palm_call: #private::Call,
        ) -> impl ::core::future::Future<Output = #private::Outcome> + ::core::marker::Send + 'static {
            async move {
                match __palm_index {
                    #(#arms)*
                    _ => ::core::unreachable!("a function that `find` does not know is called"),
                }
            }
        }
    };
    let callable = super::implementation(component, &quote!(#private::Callable), &body);
    quote! {
        #indices
        #callable
    }
}

/// Returns `__PalmFunction`, whose variants are the indices of the functions in the list.
fn indices(component: &Component<'_>) -> TokenStream {
    let variants = component.methods.iter().map(|method| {
        let cfgs = &method.signature.cfgs;
        let ident = &method.signature.ident;
        quote!(#(#cfgs)* #ident)
    });
    // Without methods the enum is empty and could not be cast, but then there is no cast either.
    quote! {
        #[allow(non_camel_case_types)]
        enum __PalmFunction { #(#variants),* }
    }
}

/// Returns the arm of `method` in `call`.
fn arm(component: &Component<'_>, method: &Method) -> TokenStream {
    let private = private(component);
    if method.blocking {
        let body = body(component, method, Thread::MayBlock);
        quote! {
            #private::blocking(move || { #body }).await
        }
    } else {
        body(component, method, Thread::Async)
    }
}

/// Returns the code that decodes the argument, calls the method and converts its result to an outcome.
///
/// The argument is decoded before the component is locked. The component stays locked until every result has been
/// emitted, since results may borrow from it.
fn body(component: &Component<'_>, method: &Method, thread: Thread) -> TokenStream {
    let private = private(component);
    let signature = &method.signature;
    let argument = signature.argument.as_ref().map(|ty| {
        let private = private_at(component, ty.span());
        let argument =
            quote_spanned!(at(ty.span())=> #private::check::argument::<#ty>(&mut __palm_call));
        quote! {
            let __palm_argument = match #argument {
                ::core::result::Result::Ok(__palm_argument) => __palm_argument,
                ::core::result::Result::Err(__palm_outcome) => return __palm_outcome,
            };
        }
    });
    let context = signature
        .context
        .as_ref()
        .map(|_| quote!(let __palm_context = #private::Call::context(&mut __palm_call);));
    let arguments: Vec<TokenStream> = argument
        .iter()
        .map(|_| quote!(__palm_argument))
        .chain(
            signature
                .context
                .iter()
                .map(|ty| quote_spanned!(at(ty.span())=> __palm_context)),
        )
        .collect();
    let access = access(component, signature, thread);
    let call = call(component, signature, &arguments);
    let call = unwrap(
        component,
        signature,
        call,
        &quote!(#private::Outcome::Failed(__palm_failure)),
    );
    let outcome = outcome(component, method, thread);
    quote! {
        #argument
        #context
        #access
        #call
        let __palm_outcome = #outcome;
        __palm_outcome
    }
}

/// Returns the expression that converts `__palm_result` to an outcome.
fn outcome(component: &Component<'_>, method: &Method, thread: Thread) -> TokenStream {
    let output = &method.signature.output;
    let Some(ty) = &output.ty else {
        let private = private(component);
        return quote!(#private::IntoOutcome::into_outcome(__palm_result));
    };
    let span = at(ty.span());
    let private = private_at(component, span);
    let failure = failure(component, span);
    // A `Result` is matched here, where the type of its error is known. The trait `IntoOutcome` converts
    // everything else.
    let outcome = |value: TokenStream| {
        quote_spanned! {span=>
            match #value {
                ::core::result::Result::Ok(__palm_value) => #private::IntoOutcome::into_outcome(__palm_value),
                ::core::result::Result::Err(__palm_error) => #private::Outcome::Failed(#failure),
            }
        }
    };
    if output.yields == Yields::One {
        return if output.gives_results {
            outcome(quote_spanned!(span=> __palm_result))
        } else if output.is_opaque {
            quote_spanned!(span=> #private::IntoOutcome::into_outcome(__palm_result))
        } else {
            quote_spanned!(span=> <#ty as #private::IntoOutcome>::into_outcome(__palm_result))
        };
    }
    let results = if output.gives_results {
        let outcome = outcome(quote_spanned!(span=> __palm_item));
        let map = match output.yields {
            Yields::Stream => quote_spanned!(span=> map_stream),
            Yields::One | Yields::Iterator => quote_spanned!(span=> map_iterator),
        };
        quote_spanned!(span=> #private::check::#map(__palm_result, |__palm_item| #outcome))
    } else {
        quote_spanned!(span=> __palm_result)
    };
    match (output.yields, thread) {
        // The model rejects a stream from a blocking method.
        (Yields::Stream, _) => {
            quote_spanned!(span=> #private::check::emit_stream(&mut __palm_call, #results).await)
        }
        (_, Thread::Async) => {
            quote_spanned!(span=> #private::check::emit_iterator(&mut __palm_call, #results).await)
        }
        (_, Thread::MayBlock) => {
            quote_spanned!(span=> #private::check::blocking_emit(&mut __palm_call, #results))
        }
    }
}
