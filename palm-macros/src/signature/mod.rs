//! [`Signature`]: the receiver, the parameters and the return type of a method.

mod output;

use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, FnArg, Ident, PatType, Receiver, ReceiverKind, Safety, Type};

use crate::diagnostics::Diagnostics;
use crate::helper::Helper;
use crate::kind::Kind;
use crate::syntax::{cfgs, find_ident, last_segment};

pub(crate) use self::output::{Answer, Output, Yields, ok_type, without_lifetimes, yields};

/// The signature of a method, a hook or a function of an interface.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) ident: Ident,
    /// The `cfg`s of the method.
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) is_async: bool,
    pub(crate) access: Access,
    /// The type of a method's payload or a hook's message.
    pub(crate) argument: Option<Type>,
    /// The type of the context, if the method takes one.
    pub(crate) context: Option<Type>,
    pub(crate) output: Output,
    /// Whether types depend on something that an associated constant cannot name, such as a type parameter of the
    /// method. That is a mistake; a stand-in leaves the types out.
    pub(crate) has_open_types: bool,
}

/// The access that a method needs to its component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// `&self`
    Shared,
    /// `&mut self`
    Exclusive,
}

impl Signature {
    /// Reads and checks a signature. After a mistake it continues with a default, so that the rest is checked too.
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
        let argument_tokens = argument.to_token_stream();
        Self {
            ident: signature.ident.clone(),
            cfgs: cfgs(attributes),
            is_async: signature.asyncness.is_some(),
            access,
            argument,
            context,
            output: Output::model(kind, helper, signature, diagnostics),
            has_open_types: !signature.generics.params.is_empty()
                || find_ident(argument_tokens, "impl").is_some(),
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
            "a `#[palm::{what}]` cannot be `unsafe`: a remote caller cannot uphold its safety contract"
        );
        diagnostics.push(token, message);
    }
    if let Some(abi) = &signature.abi {
        diagnostics.push(abi, format_args!("a `#[palm::{what}]` cannot be `extern`"));
    }
    if !signature.generics.params.is_empty() {
        let message = match helper {
            Helper::Method => "a callable method cannot be generic: a message carries no type arguments; put the type \
                               parameters on the `impl` block"
                .to_owned(),
            _ => format!("a `#[palm::{what}]` cannot be generic; put the type parameters on the `impl` block"),
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
            "the first parameter of a `#[palm::{what}]` is `&self`, or `&mut self` for exclusive access"
        );
        diagnostics.push(&signature.ident, message);
        return Access::Shared;
    };
    match &receiver.kind {
        ReceiverKind::Reference(_, _, None) => Access::Shared,
        ReceiverKind::Reference(_, _, Some(_)) => Access::Exclusive,
        _ => {
            diagnostics.push(receiver, wrong_receiver(what, receiver));
            Access::Shared
        }
    }
}

fn wrong_receiver(what: &str, receiver: &Receiver) -> String {
    let reason = match receiver.kind {
        ReceiverKind::Value => ": the component outlives the call",
        _ => "",
    };
    format!("a `#[palm::{what}]` takes `&self`, or `&mut self` for exclusive access{reason}")
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
                "this method already takes a context"
            } else {
                "the context comes last: swap the parameters"
            };
            // The parameters after it would be out of order as well.
            diagnostics.push(parameter, message);
            break;
        } else if is_context(ty) {
            context = Some(ty.clone());
        } else if argument.is_none() {
            argument = Some(ty.clone());
        } else {
            let message = match helper {
                Helper::Method => "a method takes one payload and at most a `Context` after it: combine several values \
                                   in one type"
                    .to_owned(),
                _ => format!("a `#[palm::{}]` takes the message and at most a `Context` after it", helper.name()),
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
        let message = "name the type: a message does not say which type `impl` stands for";
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
