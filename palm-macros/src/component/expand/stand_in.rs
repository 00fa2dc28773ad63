//! The expansion of a component with mistakes: the constants and traits of a valid one, without the user's methods
//! behind them, so that code that uses the component causes no further errors.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::{builder, constants, implementation, linked, private};
use crate::component::model::{Component, Method, has_name};

/// Expands a component with mistakes, or in a build that lacks a feature for it.
pub(in crate::component) fn stand_in(
    component: &Component<'_>,
    missing_feature: Option<&str>,
) -> TokenStream {
    let private = private(component);
    let block = &component.block.tokens;
    let cfgs = &component.cfgs;
    let constants = constants(component, &methods(component));
    let name = component.name.expression(component);
    let shape = implementation(
        component,
        &quote!(#private::Shape),
        &quote! {
            const NAME: &'static ::core::primitive::str = #name;
            const EXCLUSIVE: ::core::primitive::bool = false;
        },
    );
    let callable = component.kind.is_callable().then(|| callable(component));
    let builder = missing_feature.is_none().then(|| {
        let (builder, linked) = (builder(component), linked(component));
        let kind = format_ident!("{}", component.kind.variant());
        quote! {
            const __PALM_REGISTRATION: #private::Registration =
                #private::Registration::new(#private::ComponentKind::#kind, "_", "", "", "", &[], &[]);
            #builder
            #linked
        }
    });
    quote! {
        #block
        #constants
        #(#cfgs)*
        const _: () = {
            #shape
            #callable
            #builder
        };
    }
}

/// Returns the methods whose constants do not conflict with each other or with an item of the block.
fn methods<'a>(component: &'a Component<'_>) -> Vec<&'a Method> {
    let mut names = HashSet::new();
    let methods = component.methods.iter().chain(&component.mistaken);
    methods
        .filter(|method| {
            let cfgs = &method.signature.cfgs;
            let condition = quote!(#(#cfgs)*).to_string();
            let members = &component.block.item.items;
            !members
                .iter()
                .any(|member| has_name(member, &method.constant))
                && names.insert((method.constant.to_string(), condition))
        })
        .collect()
}

fn callable(component: &Component<'_>) -> TokenStream {
    let private = private(component);
    let body = quote! {
        fn functions(_: &#private::State<Self>) -> &[#private::FunctionInfo] {
            &[]
        }

        fn find(
            _: &#private::State<Self>,
            _: &::core::primitive::str,
        ) -> ::core::option::Option<::core::primitive::usize> {
            ::core::option::Option::None
        }

        fn call(
            _: #private::Arc<#private::State<Self>>,
            _: ::core::primitive::usize,
            _: #private::Call,
        ) -> impl ::core::future::Future<Output = #private::Outcome> + ::core::marker::Send + 'static {
            ::core::future::pending()
        }
    };
    implementation(component, &quote!(#private::Callable), &body)
}
