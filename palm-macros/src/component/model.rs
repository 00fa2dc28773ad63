//! [`Component`]: what the attribute and its block mean, checked by every rule that needs no types.
//!
//! The rules report all mistakes at once. A component with mistakes is still modelled as far as possible, for the
//! stand-ins that it expands to.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, GenericParam, Ident, ImplItem, ImplItemFn, ItemImpl, LitStr, Meta, Path};

use super::parse::{Block, HelperAttribute, MarkedMethod};
use crate::diagnostics::Diagnostics;
use crate::helper::Helper;
use crate::kind::Kind;
use crate::options::{self, AlreadyReported, Options, problem_of_name};
use crate::paths::PalmPath;
use crate::signature::{Signature, Yields};
use crate::syntax::{cfgs, copied_attributes, find_ident};
use crate::text;

/// A component: the annotated block with its options.
#[derive(Debug)]
pub(super) struct Component<'a> {
    pub(super) kind: Kind,
    pub(super) palm: PalmPath,
    /// The component's name, or the name of a worker's master.
    pub(super) name: Name,
    /// The interface that the block implements.
    pub(super) interface: Option<Path>,
    pub(super) block: &'a Block,
    /// The `cfg`s of the block.
    pub(super) cfgs: Vec<Attribute>,
    pub(super) methods: Vec<Method>,
    pub(super) hooks: Vec<Hook>,
    /// Methods that are not callable because of a mistake. They have constants in a stand-in.
    pub(super) mistaken: Vec<Method>,
}

/// The name of a component.
#[derive(Debug)]
pub(super) enum Name {
    Literal(LitStr),
    /// The name in the `#[palm::interface]` that the block implements.
    FromInterface,
}

/// A method that can be called remotely.
#[derive(Debug)]
pub(super) struct Method {
    pub(super) signature: Signature,
    /// The name that clients call it by.
    pub(super) name: String,
    /// The constant that stands for it.
    pub(super) constant: Ident,
    /// The attributes that the constant copies: documentation and deprecation.
    pub(super) attributes: Vec<Attribute>,
    /// The first line of its documentation.
    pub(super) doc: String,
    pub(super) blocking: bool,
    pub(super) at_most_once: bool,
    pub(super) max_runtime_ms: Option<u64>,
}

/// A method that shapes a stream of messages.
#[derive(Debug)]
pub(super) struct Hook {
    /// Any helper but [`Helper::Method`].
    pub(super) helper: Helper,
    pub(super) signature: Signature,
}

/// The options of a component's attribute.
#[derive(Debug)]
pub(super) struct ComponentOptions {
    pub(super) palm: PalmPath,
    name: Option<Result<LitStr, AlreadyReported>>,
    /// Whether a missing option may be a misspelt one.
    has_mistakes: bool,
}

impl ComponentOptions {
    pub(super) fn parse(kind: Kind, args: TokenStream, diagnostics: &mut Diagnostics) -> Self {
        let mut options = Options::parse(args, kind.attribute(), kind.options(), diagnostics);
        let name = if kind.is_worker() {
            options::SERVER
        } else {
            options::NAME
        };
        Self {
            palm: PalmPath(options.take_path(options::CRATE, diagnostics)),
            name: options.take_name(name, diagnostics),
            has_mistakes: options.has_mistakes,
        }
    }

    /// Returns the name of the component, which some kinds may leave out.
    fn name(&self, kind: Kind, item: &ItemImpl, diagnostics: &mut Diagnostics) -> Option<Name> {
        match &self.name {
            Some(Ok(name)) => Some(Name::Literal(name.clone())),
            Some(Err(AlreadyReported)) => None,
            None if item.trait_.is_some() && kind.is_callable() => Some(Name::FromInterface),
            None if kind.is_worker() => Some(unnamed(item)),
            None => {
                if !self.has_mistakes {
                    let message = format!("give the {} a name: `{}`", kind.noun(), kind.usage());
                    diagnostics.push(&item.self_ty, message);
                }
                None
            }
        }
    }
}

/// Returns the name that stands for any master.
fn unnamed(item: &ItemImpl) -> Name {
    Name::Literal(LitStr::new("_", item.self_ty.span()))
}

impl Method {
    fn new(function: &ImplItemFn, signature: Signature, options: HelperOptions) -> Self {
        let ident = signature.ident.unraw();
        let constant = text::screaming_snake(&ident.to_string());
        Self {
            name: options.name.unwrap_or_else(|| ident.to_string()),
            constant: Ident::new(&constant, signature.ident.span()),
            attributes: copied_attributes(&function.attrs),
            doc: text::first_doc_line(&function.attrs),
            blocking: options.blocking,
            at_most_once: options.at_most_once,
            max_runtime_ms: options.max_runtime_ms,
            signature,
        }
    }

    pub(super) fn is_deprecated(&self) -> bool {
        let mut attributes = self.attributes.iter();
        attributes.any(|attribute| attribute.path().is_ident("deprecated"))
    }
}

impl<'a> Component<'a> {
    /// Models `block` under the attribute `kind`, and checks everything.
    pub(super) fn model(
        kind: Kind,
        options: ComponentOptions,
        block: &'a Block,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let item = &block.item;
        let name = options.name(kind, item, diagnostics);
        let mut component = Self {
            kind,
            palm: options.palm,
            name: name.unwrap_or_else(|| unnamed(item)),
            interface: item.trait_.as_ref().map(|(path, _)| path.clone()),
            block,
            cfgs: cfgs(&item.attrs),
            methods: Vec::new(),
            hooks: Vec::new(),
            mistaken: Vec::new(),
        };
        if let Some(path) = component.interface.as_ref().filter(|_| !kind.is_callable()) {
            let message = format!(
                "`#[palm::{}]` belongs on an inherent `impl` block: `impl {} {{ .. }}`",
                kind.attribute(),
                text::source(&item.self_ty),
            );
            diagnostics.push(path, message);
            return component;
        }
        check_static(item, diagnostics);
        component.model_functions(diagnostics);
        check_names(&component.methods, item, diagnostics);
        check_hooks(&component.hooks, diagnostics);
        component.check_purpose(diagnostics);
        component
    }

    fn model_functions(&mut self, diagnostics: &mut Diagnostics) {
        for HelperAttribute { helper, attribute } in &self.block.misplaced {
            let message = format!("`#[palm::{}]` belongs on a method", helper.name());
            diagnostics.push(attribute, message);
        }
        for MarkedMethod {
            function,
            attributes,
        } in &self.block.marked
        {
            let [first, others @ ..] = attributes.as_slice() else {
                panic!("bug in palm-macros: a marked method without a helper attribute");
            };
            for other in others {
                let message = format!(
                    "`{}` already has `#[palm::{}]`: a method has one of these attributes",
                    function.sig.ident,
                    first.helper.name(),
                );
                diagnostics.push(&other.attribute, message);
            }
            if let Some(rejection) = self.kind.rejects(first.helper) {
                diagnostics.push(&first.attribute, rejection);
                self.add_mistaken(function, first.helper);
                continue;
            }
            let signature = Signature::model(
                self.kind,
                first.helper,
                &function.sig,
                &function.attrs,
                diagnostics,
            );
            let options = model_helper_options(first, self.block, &signature, diagnostics);
            match first.helper {
                Helper::Method => self.methods.push(Method::new(function, signature, options)),
                helper => self.hooks.push(Hook { helper, signature }),
            }
        }
    }

    /// Models a method for its constant alone, and reports nothing.
    fn add_mistaken(&mut self, function: &ImplItemFn, helper: Helper) {
        if helper == Helper::Method {
            let signature = Signature::model(
                self.kind,
                helper,
                &function.sig,
                &function.attrs,
                &mut Diagnostics::default(),
            );
            let options = HelperOptions::default();
            self.mistaken
                .push(Method::new(function, signature, options));
        }
    }

    /// Checks that the component has a method or a hook.
    fn check_purpose(&mut self, diagnostics: &mut Diagnostics) {
        let block = self.block;
        let attributes = block.marked.iter().flat_map(|method| &method.attributes);
        let mut helpers = attributes.map(|attribute| attribute.helper);
        // A rejected attribute is a mistake of its own, and shows what is meant.
        let is_purpose = |helper| {
            !self.kind.is_callable()
                || helper == Helper::Method
                || self.kind.rejects(helper).is_some()
        };
        if !block.misplaced.is_empty() || helpers.any(is_purpose) {
            return;
        }
        diagnostics.push(&block.item.self_ty, nothing_marked(self.kind));
        if self.kind.is_callable() {
            for function in &block.unmarked {
                if function.sig.receiver().is_some() {
                    self.add_mistaken(function, Helper::Method);
                }
            }
        }
    }
}

/// Checks that the component borrows nothing, since it lives until it is stopped.
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

#[derive(Debug, Default)]
struct HelperOptions {
    name: Option<String>,
    blocking: bool,
    at_most_once: bool,
    max_runtime_ms: Option<u64>,
}

fn model_helper_options(
    helper: &HelperAttribute,
    block: &Block,
    signature: &Signature,
    diagnostics: &mut Diagnostics,
) -> HelperOptions {
    let accepted: &[_] = match helper.helper {
        // The interface names its functions.
        Helper::Method if block.item.trait_.is_some() => &[
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
    let args = match &helper.attribute.meta {
        Meta::Path(_) => TokenStream::new(),
        Meta::List(list) => list.tokens.clone(),
        Meta::NameValue(value) => {
            let usage = match helper.helper {
                Helper::Method => "#[palm::method(name = \"...\")]".to_owned(),
                helper => format!("#[palm::{}]", helper.name()),
            };
            diagnostics.push(value, format_args!("write `{usage}`"));
            TokenStream::new()
        }
    };
    let mut options = Options::parse(args, helper.helper.name(), accepted, diagnostics);
    let name = options.take_name(options::NAME, diagnostics);
    let blocking = options.take_flag(options::BLOCKING, diagnostics);
    if let Some(blocking) = &blocking {
        if signature.is_async {
            let message = "an `async` method cannot be `blocking`: remove one of the two";
            diagnostics.push(blocking, message);
        } else if signature.output.yields == Yields::Stream {
            let message = "a `blocking` method cannot return a stream: return an iterator, or remove `blocking`";
            diagnostics.push(blocking, message);
        }
    }
    if blocking.is_none() && signature.output.hides_iterator {
        let message = "the iterator behind `impl IntoIterator` may not be `Send`: return `impl Iterator<..>` or \
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

/// Checks that methods differ in their names and in the names of their constants.
fn check_names(methods: &[Method], item: &ItemImpl, diagnostics: &mut Diagnostics) {
    let mut by_name: HashMap<&str, &Method> = HashMap::new();
    let mut by_constant: HashMap<String, &Method> = HashMap::new();
    for method in methods {
        let ident = &method.signature.ident;
        if let Some(other) = by_name.insert(&method.name, method)
            && !are_alternatives(&method.signature, &other.signature)
        {
            let message = format!(
                "`{ident}` and `{}` both have the name `{}`: rename one with \
                 `#[palm::method(name = \"...\")]`",
                other.signature.ident, method.name,
            );
            diagnostics.push(ident, message);
        } else if let Some(other) = by_constant.insert(method.constant.to_string(), method)
            && !are_alternatives(&method.signature, &other.signature)
        {
            let message = format!(
                "`{ident}` and `{}` both have the constant `{}`: rename one of the methods",
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
            .any(|member| has_name(member, &method.constant))
        {
            let message = format!(
                "the constant of `{ident}` is `{}`, and this block has an item of that name: rename one of them",
                method.constant,
            );
            diagnostics.push(ident, message);
        }
    }
}

pub(super) fn has_name(member: &ImplItem, name: &Ident) -> bool {
    match member {
        ImplItem::Const(member) => member.ident == *name,
        ImplItem::Fn(member) => member.sig.ident == *name,
        _ => false,
    }
}

/// Checks that there is one hook of each kind, since each shapes the whole stream.
fn check_hooks(hooks: &[Hook], diagnostics: &mut Diagnostics) {
    for (index, hook) in hooks.iter().enumerate() {
        let other = hooks[..index].iter().find(|other| {
            other.helper == hook.helper && !are_alternatives(&other.signature, &hook.signature)
        });
        if let Some(other) = other {
            let message = format!(
                "`{}` is already the `#[palm::{}]` of this component, which has at most one",
                other.signature.ident,
                hook.helper.name(),
            );
            diagnostics.push(&hook.signature.ident, message);
        }
    }
}

/// Whether both may exist under different `cfg`s. If not, rustc reports the duplicate.
fn are_alternatives(one: &Signature, other: &Signature) -> bool {
    !one.cfgs.is_empty() && !other.cfgs.is_empty()
}

fn nothing_marked(kind: Kind) -> String {
    match kind {
        Kind::Master => "this master has no hooks: mark a method with `#[palm::scatter]`, `#[palm::gather]` or \
                         `#[palm::handle_stream]`, or use `palm::Master::new(\"...\")` without an `impl`"
            .to_owned(),
        Kind::Hub => "this hub has no hooks: mark a method with `#[palm::scatter]`, `#[palm::gather]` or \
                      `#[palm::handle_stream]`, or use `palm::Hub::new(\"...\")` without an `impl`"
            .to_owned(),
        _ => format!(
            "this {} has no callable methods: mark each method that clients may call with `#[palm::method]`",
            kind.noun()
        ),
    }
}
