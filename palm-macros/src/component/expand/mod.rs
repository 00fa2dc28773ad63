//! The answer: a total function of the model, one function per item that it produces.
//!
//! Everything that is named here is in `::palm::__private` or `::core`, and what we call into being
//! begins with `__palm`, so that nothing the user's module contains gets in the way. Code that may
//! not fit the user's types is spanned at them, so that rustc points there.

mod callable;
mod shape;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;

use super::model::{Component, Method, Name};
use crate::constant::Constant;
use crate::helper::Helper;
use crate::paths::at;
use crate::signature::{Access, Signature};
use crate::text;

/// The user's block, and what makes a component of it.
pub(super) fn tokens(component: &Component<'_>) -> TokenStream {
    let item = component.item;
    let cfgs = &component.cfgs;
    let constants = constants(component);
    let functions = callable::function_list(component);
    let shape = shape::implementation(component);
    let callable = component
        .kind
        .is_callable()
        .then(|| callable::implementation(component));
    let builder = builder(component);
    let check = check(component);
    let registration = registration(component);
    quote! {
        #item
        #constants
        #(#cfgs)*
        const _: () = {
            #functions
            #shape
            #callable
            #builder
            #check
            #registration
        };
    }
}

fn private(component: &Component<'_>) -> TokenStream {
    component.palm.private()
}

fn private_at(component: &Component<'_>, span: Span) -> TokenStream {
    component.palm.private_at(span)
}

/// `impl #path for` the user's type.
///
/// What a component must be is a condition here, since a type that is not would otherwise be
/// reported by each `impl` and by each future in it. [`check`] reports it once.
fn implementation(
    component: &Component<'_>,
    path: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let item = component.item;
    let self_ty = &item.self_ty;
    let mut generics = item.generics.clone();
    let condition = quote_spanned! {at(self_ty.span())=>
        #self_ty: ::core::marker::Send + ::core::marker::Sync + 'static
    };
    let condition = syn::parse2(condition).expect("bug in palm-macros: a predicate");
    generics.make_where_clause().predicates.push(condition);
    let (generics, _, where_clause) = generics.split_for_impl();
    quote! {
        #[automatically_derived]
        impl #generics #path for #self_ty #where_clause {
            #body
        }
    }
}

/// Checks, for all types that the parameters stand for, that the user's type can be a component.
/// Without parameters, the condition of each `impl` is the check.
fn check(component: &Component<'_>) -> Option<TokenStream> {
    let item = component.item;
    let (generics, _, where_clause) = item.generics.split_for_impl();
    let self_ty = &item.self_ty;
    let span = at(self_ty.span());
    let private = private_at(component, span);
    let check = quote_spanned!(span=> #private::check::component::<#self_ty>());
    (!item.generics.params.is_empty()).then(|| {
        quote! {
            #[allow(dead_code)]
            fn __palm_check #generics() #where_clause {
                #check
            }
        }
    })
}

/// One constant per method, by which clients name it.
fn constants(component: &Component<'_>) -> Option<TokenStream> {
    if component.methods.is_empty() {
        return None;
    }
    let cfgs = &component.cfgs;
    let item = component.item;
    let (generics, _, where_clause) = item.generics.split_for_impl();
    let self_ty = &item.self_ty;
    let constants = component.methods.iter().map(|method| {
        let Method {
            signature,
            name,
            constant,
            attributes,
            doc,
            ..
        } = method;
        let constant = Constant {
            palm: &component.palm,
            server: component.name.expression(component),
            name,
            ident: constant,
            signature,
            attributes,
            default_doc: doc
                .is_empty()
                .then(|| format!(" The function `{}.{name}`.", component.name.text())),
        };
        constant.tokens()
    });
    Some(quote! {
        #(#cfgs)*
        impl #generics #self_ty #where_clause {
            #(#constants)*
        }
    })
}

/// `Bind`, `Connect` or `IntoHttpWorker`: the way to use it.
fn builder(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let (way, builder) = component.kind.builder();
    let way = format_ident!("{way}");
    let builder = builder.map(|builder| {
        let builder = format_ident!("{builder}");
        quote!(type Builder = #private::#builder<Self>;)
    });
    implementation(component, &quote!(#private::#way), &quote!(#builder))
}

/// The entry in the list of what is linked into the program.
fn registration(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let kind = format_ident!("{}", component.kind.variant());
    let name = component.name.of_registration(component);
    let self_ty = text::of(&component.item.self_ty);
    let doc = text::first_doc_line(&component.item.attrs);
    let hooks = component.hooks.iter().map(|hook| {
        let cfgs = &hook.signature.cfgs;
        let name = hook.helper.name();
        quote!(#(#cfgs)* #name)
    });
    quote! {
        const __PALM_HOOKS: &[&::core::primitive::str] = &[#(#hooks),*];
        #private::inventory::submit! {
            #private::Registration::new(
                #private::ComponentKind::#kind,
                #name,
                #self_ty,
                ::core::module_path!(),
                #doc,
                __PALM_FUNCTIONS,
                __PALM_HOOKS,
            )
        }
    }
}

/// `let __palm_this = ..;`: the component, as a method takes it.
fn access(component: &Component<'_>, signature: &Signature, thread: Thread) -> TokenStream {
    let private = private(component);
    match (thread, signature.access) {
        (Thread::Async, Access::Shared) => quote! {
            let __palm_this = #private::State::shared(&*__palm_state).await;
        },
        (Thread::Async, Access::Exclusive) => quote! {
            let mut __palm_this = #private::State::exclusive(&*__palm_state).await;
        },
        (Thread::MayBlock, Access::Shared) => quote! {
            let __palm_this = #private::State::blocking_shared(&*__palm_state);
        },
        (Thread::MayBlock, Access::Exclusive) => quote! {
            let mut __palm_this = #private::State::blocking_exclusive(&*__palm_state);
        },
    }
}

/// Where a method runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    Async,
    MayBlock,
}

/// `let __palm_result = ..;`: the call of the user's method, with `arguments`.
fn call(
    component: &Component<'_>,
    signature: &Signature,
    arguments: &[TokenStream],
) -> TokenStream {
    let ident = &signature.ident;
    let span = at(ident.span());
    let private = private_at(component, span);
    let this = match signature.access {
        Access::Shared => quote!(&*__palm_this),
        Access::Exclusive => quote!(&mut *__palm_this),
    };
    // `Self::` finds the user's method before any trait's of the same name.
    let this_type = match &component.interface {
        Some(interface) => quote_spanned!(span=> <Self as #interface>),
        None => quote_spanned!(span=> Self),
    };
    let call = quote_spanned!(span=> #this_type::#ident(#this #(, #arguments)*));
    let call = if signature.is_async {
        quote_spanned!(span=> #private::check::future(#call).await)
    } else {
        call
    };
    quote!(let __palm_result = #call;)
}

/// `let __palm_result = ..;` by `call`, out of its `Result` if the iterator or the stream is in one;
/// `or_return` says what is returned for the `__palm_failure`.
fn unwrap(
    component: &Component<'_>,
    signature: &Signature,
    call: TokenStream,
    or_return: &TokenStream,
) -> TokenStream {
    let Some(ty) = signature
        .output
        .ty
        .as_ref()
        .filter(|_| signature.output.is_fallible)
    else {
        return call;
    };
    let failure = failure(component, at(ty.span()));
    // The `Result` ends with the block: its error need not be `Send`.
    quote! {
        let __palm_result = {
            #call
            match __palm_result {
                ::core::result::Result::Ok(__palm_result) => __palm_result,
                ::core::result::Result::Err(__palm_error) => {
                    let __palm_failure = #failure;
                    return #or_return;
                }
            }
        };
    }
}

/// The failure that `__palm_error` means, whatever type it has, as an expression.
fn failure(component: &Component<'_>, span: Span) -> TokenStream {
    let private = private(component);
    let failure = quote_spanned!(span=> __palm_kind.failure(__palm_error));
    quote!({
        #[allow(unused_imports)]
        use #private::check::{DisplayedKind as _, PalmKind as _};
        let __palm_kind = (&#private::check::ErrorKind::of(&__palm_error)).kind();
        #failure
    })
}

/// Whether a method or a hook takes `&mut self`, as an expression.
fn is_exclusive(component: &Component<'_>) -> TokenStream {
    let exclusive = || {
        let methods = component.methods.iter().map(|method| &method.signature);
        let hooks = component.hooks.iter().map(|hook| &hook.signature);
        methods
            .chain(hooks)
            .filter(|signature| signature.access == Access::Exclusive)
    };
    if exclusive().all(|signature| !signature.cfgs.is_empty()) && exclusive().next().is_some() {
        // It depends on conditions that only rustc knows.
        let conditions = exclusive().map(|signature| {
            let cfgs = &signature.cfgs;
            quote!(#(#cfgs)* true)
        });
        quote!({
            const __PALM_EXCLUSIVE: &[::core::primitive::bool] = &[#(#conditions),*];
            !__PALM_EXCLUSIVE.is_empty()
        })
    } else if exclusive().next().is_some() {
        quote!(true)
    } else {
        quote!(false)
    }
}

impl Helper {
    /// The constant of the runtime's `Shape` that says that a hook is overridden.
    fn flag(self) -> Ident {
        match self {
            Self::Scatter => format_ident!("SCATTERS"),
            Self::Gather => format_ident!("GATHERS"),
            Self::HandleStream => format_ident!("HANDLES_STREAM"),
            Self::Method => panic!("bug in palm-macros: a method among the hooks"),
        }
    }
}

impl Name {
    /// As an expression, where `Self` is the component.
    fn expression(&self, component: &Component<'_>) -> TokenStream {
        match self {
            Self::Literal(name) => name.into_token_stream(),
            Self::OfInterface => {
                let (interface, self_ty) = (&component.interface, &component.item.self_ty);
                quote!(<#self_ty as #interface>::__PALM_NAME)
            }
        }
    }

    /// As an expression outside of the block, which knows no type parameters.
    fn of_registration(&self, component: &Component<'_>) -> TokenStream {
        match self {
            Self::OfInterface if !component.item.generics.params.is_empty() => quote!("_"),
            _ => self.expression(component),
        }
    }

    /// For documentation.
    fn text(&self) -> String {
        match self {
            Self::Literal(name) => name.value(),
            Self::OfInterface => "_".to_owned(),
        }
    }
}
