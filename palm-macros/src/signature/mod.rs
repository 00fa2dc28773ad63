//! [`Signature`]: how a method takes its component and its arguments.

mod output;

use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, FnArg, Ident, PatType, Receiver, ReceiverKind, Safety, Type};

use crate::diagnostics::Diagnostics;
use crate::helper::Helper;
use crate::kind::Kind;
use crate::syntax::{cfgs, find_ident, last_segment};

pub(crate) use self::output::{Answer, Output, Yields, ok_type, without_lifetimes, yields};

/// A method's signature.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) ident: Ident,
    /// Under which conditions the method exists.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) is_async: bool,
    pub(crate) access: Access,
    /// The type of a method's payload, or of a hook's message.
    pub(crate) argument: Option<Type>,
    /// The type of the context, where it is asked for.
    pub(crate) context: Option<Type>,
    pub(crate) output: Output,
}

/// How a method takes its component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// `&self`
    Shared,
    /// `&mut self`
    Exclusive,
}

impl Signature {
    /// Checks it. What could not be read is stood in for, so that the rest is checked too.
    pub(crate) fn model(
        kind: Kind,
        helper: Helper,
        signature: &syn::Signature,
        attributes: &[Attribute],
        diagnostics: &mut Diagnostics,
    ) -> Self {
        check_qualifiers(helper, signature, diagnostics);
        let access = model_receiver(helper, signature, diagnostics);
        let (argument, context) = model_parameters(helper, signature, diagnostics);
        Self {
            ident: signature.ident.clone(),
            cfgs: cfgs(attributes),
            is_async: signature.asyncness.is_some(),
            access,
            argument,
            context,
            output: Output::model(kind, helper, signature, diagnostics),
        }
    }
}

fn check_qualifiers(helper: Helper, signature: &syn::Signature, diagnostics: &mut Diagnostics) {
    let what = helper.name();
    if let Some(token) = signature.constness {
        diagnostics.push(token, format_args!("a `#[palm::{what}]` cannot be `const`"));
    }
    if let Safety::Unsafe(token) = signature.safety {
        let message = format!(
            "a `#[palm::{what}]` cannot be `unsafe`: whoever calls it from afar can promise nothing"
        );
        diagnostics.push(token, message);
    }
    if let Some(abi) = &signature.abi {
        diagnostics.push(abi, format_args!("a `#[palm::{what}]` cannot be `extern`"));
    }
    if !signature.generics.params.is_empty() {
        let message = match helper {
            Helper::Method => "a method that is called from afar cannot be generic: the bytes that arrive do not say \
                               which types are meant; put the parameters on the `impl` block"
                .to_owned(),
            _ => format!("a `#[palm::{what}]` cannot be generic; put the parameters on the `impl` block"),
        };
        diagnostics.push(&signature.generics.params, message);
    }
    if let Some(variadic) = &signature.variadic {
        diagnostics.push(variadic, "expected a parameter with a type");
    }
}

fn model_receiver(
    helper: Helper,
    signature: &syn::Signature,
    diagnostics: &mut Diagnostics,
) -> Access {
    let what = helper.name();
    let Some(receiver) = signature.receiver() else {
        let message = format!(
            "a `#[palm::{what}]` takes `&self`, or `&mut self` to run alone, as its first parameter"
        );
        diagnostics.push(&signature.ident, message);
        return Access::Shared;
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => Access::Shared,
        ReceiverKind::Reference(_, _, Some(_)) => Access::Exclusive,
        _ => {
            diagnostics.push(receiver, refused_receiver(what, receiver));
            Access::Shared
        }
    }
}

fn refused_receiver(what: &str, receiver: &Receiver) -> String {
    let reason = match receiver.kind {
        ReceiverKind::Value => ": the component goes on after the call",
        _ => "",
    };
    format!("a `#[palm::{what}]` takes `&self`, or `&mut self` to run alone{reason}")
}

fn model_parameters(
    helper: Helper,
    signature: &syn::Signature,
    diagnostics: &mut Diagnostics,
) -> (Option<Type>, Option<Type>) {
    let parameters = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(parameter) => Some(parameter),
        FnArg::Receiver(_) => None,
    });
    let mut argument: Option<Type> = None;
    let mut context: Option<Type> = None;
    for parameter in parameters {
        check_parameter(parameter, diagnostics);
        let ty = &*parameter.ty;
        if context.is_some() {
            let message = if is_context(ty) {
                "the context is taken already"
            } else {
                "the context comes last: swap the parameters"
            };
            // What follows is out of order as well; the first mistake says enough.
            diagnostics.push(parameter, message);
            break;
        } else if is_context(ty) {
            context = Some(ty.clone());
        } else if argument.is_none() {
            argument = Some(ty.clone());
        } else {
            let message = match helper {
                Helper::Method => "a method takes one payload, and then at most a `Context`: put what is sent together \
                                   into one type"
                    .to_owned(),
                _ => format!("a `#[palm::{}]` takes the message, and then at most a `Context`", helper.name()),
            };
            diagnostics.push(parameter, message);
            break;
        }
    }
    if argument.is_none() && helper != Helper::Method {
        let message = format!(
            "a `#[palm::{}]` takes the message: `fn {}(&self, message: Message)`",
            helper.name(),
            signature.ident,
        );
        diagnostics.push(&signature.ident, message);
    }
    (argument, context)
}

fn check_parameter(parameter: &PatType, diagnostics: &mut Diagnostics) {
    for cfg in cfgs(&parameter.attrs) {
        let message =
            "a parameter cannot depend on a `cfg`: write the method twice, each under its `cfg`";
        diagnostics.push(cfg, message);
    }
    let ty = &*parameter.ty;
    if find_ident(ty.to_token_stream(), "impl").is_some() {
        let message =
            "name the type: the bytes that arrive do not say which type behind `impl` is meant";
        diagnostics.push(ty, message);
    } else if let Type::Reference(reference) = ty
        && is_context(&reference.elem)
    {
        let message = "take the context by value: `context: Context`";
        diagnostics.push_at(ty.span(), message);
    }
}

fn is_context(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|segment| segment.ident == "Context")
}
