//! `palm::main!`: the `main` function of a program whose components are its subcommands.

#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, Path, Result, Token, Type};

use crate::diagnostics::Diagnostics;
use crate::paths::PalmPath;
use crate::text;

/// A component, and the function that constructs it: `Resizer => Resizer::open`.
struct Constructor {
    component: Type,
    constructor: Expr,
}

impl Parse for Constructor {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let component: Type = input.parse()?;
        if !input.peek(Token![=>]) {
            let shown = text::source(&component);
            let message = format!(
                "expected `{shown} => <constructor>`, such as `{shown} => {shown}::open`; a component that implements \
                 `Default` is not listed"
            );
            let span = match input.is_empty() {
                true => component.span(),
                false => input.span(),
            };
            return Err(Error::new(span, message));
        }
        input.parse::<Token![=>]>()?;
        let constructor = input.parse()?;
        Ok(Self {
            component,
            constructor,
        })
    }
}

/// Expands `$crate; Resizer => Resizer::open, Cropper => Cropper::new`.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let parser = |input: ParseStream<'_>| {
        let palm = PalmPath(Some(input.call(Path::parse_mod_style)?));
        input.parse::<Token![;]>()?;
        let constructors = Punctuated::<Constructor, Token![,]>::parse_terminated(input)?;
        check_unique(&constructors)?;
        Ok(program(&palm, &constructors))
    };
    parser.parse2(input).unwrap_or_else(|error| {
        let errors = error.to_compile_error();
        // Without a `main` function rustc would report that it is missing.
        quote!(fn main() { #errors })
    })
}

/// Checks that no component has two constructors.
fn check_unique(constructors: &Punctuated<Constructor, Token![,]>) -> Result<()> {
    let mut diagnostics = Diagnostics::default();
    let mut seen = Vec::new();
    for Constructor { component, .. } in constructors {
        let name = text::source(component);
        if seen.contains(&name) {
            let message = format!("`{name}` already has a constructor: remove one of the two");
            diagnostics.push(component, message);
        }
        seen.push(name);
    }
    diagnostics.finish()
}

fn program(palm: &PalmPath, constructors: &Punctuated<Constructor, Token![,]>) -> TokenStream {
    let private = palm.private();
    let components = constructors.iter().map(
        |Constructor {
             component,
             constructor,
         }| {
            // Rustc reports a constructor that does not fit at the path of the function, if the span is that of the
            // user.
            let span = constructor.span();
            let private = palm.private_at(span);
            let constructed = quote_spanned! {span=>
                #private::program::constructed::<#component, _, _>(#constructor)
            };
            quote!(.component(#constructed))
        },
    );
    quote! {
        fn main() -> ::std::process::ExitCode {
            #private::program::Program::new(
                ::core::option_env!("CARGO_PKG_DESCRIPTION"),
                ::core::option_env!("CARGO_PKG_VERSION"),
            )
            #(#components)*
            .run()
        }
    }
}
