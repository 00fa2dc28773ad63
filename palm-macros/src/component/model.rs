//! What was written means: every rule that needs no types, all mistakes at once. A model that exists
//! is valid.
//!
//! [`Signature`] reads a method.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, GenericParam, Ident, ImplItem, ItemImpl, LitStr, Meta, Path, Result};

use super::parse::{Mark, MarkedFunction, Written};
use crate::diagnostics::Diagnostics;
use crate::helper::Helper;
use crate::kind::Kind;
use crate::options::{self, Options, Reported, problem_of_name};
use crate::paths::Palm;
use crate::signature::{Signature, Yields};
use crate::syntax::{attributes_of_constant, cfgs, find_ident};
use crate::text;

/// A component.
#[derive(Debug)]
pub(super) struct Component<'a> {
    pub(super) kind: Kind,
    pub(super) palm: Palm,
    /// Its name; a worker's master's.
    pub(super) name: Name,
    /// The interface that it implements, if it is one's.
    pub(super) interface: Option<Path>,
    /// The user's block, without helper attributes.
    pub(super) item: &'a ItemImpl,
    /// Under which conditions the whole block exists.
    pub(super) cfgs: Vec<Attribute>,
    pub(super) methods: Vec<Method>,
    pub(super) hooks: Vec<Hook>,
}

/// What a component is called.
#[derive(Debug)]
pub(super) enum Name {
    Literal(LitStr),
    /// As the interface that it implements says.
    OfInterface,
}

/// A method that can be called from afar.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) signature: Signature,
    /// The name that it is called by.
    pub(super) name: String,
    /// The name of its constant.
    pub(super) constant: Ident,
    /// What the constant takes over: documentation and deprecation.
    pub(super) attributes: Vec<Attribute>,
    /// Its documentation's first line.
    pub(super) doc: String,
    pub(super) blocking: bool,
    /// Whether a call must not be run twice.
    pub(super) at_most_once: bool,
    /// How long a call may run.
    pub(super) max_runtime_ms: Option<u64>,
}

/// A method that shapes a stream.
#[derive(Debug)]
pub(super) struct Hook {
    /// Any but [`Helper::Method`].
    pub(super) helper: Helper,
    pub(super) signature: Signature,
}

impl Method {
    pub(super) fn is_deprecated(&self) -> bool {
        let mut attributes = self.attributes.iter();
        attributes.any(|attribute| attribute.path().is_ident("deprecated"))
    }
}

impl<'a> Component<'a> {
    /// Checks everything.
    pub(super) fn model(kind: Kind, args: TokenStream, written: &'a Written) -> Result<Self> {
        let mut diagnostics = Diagnostics::default();
        let item = &written.item;
        let (name, palm) = model_options(kind, args, item, &mut diagnostics);
        let interface = item.trait_.as_ref().map(|(path, _)| path.clone());
        if let Some(path) = interface.as_ref().filter(|_| !kind.is_callable()) {
            let message = format!(
                "`#[palm::{}]` belongs on an inherent `impl` block: `impl {} {{ .. }}`",
                kind.attribute(),
                text::of(&item.self_ty),
            );
            diagnostics.push(path, message);
            return diagnostics.finish(None);
        }
        check_static(item, &mut diagnostics);
        let (methods, hooks) = model_functions(kind, written, &mut diagnostics);
        check_names(&methods, item, &mut diagnostics);
        check_hooks(&hooks, &mut diagnostics);
        check_purpose(kind, written, &mut diagnostics);
        diagnostics.finish(name.map(|name| Self {
            kind,
            palm,
            name,
            interface,
            item,
            cfgs: cfgs(&item.attrs),
            methods,
            hooks,
        }))
    }
}

fn model_options(
    kind: Kind,
    args: TokenStream,
    item: &ItemImpl,
    diagnostics: &mut Diagnostics,
) -> (Option<Name>, Palm) {
    let mut options = Options::parse(args, kind.attribute(), kind.options(), diagnostics);
    let palm = Palm(options.take_path(options::CRATE, diagnostics));
    let name = if kind.is_worker() {
        options.take_name(options::SERVER, diagnostics)
    } else {
        options.take_name(options::NAME, diagnostics)
    };
    let name = match name {
        Some(Ok(name)) => Some(Name::Literal(name)),
        Some(Err(Reported)) => None,
        None if item.trait_.is_some() => Some(Name::OfInterface),
        None if kind.is_worker() => Some(Name::Literal(LitStr::new("_", item.self_ty.span()))),
        None => {
            if !options.has_mistakes {
                let message = format!("give the {} a name: `{}`", kind.noun(), kind.usage());
                diagnostics.push(&item.self_ty, message);
            }
            None
        }
    };
    (name, palm)
}

/// A component lives as long as it likes, so it borrows nothing.
fn check_static(item: &ItemImpl, diagnostics: &mut Diagnostics) {
    let message = "a component outlives the call that starts it, so it cannot borrow: own the data, \
                   share it by `Arc`, or borrow for `'static`";
    for parameter in &item.generics.params {
        if let GenericParam::Lifetime(parameter) = parameter {
            diagnostics.push(parameter, message);
        }
    }
    if let Some(anonymous) = find_ident(item.self_ty.to_token_stream(), "_") {
        diagnostics.push(anonymous, message);
    }
}

fn model_functions(
    kind: Kind,
    written: &Written,
    diagnostics: &mut Diagnostics,
) -> (Vec<Method>, Vec<Hook>) {
    for Mark { helper, attribute } in &written.misplaced {
        let message = format!("`#[palm::{}]` belongs on a method", helper.name());
        diagnostics.push(attribute, message);
    }
    let mut methods = Vec::new();
    let mut hooks = Vec::new();
    for MarkedFunction { function, marks } in &written.functions {
        let [first, others @ ..] = marks.as_slice() else {
            panic!("bug in palm-macros: a marked function without a mark");
        };
        for other in others {
            let message = format!(
                "`{}` has `#[palm::{}]` already: a method has one of these attributes",
                function.sig.ident,
                first.helper.name(),
            );
            diagnostics.push(&other.attribute, message);
        }
        if let Some(refusal) = kind.refuses(first.helper) {
            diagnostics.push(&first.attribute, refusal);
            continue;
        }
        let signature = Signature::model(
            kind,
            first.helper,
            &function.sig,
            &function.attrs,
            diagnostics,
        );
        let options = model_helper_options(first, written, &signature, diagnostics);
        match first.helper {
            Helper::Method => {
                let ident = signature.ident.unraw();
                let constant = text::screaming_snake(&ident.to_string());
                methods.push(Method {
                    name: options.name.unwrap_or_else(|| ident.to_string()),
                    constant: Ident::new(&constant, signature.ident.span()),
                    attributes: attributes_of_constant(&function.attrs),
                    doc: text::first_doc_line(&function.attrs),
                    blocking: options.blocking,
                    at_most_once: options.at_most_once,
                    max_runtime_ms: options.max_runtime_ms,
                    signature,
                });
            }
            helper => hooks.push(Hook { helper, signature }),
        }
    }
    (methods, hooks)
}

struct HelperOptions {
    name: Option<String>,
    blocking: bool,
    at_most_once: bool,
    max_runtime_ms: Option<u64>,
}

fn model_helper_options(
    mark: &Mark,
    written: &Written,
    signature: &Signature,
    diagnostics: &mut Diagnostics,
) -> HelperOptions {
    let accepted: &[_] = match mark.helper {
        // The interface names its functions.
        Helper::Method if written.item.trait_.is_some() => &[
            options::BLOCKING,
            options::AT_MOST_ONCE,
            options::MAX_RUNTIME_MS,
        ],
        Helper::Method => &[
            options::NAME,
            options::BLOCKING,
            options::AT_MOST_ONCE,
            options::MAX_RUNTIME_MS,
        ],
        Helper::Scatter | Helper::Gather | Helper::HandleStream => &[],
    };
    let args = match &mark.attribute.meta {
        Meta::Path(_) => TokenStream::new(),
        Meta::List(list) => list.tokens.clone(),
        Meta::NameValue(value) => {
            let usage = match mark.helper {
                Helper::Method => "#[palm::method(name = \"...\")]".to_owned(),
                helper => format!("#[palm::{}]", helper.name()),
            };
            diagnostics.push(value, format_args!("write `{usage}`"));
            TokenStream::new()
        }
    };
    let mut options = Options::parse(args, mark.helper.name(), accepted, diagnostics);
    let name = options.take_name(options::NAME, diagnostics);
    let blocking = options.take_flag(options::BLOCKING, diagnostics);
    if let Some(blocking) = &blocking {
        if signature.is_async {
            let message = "an `async` method is not `blocking`: take away one of the two";
            diagnostics.push(blocking, message);
        } else if signature.output.yields == Yields::Stream {
            let message = "a `blocking` method cannot return a stream: return an iterator, or take away `blocking`";
            diagnostics.push(blocking, message);
        }
    }
    if blocking.is_none() && signature.output.hides_iterator {
        let message = "the iterator behind `impl IntoIterator` may be bound to its thread: return `impl Iterator<..>`, or \
                       `impl IntoIterator<.., IntoIter: Send>`";
        diagnostics.push(&signature.output.ty, message);
    }
    HelperOptions {
        name: name.and_then(|name| name.ok()).map(|name| name.value()),
        blocking: blocking.is_some(),
        at_most_once: options
            .take_flag(options::AT_MOST_ONCE, diagnostics)
            .is_some(),
        max_runtime_ms: options.take_number(options::MAX_RUNTIME_MS, diagnostics),
    }
}

/// Methods must differ in their names and in those of their constants.
fn check_names(methods: &[Method], item: &ItemImpl, diagnostics: &mut Diagnostics) {
    let mut by_name: HashMap<&str, &Method> = HashMap::new();
    let mut by_constant: HashMap<String, &Method> = HashMap::new();
    for method in methods {
        let ident = &method.signature.ident;
        if let Some(other) = by_name.insert(&method.name, method)
            && !are_alternatives(&method.signature, &other.signature)
        {
            let message = format!(
                "`{ident}` and `{}` would both be called `{}`: give one another name with \
                 `#[palm::method(name = \"...\")]`",
                other.signature.ident, method.name,
            );
            diagnostics.push(ident, message);
        } else if let Some(other) = by_constant.insert(method.constant.to_string(), method)
            && !are_alternatives(&method.signature, &other.signature)
        {
            let message = format!(
                "the constants of `{ident}` and `{}` would both be called `{}`: rename one of the methods",
                other.signature.ident, method.constant,
            );
            diagnostics.push(ident, message);
        }
        if let Some(problem) = problem_of_name(&method.name) {
            diagnostics.push(ident, problem);
        }
        if item
            .items
            .iter()
            .any(|member| is_called(member, &method.constant))
        {
            let message = format!(
                "the constant that stands for `{ident}` would be called `{}`, and there is such an item in \
                 this block: rename one",
                method.constant,
            );
            diagnostics.push(ident, message);
        }
    }
}

fn is_called(member: &ImplItem, name: &Ident) -> bool {
    match member {
        ImplItem::Const(member) => member.ident == *name,
        ImplItem::Fn(member) => member.sig.ident == *name,
        _ => false,
    }
}

/// Each hook shapes the whole stream, so there is one of each.
fn check_hooks(hooks: &[Hook], diagnostics: &mut Diagnostics) {
    for (index, hook) in hooks.iter().enumerate() {
        let other = hooks[..index].iter().find(|other| {
            other.helper == hook.helper && !are_alternatives(&other.signature, &hook.signature)
        });
        if let Some(other) = other {
            let message = format!(
                "`{}` is `#[palm::{}]` already: there is one of them in a component",
                other.signature.ident,
                hook.helper.name(),
            );
            diagnostics.push(&hook.signature.ident, message);
        }
    }
}

/// Whether both may be meant for different `cfg`s. If they are not, rustc says so.
fn are_alternatives(one: &Signature, other: &Signature) -> bool {
    !one.cfgs.is_empty() && !other.cfgs.is_empty()
}

/// A component has something to offer.
fn check_purpose(kind: Kind, written: &Written, diagnostics: &mut Diagnostics) {
    let marks = || {
        written
            .functions
            .iter()
            .flat_map(|function| &function.marks)
    };
    let is_served = |mark: &Mark| !kind.is_callable() || mark.helper == Helper::Method;
    // An attribute in the wrong place is a mistake in itself, and shows what was meant.
    let is_misplaced = |mark: &Mark| kind.refuses(mark.helper).is_some();
    if written.misplaced.is_empty() && !marks().any(|mark| is_served(mark) || is_misplaced(mark)) {
        diagnostics.push(&written.item.self_ty, nothing_marked(kind));
    }
}

fn nothing_marked(kind: Kind) -> String {
    match kind {
        Kind::Master => "this master overrides nothing: mark a method with `#[palm::scatter]`, `#[palm::gather]` or \
                         `#[palm::handle_stream]`, or use `palm::Master::new(\"...\")` without an `impl`"
            .to_owned(),
        Kind::Hub => "this hub overrides nothing: mark a method with `#[palm::scatter]`, `#[palm::gather]` or \
                      `#[palm::handle_stream]`, or use `palm::Hub::new(\"...\")` without an `impl`"
            .to_owned(),
        _ => format!(
            "this {} has nothing to call: mark the methods that others may call with `#[palm::method]`",
            kind.noun()
        ),
    }
}
