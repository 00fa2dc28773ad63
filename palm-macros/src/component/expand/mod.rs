//! The expansion: a total function of the model, one function per generated item.
//!
//! Expanded code names only items of `::palm::__private` and `::core`, and identifiers of its own begin with
//! `__palm`, so that nothing in the user's module interferes. An expression that may not fit the user's types has
//! the span of these types, so that rustc reports it there.

mod callable;
mod shape;
mod stand_in;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;

pub(super) use self::stand_in::stand_in;
use super::model::{Component, Method, Name};
use crate::constant::Constant;
use crate::helper::Helper;
use crate::paths::at;
use crate::signature::{Access, Signature, without_lifetimes};
use crate::syntax::find_ident;
use crate::text;

/// Expands a valid component: the user's block, followed by the generated implementations.
pub(super) fn component(component: &Component<'_>) -> TokenStream {
    let block = &component.block.tokens;
    let cfgs = &component.cfgs;
    let constants = constants(component, &component.methods.iter().collect::<Vec<_>>());
    let functions = callable::function_list(component);
    let shape = shape::implementation(component);
    let callable = component
        .kind
        .is_callable()
        .then(|| callable::implementation(component));
    let builder = builder(component);
    let check = check(component);
    let registration = registration(component);
    let linked = linked(component);
    quote! {
        #block
        #constants
        #(#cfgs)*
        const _: () = {
            #functions
            #shape
            #callable
            #builder
            #check
            #registration
            #linked
        };
    }
}

fn private(component: &Component<'_>) -> TokenStream {
    component.palm.private()
}

fn private_at(component: &Component<'_>, span: Span) -> TokenStream {
    component.palm.private_at(span)
}

/// Returns `impl #path for` the user's type.
///
/// The bounds of a component are conditions of each `impl`. Otherwise every `impl` and every future in it would
/// report a type that does not meet them; [`check`] reports such a type once.
fn implementation(
    component: &Component<'_>,
    path: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let item = &component.block.item;
    let self_ty = match find_ident(item.self_ty.to_token_stream(), "_") {
        // A condition cannot have an anonymous lifetime. The model rejects it; this is for stand-ins.
        Some(_) => &without_lifetimes(&item.self_ty),
        None => &*item.self_ty,
    };
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

/// Returns a check that a generic type can be a component for all type arguments.
///
/// Rustc checks a type without parameters by the condition of each `impl`.
fn check(component: &Component<'_>) -> Option<TokenStream> {
    let item = &component.block.item;
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

/// Returns the constants that stand for `methods`.
fn constants(component: &Component<'_>, methods: &[&Method]) -> Option<TokenStream> {
    if methods.is_empty() {
        return None;
    }
    let cfgs = &component.cfgs;
    let item = &component.block.item;
    let (generics, _, where_clause) = item.generics.split_for_impl();
    let self_ty = &item.self_ty;
    let constants = methods.iter().map(|method| {
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

/// Returns the `impl` of `Bind`, `Connect` or `IntoHttpWorker`, which starts the component.
fn builder(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let (start, builder) = component.kind.builder();
    let start = format_ident!("{start}");
    let builder = builder.map(|builder| {
        let builder = format_ident!("{builder}");
        quote!(type Builder = #private::#builder<Self>;)
    });
    implementation(component, &quote!(#private::#start), &quote!(#builder))
}

/// Returns the entry in the list of components that are linked into the program.
fn registration(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let kind = format_ident!("{}", component.kind.variant());
    let name = component.name.in_registration(component);
    let self_ty = &component.block.item.self_ty;
    let type_name = text::source(self_ty);
    let doc = text::first_doc_line(&component.block.item.attrs);
    let hooks = component.hooks.iter().map(|hook| {
        let cfgs = &hook.signature.cfgs;
        let name = hook.helper.name();
        quote!(#(#cfgs)* #name)
    });
    // The arguments of a generic type are not known here.
    let is_generic = !component.block.item.generics.params.is_empty();
    let starter = (!is_generic).then(|| {
        quote! {
            .starter({
                #[allow(unused_imports)]
                use #private::NotDefault as _;
                #private::StarterOf::<#self_ty>::STARTER
            })
        }
    });
    quote! {
        const __PALM_HOOKS: &[&::core::primitive::str] = &[#(#hooks),*];
        const __PALM_REGISTRATION: #private::Registration = #private::Registration::new(
            #private::ComponentKind::#kind,
            #name,
            #type_name,
            ::core::module_path!(),
            #doc,
            __PALM_FUNCTIONS,
            __PALM_HOOKS,
        )
        #starter;
        #private::inventory::submit! { __PALM_REGISTRATION }
    }
}

/// Returns the `impl` of `Linked`, by which `palm::main!` finds the `__PALM_REGISTRATION` of a type.
fn linked(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let builder = format_ident!("{}", component.kind.program_builder());
    let body = quote! {
        type Builder = #private::#builder<Self>;
        const REGISTRATION: &'static #private::Registration = &__PALM_REGISTRATION;
    };
    implementation(component, &quote!(#private::Linked), &body)
}

/// Returns `let __palm_this = ..;`, the component as the method takes it.
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

/// The thread that a method runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    Async,
    MayBlock,
}

/// Returns `let __palm_result = ..;`, the call of the user's method with `arguments`.
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

/// Returns `call` with the iterator or stream in `__palm_result` taken out of its `Result`.
///
/// On an error the expansion returns `or_return`, which may name the `__palm_failure`.
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

/// Returns the expression that turns `__palm_error`, of any error type, into a failure.
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

/// Returns an expression: whether a method or a hook takes `&mut self`.
fn is_exclusive(component: &Component<'_>) -> TokenStream {
    let exclusive = || {
        let methods = component.methods.iter().map(|method| &method.signature);
        let hooks = component.hooks.iter().map(|hook| &hook.signature);
        methods
            .chain(hooks)
            .filter(|signature| signature.access == Access::Exclusive)
    };
    if exclusive().all(|signature| !signature.cfgs.is_empty()) && exclusive().next().is_some() {
        // This depends on `cfg`s, which only rustc evaluates.
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
    /// The constant of the runtime's `Shape` that states that the hook is overridden.
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
    /// Returns the name as an expression.
    fn expression(&self, component: &Component<'_>) -> TokenStream {
        match self {
            Self::Literal(name) => name.into_token_stream(),
            Self::FromInterface => {
                let (interface, self_ty) = (&component.interface, &component.block.item.self_ty);
                quote!(<#self_ty as #interface>::__PALM_NAME)
            }
        }
    }

    /// Returns the name as an expression outside of the block, where its type parameters do not exist.
    fn in_registration(&self, component: &Component<'_>) -> TokenStream {
        match self {
            Self::FromInterface if !component.block.item.generics.params.is_empty() => quote!("_"),
            _ => self.expression(component),
        }
    }

    /// Returns the name for documentation.
    fn text(&self) -> String {
        match self {
            Self::Literal(name) => name.value(),
            Self::FromInterface => "_".to_owned(),
        }
    }
}
