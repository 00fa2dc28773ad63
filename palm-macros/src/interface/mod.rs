//! `#[palm::interface]`: a trait whose functions both sides share, and its client.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, FnArg, ItemTrait, LitStr, Pat, Result, ReturnType, TraitItem, TraitItemFn,
    parse_quote,
};

use crate::constant::{self, Constant};
use crate::diagnostics::{Diagnostics, item_with_errors};
use crate::helper::Helper;
use crate::kind::Kind;
use crate::options::{self, Options, Reported};
use crate::paths::{Palm, at};
use crate::signature::{Answer, Signature, Yields};
use crate::syntax::{attributes_of_constant, cfgs};
use crate::text;

/// What the generated client has besides the functions.
const OF_CLIENT: [&str; 4] = ["new", "connect", "on", "client"];

pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let Ok(written) = syn::parse2::<ItemTrait>(item.clone()) else {
        let message = "`#[palm::interface]` belongs on a trait: \
                       `#[palm::interface(name = \"...\")] trait Images { .. }`";
        let error = Error::new(proc_macro2::Span::call_site(), message);
        return item_with_errors(item, &error);
    };
    match Interface::model(args, &written) {
        Ok(interface) => interface.tokens(),
        Err(errors) => item_with_errors(&written, &errors),
    }
}

/// An interface. One that exists is valid.
struct Interface<'a> {
    palm: Palm,
    name: LitStr,
    item: &'a ItemTrait,
    functions: Vec<Function>,
}

struct Function {
    signature: Signature,
    /// The name of the argument, where there is one.
    argument: Option<Ident>,
    constant: Ident,
    /// Documentation and deprecation.
    attributes: Vec<Attribute>,
}

impl<'a> Interface<'a> {
    fn model(args: TokenStream, item: &'a ItemTrait) -> Result<Self> {
        let mut diagnostics = Diagnostics::default();
        let accepted = [options::NAME, options::CRATE];
        let mut options = Options::parse(args, "interface", &accepted, &mut diagnostics);
        let palm = Palm(options.take_path(options::CRATE, &mut diagnostics));
        let name = match options.take_name(options::NAME, &mut diagnostics) {
            Some(Ok(name)) => Some(name),
            Some(Err(Reported)) => None,
            None => {
                if !options.has_mistakes {
                    let message = "give the interface a name, by which clients call it: \
                                   `#[palm::interface(name = \"...\")]`";
                    diagnostics.push(&item.ident, message);
                }
                None
            }
        };
        if !item.generics.params.is_empty() {
            let message = "an interface cannot be generic: the bytes that arrive do not say which \
                           types are meant";
            diagnostics.push(&item.generics.params, message);
        }
        let mut functions = Vec::new();
        for member in &item.items {
            match member {
                TraitItem::Fn(function) => {
                    functions.extend(Function::model(function, &mut diagnostics))
                }
                other => diagnostics.push(other, "an interface has functions and nothing else"),
            }
        }
        if item.items.is_empty() {
            diagnostics.push(&item.ident, "this interface has no function");
        }
        diagnostics.finish(name.map(|name| Self {
            palm,
            name,
            item,
            functions,
        }))
    }

    fn tokens(&self) -> TokenStream {
        let interface = self.interface();
        let client = self.client();
        quote!(#interface #client)
    }

    /// The trait, whose `async` functions have futures that any thread can run.
    fn interface(&self) -> ItemTrait {
        let mut item = self.item.clone();
        for member in &mut item.items {
            if let TraitItem::Fn(function) = member
                && function.sig.asyncness.take().is_some()
            {
                let output = match &function.sig.output {
                    ReturnType::Default => quote!(()),
                    ReturnType::Type(_, ty) => ty.to_token_stream(),
                };
                function.sig.output = parse_quote! {
                    -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
                };
            }
        }
        let name = &self.name;
        item.items.push(parse_quote! {
            #[doc(hidden)]
            const __PALM_NAME: &'static ::core::primitive::str = #name;
        });
        item
    }

    fn client(&self) -> TokenStream {
        let private = self.palm.private();
        let ItemTrait { vis, ident, .. } = self.item;
        let cfgs = cfgs(&self.item.attrs);
        let name = &self.name;
        let client = format_ident!("{ident}Client");
        let doc = format!(
            " Calls the functions of [`{ident}`] from afar, those of `{}` unless it is told another name.",
            name.value()
        );
        let constants = self.functions.iter().map(|function| {
            let name = function.signature.ident.unraw().to_string();
            let constant = Constant {
                palm: &self.palm,
                server: self.name.to_token_stream(),
                name: &name,
                ident: &function.constant,
                signature: &function.signature,
                attributes: &function.attributes,
                default_doc: function.default_doc(&self.name.value()),
            };
            constant.tokens()
        });
        let methods = self.functions.iter().map(|function| self.method(function));
        quote! {
            #(#cfgs)*
            #[doc = #doc]
            #[derive(::core::clone::Clone, ::core::fmt::Debug)]
            #vis struct #client {
                client: #private::Client,
                server: #private::ByteString,
            }

            #(#cfgs)*
            impl #client {
                #(#constants)*

                /// Calls over a client that is connected.
                pub fn new(client: #private::Client) -> Self {
                    Self {
                        client,
                        server: #private::ByteString::from_static(#name),
                    }
                }

                /// Connects to the component of that name, whose `db_address` this is.
                ///
                /// # Errors
                ///
                /// When nobody is there within 30 s, or somebody else.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes what it had opened.
                pub async fn connect(
                    db_address: impl #private::IntoAddress,
                ) -> ::core::result::Result<Self, #private::ConnectError> {
                    let client = #private::Client::connect(#name, db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }

                /// Calls the functions of the component called `server`, as when two masters have the
                /// same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<#private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }

                /// The client beneath.
                pub fn client(&self) -> &#private::Client {
                    &self.client
                }

                #(#methods)*
            }
        }
    }

    /// The client's method for a function.
    fn method(&self, function: &Function) -> TokenStream {
        let private = self.palm.private();
        let Function {
            signature,
            attributes,
            constant,
            ..
        } = function;
        let ident = &signature.ident;
        let cfgs = &signature.cfgs;
        let span = at(ident.span());
        let doc = function.default_doc(&self.name.value()).into_iter();
        let input = constant::input(signature);
        let output = constant::output(&self.palm, signature);
        let argument = function.argument.iter().collect::<Vec<_>>();
        let value = match &function.argument {
            Some(argument) => argument.to_token_stream(),
            None => quote!(()),
        };
        let steps = quote_spanned!(span=> Self::#constant.on(&self.server));
        let many = signature.output.yields != Yields::One;
        let method = match &signature.output.answer {
            Answer::Nothing => quote! {
                pub async fn #ident(
                    &self,
                    #(#argument: impl #private::Argument<#input>)*
                ) -> ::core::result::Result<(), #private::CallError> {
                    self.client.send(#steps, #value).await
                }
            },
            _ if many => quote! {
                pub fn #ident<'palm>(
                    &self,
                    #(#argument: impl #private::Argument<#input> + ::core::marker::Send + 'palm)*
                ) -> #private::Job<'palm, #output> {
                    self.client.job(#steps, [#value])
                }
            },
            _ => quote! {
                pub fn #ident(
                    &self,
                    #(#argument: impl #private::Argument<#input>)*
                ) -> #private::Eval<'_, #output> {
                    self.client.eval(#steps, #value)
                }
            },
        };
        quote! {
            #(#cfgs)*
            #(#[doc = #doc])*
            #(#attributes)*
            #[allow(deprecated, private_interfaces)]
            #method
        }
    }
}

impl Function {
    fn model(function: &TraitItemFn, diagnostics: &mut Diagnostics) -> Option<Self> {
        let ident = &function.sig.ident;
        if let Some(body) = &function.default {
            let message = "a function of an interface has no body: the component has it";
            diagnostics.push(body, message);
            return None;
        }
        if let Some(mark) = function
            .attrs
            .iter()
            .find(|attribute| Helper::of(attribute).is_some())
        {
            let message = "all functions of an interface can be called: take the attribute away";
            diagnostics.push(mark, message);
        }
        if OF_CLIENT.iter().any(|name| ident == name) {
            let message =
                format!("the client has a method `{ident}` of its own: rename the function");
            diagnostics.push(ident, message);
        }
        let signature = Signature::model(
            Kind::Server,
            Helper::Method,
            &function.sig,
            &function.attrs,
            diagnostics,
        );
        let constant = text::screaming_snake(&ident.unraw().to_string());
        Some(Self {
            argument: signature.argument.as_ref().and_then(|ty| {
                let mut parameters = function.sig.inputs.iter();
                parameters.find_map(|input| match input {
                    FnArg::Typed(parameter) => match &*parameter.pat {
                        Pat::Ident(pat) => Some(pat.ident.clone()),
                        _ => Some(Ident::new("argument", ty.span())),
                    },
                    FnArg::Receiver(_) => None,
                })
            }),
            constant: Ident::new(&constant, ident.span()),
            attributes: attributes_of_constant(&function.attrs),
            signature,
        })
    }

    fn default_doc(&self, server: &str) -> Option<String> {
        let ident = self.signature.ident.unraw();
        text::first_doc_line(&self.attributes)
            .is_empty()
            .then(|| format!(" The function `{server}.{ident}`."))
    }
}

#[cfg(test)]
mod tests;
