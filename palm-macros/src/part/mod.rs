//! `#[palm::inbound]`, `#[palm::outbound]` and `#[palm::bypass]`: user-defined parts, made of the hooks in an `impl`
//! block.
//!
//! A method is a hook if it has the name of one; the expansion does not use other methods.

#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, ImplItem, ImplItemFn, ItemImpl, ReturnType, Type};

use crate::diagnostics::{Diagnostics, with_errors};
use crate::options::{self, Options};
use crate::paths::{PalmPath, at};
use crate::signature::{Yields, ok_type, yields};
use crate::syntax::cfgs;

/// An attribute of a user-defined part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Inbound,
    Outbound,
    Bypass,
}

/// A hook: a method that the part calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HookName {
    Scatter,
    HandleFeedback,
    ReplyFeedback,
    Handle,
    Recv,
    Run,
}

impl Part {
    fn attribute(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Bypass => "bypass",
        }
    }

    fn hooks(self) -> &'static [HookName] {
        match self {
            Self::Inbound => &[
                HookName::Scatter,
                HookName::HandleFeedback,
                HookName::ReplyFeedback,
            ],
            Self::Outbound => &[HookName::Handle],
            Self::Bypass => &[HookName::Recv, HookName::Run],
        }
    }
}

impl HookName {
    fn name(self) -> &'static str {
        match self {
            Self::Scatter => "scatter",
            Self::HandleFeedback => "handle_feedback",
            Self::ReplyFeedback => "reply_feedback",
            Self::Handle => "handle",
            Self::Recv => "recv",
            Self::Run => "run",
        }
    }

    /// An example of the method.
    fn usage(self) -> &'static str {
        match self {
            Self::Scatter => "fn scatter(&mut self, message: Message) -> Vec<Message>",
            Self::HandleFeedback => "fn handle_feedback(&mut self, feedback: &Bytes)",
            Self::ReplyFeedback => "fn reply_feedback(&mut self, feedback: Bytes) -> Bytes",
            Self::Handle => "fn handle(&mut self, message: Message) -> Message",
            Self::Recv => "fn recv(&mut self, body: Bytes) -> Bytes",
            Self::Run => "async fn run(self, sender: BypassSender)",
        }
    }

    fn takes_context(self) -> bool {
        matches!(self, Self::Scatter | Self::Handle)
    }

    fn may_be_async(self) -> bool {
        !matches!(self, Self::HandleFeedback | Self::ReplyFeedback)
    }
}

/// Expands the attribute `part` with the options `args` on `item`.
pub(crate) fn expand(part: Part, args: TokenStream, item: TokenStream) -> TokenStream {
    let Ok(written) = syn::parse2::<ItemImpl>(item.clone()) else {
        let message = format!(
            "`#[palm::{}]` belongs on an `impl` block with {}",
            part.attribute(),
            usages(part)
        );
        return with_errors(item, &Error::new(Span::call_site(), message));
    };
    let mut diagnostics = Diagnostics::default();
    let model = Model::new(part, args, &written, &mut diagnostics);
    match diagnostics.finish() {
        Ok(()) => model.tokens(),
        Err(errors) => with_errors(model.stand_in(), &errors),
    }
}

/// The hooks of a part, as a phrase.
fn usages(part: Part) -> String {
    let hooks = part.hooks().iter();
    let hooks: Vec<_> = hooks.map(|hook| format!("`{}`", hook.usage())).collect();
    hooks.join(" or ")
}

/// A part: the block with its options and hooks.
struct Model<'a> {
    part: Part,
    palm: PalmPath,
    item: &'a ItemImpl,
    hooks: Vec<Hook<'a>>,
}

struct Hook<'a> {
    name: HookName,
    function: &'a ImplItemFn,
    /// The type of the message or body that it takes.
    argument: &'a Type,
    takes_context: bool,
}

impl<'a> Model<'a> {
    fn new(
        part: Part,
        args: TokenStream,
        item: &'a ItemImpl,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let accepted = [options::CRATE];
        let mut options = Options::parse(args, part.attribute(), &accepted, diagnostics);
        let palm = PalmPath(options.take_path(options::CRATE, diagnostics));
        let mut model = Self {
            part,
            palm,
            item,
            hooks: Vec::new(),
        };
        if let Some((path, _)) = &item.trait_ {
            let message = format!(
                "`#[palm::{}]` belongs on an inherent `impl` block: it implements the trait itself",
                part.attribute()
            );
            diagnostics.push(path, message);
            return model;
        }
        let mut has_hook = false;
        for member in &item.items {
            let ImplItem::Fn(function) = member else {
                continue;
            };
            let ident = function.sig.ident.unraw().to_string();
            if let Some(&name) = part.hooks().iter().find(|hook| hook.name() == ident) {
                has_hook = true;
                model.hooks.extend(Hook::new(name, function, diagnostics));
            } else if let Some(meant) = misspelt_hook(part, &ident) {
                has_hook = true;
                let message = format!("unknown hook `{ident}`; did you mean `{}`?", meant.name());
                diagnostics.push(&function.sig.ident, message);
            }
        }
        if !has_hook {
            let message = format!("this block has no hook: add {}", usages(part));
            diagnostics.push(&item.self_ty, message);
        }
        model
    }

    fn tokens(&self) -> TokenStream {
        let item = self.item;
        let implementations = match self.part {
            Part::Inbound => self.inbound(),
            Part::Outbound | Part::Bypass => self
                .hooks
                .iter()
                .map(|hook| self.single_hook(hook))
                .collect(),
        };
        quote! {
            #item
            #implementations
        }
    }

    /// Expands to the traits of the part without the user's hooks behind them.
    ///
    /// A block with mistakes expands to this, so that code that uses the part causes no further errors.
    fn stand_in(&self) -> TokenStream {
        let item = self.item;
        let private = self.palm.private();
        let future = |output: TokenStream| quote!(impl ::core::future::Future<Output = #output> + ::core::marker::Send);
        let bypass_inbound = {
            let future = future(quote!(#private::Outcome));
            let body = quote! {
                fn recv(&mut self, _: #private::Bytes) -> #future { ::core::future::pending() }
            };
            (quote!(#private::BypassInbound), body)
        };
        let bypass_outbound = {
            let future = future(quote!(::core::result::Result<(), #private::BoxError>));
            let body = quote! {
                fn run(self, _: #private::BypassSender) -> #future { ::core::future::pending() }
            };
            (quote!(#private::BypassOutbound), body)
        };
        let outbound = {
            let future = future(quote!(::core::result::Result<(), #private::CallFailure>));
            let body = quote! {
                fn handle(
                    &mut self,
                    _: #private::Message,
                    _: #private::Context,
                    _: &mut #private::Emit<'_>,
                ) -> #future {
                    ::core::future::pending()
                }
            };
            (quote!(#private::OutboundHooks), body)
        };
        let traits = match self.part {
            // An implementation of the trait by hand may be what the attribute stands on.
            _ if item.trait_.is_some() => Vec::new(),
            Part::Inbound => vec![(quote!(#private::InboundHooks), TokenStream::new())],
            Part::Outbound => vec![outbound],
            Part::Bypass => vec![bypass_inbound, bypass_outbound],
        };
        let implementations = traits
            .iter()
            .map(|(path, body)| self.implementation(path, body));
        quote! {
            #item
            #(#implementations)*
        }
    }

    /// Returns the `impl` of `InboundHooks`.
    fn inbound(&self) -> TokenStream {
        let private = self.palm.private();
        let has = |name| self.hooks.iter().any(|hook| hook.name == name);
        let scatters = has(HookName::Scatter);
        let takes_feedback = has(HookName::HandleFeedback);
        let hooks = self.hooks.iter().map(|hook| {
            let cfgs = cfgs(&hook.function.attrs);
            let hook = self.hook(hook);
            quote!(#(#cfgs)* #hook)
        });
        let body = quote! {
            const SCATTERS: ::core::primitive::bool = #scatters;
            const TAKES_FEEDBACK: ::core::primitive::bool = #takes_feedback;
            #(#hooks)*
        };
        self.implementation(&quote!(#private::InboundHooks), &body)
    }

    /// Returns the `impl` of a trait with one hook.
    fn single_hook(&self, hook: &Hook<'_>) -> TokenStream {
        let private = self.palm.private();
        let path = match hook.name {
            HookName::Handle => quote!(#private::OutboundHooks),
            HookName::Recv => quote!(#private::BypassInbound),
            HookName::Run => quote!(#private::BypassOutbound),
            _ => panic!("bug in palm-macros: a hook of an inbound part in another part"),
        };
        let cfgs = cfgs(&hook.function.attrs);
        let implementation = self.implementation(&path, &self.hook(hook));
        quote!(#(#cfgs)* #implementation)
    }

    fn implementation(&self, path: &TokenStream, body: &TokenStream) -> TokenStream {
        let (generics, _, where_clause) = self.item.generics.split_for_impl();
        let self_ty = &self.item.self_ty;
        quote! {
            #[automatically_derived]
            impl #generics #path for #self_ty #where_clause {
                #body
            }
        }
    }

    /// Returns the method of the trait that calls the user's hook.
    fn hook(&self, hook: &Hook<'_>) -> TokenStream {
        let private = self.palm.private();
        let call = hook.call();
        match hook.name {
            HookName::HandleFeedback => quote! {
                fn handle_feedback(&mut self, __palm_argument: &#private::Bytes) {
                    #call;
                }
            },
            HookName::ReplyFeedback => quote! {
                fn reply_feedback(&mut self, __palm_argument: #private::Bytes) -> #private::Bytes {
                    ::core::convert::Into::into(#call)
                }
            },
            HookName::Scatter | HookName::Handle => self.yielding(hook, &call),
            HookName::Recv => {
                let ty = hook.argument;
                let span = at(ty.span());
                let private_at = self.palm.private_at(span);
                let read = quote_spanned!(span=> #private_at::check::body::<#ty>(__palm_argument));
                quote! {
                    fn recv(
                        &mut self,
                        __palm_argument: #private::Bytes,
                    ) -> impl ::core::future::Future<Output = #private::Outcome> + ::core::marker::Send {
                        async move {
                            let __palm_argument = match #read {
                                ::core::result::Result::Ok(__palm_argument) => __palm_argument,
                                ::core::result::Result::Err(__palm_outcome) => return __palm_outcome,
                            };
                            #private::IntoOutcome::into_outcome(#call)
                        }
                    }
                }
            }
            HookName::Run => quote! {
                fn run(
                    self,
                    __palm_argument: #private::BypassSender,
                ) -> impl ::core::future::Future<
                    Output = ::core::result::Result<(), #private::BoxError>,
                > + ::core::marker::Send {
                    async move {
                        #private::check::ended(#private::IntoOutcome::into_outcome(#call))
                    }
                }
            },
        }
    }

    /// Returns `scatter` or `handle`, which emit messages.
    fn yielding(&self, hook: &Hook<'_>, call: &TokenStream) -> TokenStream {
        let private = self.palm.private();
        let name = &hook.function.sig.ident;
        let ty = match &hook.function.sig.output {
            ReturnType::Type(_, ty) => Some(&**ty),
            ReturnType::Default => None,
        };
        let many = ty.map_or(Yields::One, |ty| yields(ok_type(ty).unwrap_or(ty)));
        let span = at(ty.map_or(name.span(), |ty| ty.span()));
        let private_at = self.palm.private_at(span);
        let send = match many {
            Yields::Iterator => quote_spanned!(span=> #private_at::check::send_iterator),
            Yields::Stream => quote_spanned!(span=> #private_at::check::send_stream),
            Yields::One => quote!(#private::check::send_messages),
        };
        let is_fallible = many != Yields::One && ty.is_some_and(|ty| ok_type(ty).is_some());
        let results = if is_fallible {
            quote! {
                match #call {
                    ::core::result::Result::Ok(__palm_results) => __palm_results,
                    ::core::result::Result::Err(__palm_error) => {
                        return ::core::result::Result::Err(#private::check::failure(__palm_error));
                    }
                }
            }
        } else if many == Yields::One
            && let Some(ty) = ty
        {
            quote_spanned!(span=> <#ty as #private_at::IntoMessages>::into_messages(#call))
        } else if many == Yields::One {
            quote!(#private::IntoMessages::into_messages(#call))
        } else {
            call.clone()
        };
        let yielded = if many == Yields::One {
            quote!(#send(__palm_emit, __palm_results).await)
        } else {
            quote! {{
                #send(__palm_emit, __palm_results).await;
                ::core::result::Result::Ok(())
            }}
        };
        quote! {
            fn #name(
                &mut self,
                __palm_argument: #private::Message,
                __palm_context: #private::Context,
                __palm_emit: &mut #private::Emit<'_>,
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<(), #private::CallFailure>,
            > + ::core::marker::Send {
                async move {
                    let __palm_results = #results;
                    #yielded
                }
            }
        }
    }
}

impl<'a> Hook<'a> {
    fn new(
        name: HookName,
        function: &'a ImplItemFn,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let signature = &function.sig;
        let wrong = || format!("expected the signature `{}`", name.usage());
        if signature.asyncness.is_some() && !name.may_be_async() {
            let message = format!(
                "`{}` cannot be async: the part does not await it",
                name.name()
            );
            diagnostics.push(signature.asyncness, message);
            return None;
        }
        let mut inputs = signature.inputs.iter();
        let Some(FnArg::Receiver(_)) = inputs.next() else {
            diagnostics.push(&signature.ident, wrong());
            return None;
        };
        let typed = |input: &'a FnArg| match input {
            FnArg::Typed(parameter) => Some(&*parameter.ty),
            FnArg::Receiver(_) => None,
        };
        let parameters: Vec<_> = inputs.filter_map(typed).collect();
        let (argument, takes_context) = match parameters[..] {
            [argument] => (argument, false),
            [argument, _] if name.takes_context() => (argument, true),
            _ => {
                diagnostics.push(&signature.ident, wrong());
                return None;
            }
        };
        Some(Self {
            name,
            function,
            argument,
            takes_context,
        })
    }

    /// Returns the call of the user's method, which `Self::` resolves to before the trait's of the same name.
    fn call(&self) -> TokenStream {
        let ident = &self.function.sig.ident;
        let span = at(ident.span());
        let context = self.takes_context.then(|| quote!(, __palm_context));
        let call = quote_spanned!(span=> Self::#ident(self, __palm_argument #context));
        if self.function.sig.asyncness.is_some() {
            quote_spanned!(span=> #call.await).into_token_stream()
        } else {
            call
        }
    }
}

/// Returns the hook whose name `ident` misspells.
fn misspelt_hook(part: Part, ident: &str) -> Option<HookName> {
    let near = |hook: &&HookName| {
        let distance = strsim::osa_distance(hook.name(), ident);
        distance > 0 && distance <= (hook.name().len() / 4).max(1)
    };
    part.hooks().iter().find(near).copied()
}
