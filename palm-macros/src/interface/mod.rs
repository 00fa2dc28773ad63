//! `#[palm::interface]`: a trait that components implement, and the client that calls its functions.

#[cfg(test)]
mod tests;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens as _, format_ident, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, FnArg, GenericParam, ItemTrait, LitStr, Pat, ReturnType, TraitItem,
    TraitItemFn, parse_quote,
};

use crate::constant::{self, Constant};
use crate::diagnostics::{Diagnostics, with_errors};
use crate::helper::{Helper, without_helper_attributes};
use crate::kind::Kind;
use crate::options::{self, AlreadyReported, Options};
use crate::paths::{PalmPath, at};
use crate::signature::{Answer, Signature, Yields};
use crate::syntax::{cfgs, copied_attributes, find_ident};
use crate::text;

/// The methods of each client that are not functions of the interface.
const CLIENT_METHODS: [&str; 4] = ["new", "connect", "on", "client"];

/// Expands the attribute with the options `args` on `item`.
///
/// After a mistake the valid parts of the trait and its client are still expanded, for the code that uses them.
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> TokenStream {
    let Ok(written) = syn::parse2::<ItemTrait>(item.clone()) else {
        let message = "`#[palm::interface]` belongs on a trait: \
                       `#[palm::interface(name = \"...\")] trait Images { .. }`";
        let error = Error::new(Span::call_site(), message);
        return with_errors(without_helper_attributes(item), &error);
    };
    let mut diagnostics = Diagnostics::default();
    let interface = Interface::model(args, &written, &mut diagnostics);
    match diagnostics.finish() {
        Ok(()) => interface.tokens(),
        Err(errors) => with_errors(interface.tokens(), &errors),
    }
}

/// The trait with its options.
struct Interface<'a> {
    palm: PalmPath,
    name: LitStr,
    item: &'a ItemTrait,
    functions: Vec<Function>,
}

struct Function {
    signature: Signature,
    /// The name of the argument.
    argument: Option<Ident>,
    constant: Ident,
    /// Documentation and deprecation.
    attributes: Vec<Attribute>,
}

impl<'a> Interface<'a> {
    fn model(args: TokenStream, item: &'a ItemTrait, diagnostics: &mut Diagnostics) -> Self {
        let accepted = [options::NAME, options::CRATE];
        let mut options = Options::parse(args, "interface", &accepted, diagnostics);
        let palm = PalmPath(options.take_path(options::CRATE, diagnostics));
        let name = match options.take_name(options::NAME, diagnostics) {
            Some(Ok(name)) => Some(name),
            Some(Err(AlreadyReported)) => None,
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
            let message = "an interface cannot be generic: a message carries no type arguments";
            diagnostics.push(&item.generics.params, message);
        }
        let mut functions = Vec::new();
        for member in &item.items {
            match member {
                TraitItem::Fn(function) => {
                    functions.push(Function::model(function, item, diagnostics))
                }
                other => diagnostics.push(other, "an interface contains only functions"),
            }
        }
        if item.items.is_empty() {
            diagnostics.push(&item.ident, "this interface has no functions");
        }
        Self {
            palm,
            name: name.unwrap_or_else(|| LitStr::new("_", item.ident.span())),
            item,
            functions,
        }
    }

    fn tokens(&self) -> TokenStream {
        let interface = self.interface();
        let client = self.client();
        quote!(#interface #client)
    }

    /// Returns the trait, in which the future of an `async` function is `Send`.
    fn interface(&self) -> ItemTrait {
        let mut item = self.item.clone();
        for member in &mut item.items {
            let TraitItem::Fn(function) = member else {
                continue;
            };
            function
                .attrs
                .retain(|attribute| Helper::from_attribute(attribute).is_none());
            if function.sig.asyncness.take().is_some() {
                let output = match &function.sig.output {
                    ReturnType::Default => quote!(()),
                    ReturnType::Type(_, ty) => ty.to_token_stream(),
                };
                function.sig.output = parse_quote! {
                    -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
                };
                // A body is a mistake; as a future it causes no further one.
                if let Some(body) = &function.default {
                    function.default = Some(parse_quote!({ async move #body }));
                }
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
            " A client of [`{ident}`], whose functions it calls at the component `{}`.",
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
        let methods = self.functions.iter();
        let methods = methods
            .filter(|function| !function.conflicts_with_client())
            .map(|function| self.method(function));
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

                /// Returns a client that calls over `client`.
                pub fn new(client: #private::Client) -> Self {
                    Self {
                        client,
                        server: #private::ByteString::from_static(#name),
                    }
                }

                /// Connects to the component at `db_address`.
                ///
                /// # Errors
                ///
                /// If no component answers within 30 s, or one of another name answers.
                ///
                /// # Cancel safety
                ///
                /// Dropping the future closes the connection.
                pub async fn connect(
                    db_address: impl #private::IntoAddress,
                ) -> ::core::result::Result<Self, #private::ConnectError> {
                    let client = #private::Client::connect(#name, db_address).await?;
                    ::core::result::Result::Ok(Self::new(client))
                }

                /// Returns a client that calls the component `server` instead.
                ///
                /// For components of the same functions, such as two masters with the same workers.
                #[must_use]
                pub fn on(
                    mut self,
                    server: impl ::core::convert::Into<#private::ByteString>,
                ) -> Self {
                    self.server = server.into();
                    self
                }

                /// Returns the underlying client.
                pub fn client(&self) -> &#private::Client {
                    &self.client
                }

                #(#methods)*
            }
        }
    }

    /// Returns the client's method for `function`.
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
        let input = constant::input(&self.palm, signature);
        let output = constant::output(&self.palm, signature);
        let argument = function.argument.iter().collect::<Vec<_>>();
        let value = match &function.argument {
            Some(argument) => argument.to_token_stream(),
            None => quote!(()),
        };
        let steps = quote_spanned!(span=> Self::#constant.on(&self.server));
        // An answer that cannot be decoded is a mistake in the signature and in the body. Rustc prints identical errors
        // once, so both are located at the type, and so is the whole function, where rustc reports that of the body.
        let answer_span = at(signature.output.span(ident));
        let private_there = self.palm.private_at(answer_span);
        let answer = quote_spanned!(answer_span=> <#output as #private_there::Answer>);
        let read = quote_spanned!(answer_span=> #answer::read);
        let eval = quote_spanned!(answer_span=> #private_there::Eval<'_, #answer::Value>);
        let job = quote_spanned!(answer_span=> #private_there::Job<'palm, #answer::Value>);
        let public = quote_spanned!(answer_span=> pub);
        let many = signature.output.yields != Yields::One;
        let method = match &signature.output.answer {
            Answer::None => quote! {
                pub async fn #ident(
                    &self,
                    #(#argument: impl #private::Argument<#input>)*
                ) -> ::core::result::Result<(), #private::CallError> {
                    self.client.send(#steps, #value).await
                }
            },
            _ if many => quote! {
                #public fn #ident<'palm>(
                    &self,
                    #(#argument: impl #private::Argument<#input> + ::core::marker::Send + 'palm)*
                ) -> #job {
                    self.client.job_with(#steps, [#value], #read)
                }
            },
            _ => quote! {
                #public fn #ident(
                    &self,
                    #(#argument: impl #private::Argument<#input>)*
                ) -> #eval {
                    self.client.eval_with(#steps, #value, #read)
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
    fn model(function: &TraitItemFn, item: &ItemTrait, diagnostics: &mut Diagnostics) -> Self {
        let ident = &function.sig.ident;
        if let Some(body) = &function.default {
            let message = "a function of an interface has no body: the component implements it";
            diagnostics.push(body, message);
        }
        if let Some(attribute) = function
            .attrs
            .iter()
            .find(|attribute| Helper::from_attribute(attribute).is_some())
        {
            let message = "every function of an interface is callable: remove this attribute";
            diagnostics.push(attribute, message);
        }
        let mut signature = Signature::model(
            Kind::Server,
            Helper::Method,
            &function.sig,
            &function.attrs,
            diagnostics,
        );
        signature.has_open_types |= names_items_of(item, &signature);
        let constant = text::screaming_snake(&ident.unraw().to_string());
        let function = Self {
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
            attributes: copied_attributes(&function.attrs),
            signature,
        };
        if function.conflicts_with_client() {
            let message =
                format!("the generated client has a method `{ident}` already: rename the function");
            diagnostics.push(ident, message);
        }
        function
    }

    fn conflicts_with_client(&self) -> bool {
        let ident = &self.signature.ident;
        CLIENT_METHODS.iter().any(|name| ident == name)
    }

    fn default_doc(&self, server: &str) -> Option<String> {
        let ident = self.signature.ident.unraw();
        text::first_doc_line(&self.attributes)
            .is_empty()
            .then(|| format!(" The function `{server}.{ident}`."))
    }
}

/// Whether the types of a signature name type parameters or associated types of the trait, which are mistakes.
fn names_items_of(item: &ItemTrait, signature: &Signature) -> bool {
    let (argument, output) = (&signature.argument, &signature.output.ty);
    let types = quote!(#argument #output);
    let parameters = item
        .generics
        .params
        .iter()
        .map(|parameter| match parameter {
            GenericParam::Type(parameter) => &parameter.ident,
            GenericParam::Const(parameter) => &parameter.ident,
            GenericParam::Lifetime(parameter) => &parameter.lifetime.ident,
        });
    let self_type = Ident::new("Self", Span::call_site());
    parameters
        .chain([&self_type])
        .any(|name| find_ident(types.clone(), &name.to_string()).is_some())
}
