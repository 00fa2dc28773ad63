//! [`Block`]: the annotated `impl` block, with its helper attributes separated from it.
//!
//! The only rule here is that the item is an `impl` block. Bodies of methods need not parse: rustc has parsed the
//! item before it calls the macro and has reported their syntax errors.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{
    Attribute, Error, Ident, ImplItem, ImplItemConst, ImplItemFn, ImplItemMacro, ImplItemType,
    Item, ItemImpl, Result, parse_quote,
};

use crate::diagnostics::Diagnostics;
use crate::helper::{Helper, without_helper_attributes};
use crate::kind::Kind;
use crate::paths::PalmPath;
use crate::syntax::map_members;
use crate::text;

/// An `impl` block and the helper attributes in it.
#[derive(Debug)]
pub(crate) struct Block {
    /// The block without helper attributes. If a body does not parse, the bodies are empty.
    pub(crate) item: ItemImpl,
    /// The block as it is expanded: without helper attributes, with all bodies.
    pub(crate) tokens: TokenStream,
    /// The methods with helper attributes.
    pub(crate) marked: Vec<MarkedMethod>,
    /// The methods without helper attributes.
    pub(crate) unmarked: Vec<ImplItemFn>,
    /// Helper attributes on members that are not methods.
    pub(crate) misplaced: Vec<HelperAttribute>,
}

/// A method with at least one helper attribute, and the attributes separated from it.
#[derive(Debug)]
pub(crate) struct MarkedMethod {
    pub(crate) function: ImplItemFn,
    pub(crate) attributes: Vec<HelperAttribute>,
}

#[derive(Debug)]
pub(crate) struct HelperAttribute {
    pub(crate) helper: Helper,
    pub(crate) attribute: Attribute,
}

impl Block {
    /// Parses `item` under the attribute `kind`, and reports misspelt helper attributes.
    pub(crate) fn parse(
        kind: Kind,
        palm: &PalmPath,
        item: TokenStream,
        diagnostics: &mut Diagnostics,
    ) -> Result<Self> {
        let (item, tokens) = match syn::parse2(item.clone()) {
            Ok(Item::Impl(item)) => (item, None),
            Ok(other) => return Err(not_an_impl(kind, &other)),
            Err(error) => match syn::parse2(without_bodies(item.clone())) {
                Ok(block) => (block, Some(without_helper_attributes(item))),
                Err(_) => return Err(error),
            },
        };
        let mut block = Self {
            item,
            tokens: TokenStream::new(),
            marked: Vec::new(),
            unmarked: Vec::new(),
            misplaced: Vec::new(),
        };
        block.separate(|attribute| palm.is_parent_of(attribute.path()), diagnostics);
        if block.marked.is_empty() {
            // Without any marked method, an unqualified attribute of a similar name can only be a mistake.
            block.separate(
                |attribute| attribute.path().get_ident().is_some(),
                diagnostics,
            );
        }
        block.tokens = tokens.unwrap_or_else(|| block.item.to_token_stream());
        Ok(block)
    }

    /// Separates the helper attributes from the members, and misspelt ones that are `meant` for palm.
    fn separate(&mut self, meant: impl Fn(&Attribute) -> bool, diagnostics: &mut Diagnostics) {
        let implements_interface = self.item.trait_.is_some();
        self.unmarked.clear();
        for member in &mut self.item.items {
            match member {
                ImplItem::Fn(function) => {
                    let mut attributes = take(&mut function.attrs, &meant, diagnostics);
                    if implements_interface && attributes.is_empty() {
                        // Every function of an interface is callable.
                        attributes.push(HelperAttribute {
                            helper: Helper::Method,
                            attribute: parse_quote!(#[method]),
                        });
                    }
                    let function = function.clone();
                    if attributes.is_empty() {
                        self.unmarked.push(function);
                    } else {
                        self.marked.push(MarkedMethod {
                            function,
                            attributes,
                        });
                    }
                }
                ImplItem::Const(ImplItemConst { attrs, .. })
                | ImplItem::Type(ImplItemType { attrs, .. })
                | ImplItem::Macro(ImplItemMacro { attrs, .. }) => {
                    self.misplaced.extend(take(attrs, &meant, diagnostics));
                }
                _ => {}
            }
        }
    }
}

/// Removes the helper attributes from `attributes`, and reports misspelt ones.
fn take(
    attributes: &mut Vec<Attribute>,
    meant: impl Fn(&Attribute) -> bool,
    diagnostics: &mut Diagnostics,
) -> Vec<HelperAttribute> {
    let mut taken = Vec::new();
    attributes.retain(|attribute| {
        let helper = if let Some(helper) = Helper::from_attribute(attribute) {
            helper
        } else if let Some(helper) = Helper::from_misspelling(attribute)
            && meant(attribute)
        {
            let path = attribute.path();
            let message = format!(
                "unknown attribute `{}`; did you mean `#[palm::{}]`?",
                text::source(path),
                helper.name()
            );
            diagnostics.push(path, message);
            helper
        } else {
            return true;
        };
        let attribute = attribute.clone();
        taken.push(HelperAttribute { helper, attribute });
        false
    });
    taken
}

/// Empties the bodies of the methods in a block, because syn may reject their syntax.
fn without_bodies(item: TokenStream) -> TokenStream {
    map_members(item, |members| {
        let members = members.into_iter().map(|token| match token {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                let mut empty = Group::new(Delimiter::Brace, TokenStream::new());
                empty.set_span(body.span());
                TokenTree::Group(empty)
            }
            token => token,
        });
        members.collect()
    })
}

fn not_an_impl(kind: Kind, item: &Item) -> Error {
    let (what, ident): (&str, Option<&Ident>) = match item {
        Item::Struct(item) => ("a struct", Some(&item.ident)),
        Item::Enum(item) => ("an enum", Some(&item.ident)),
        Item::Fn(item) => ("a function", Some(&item.sig.ident)),
        Item::Mod(item) => ("a module", Some(&item.ident)),
        Item::Trait(item) => ("a trait", Some(&item.ident)),
        _ => ("this item", None),
    };
    let usage = kind.usage();
    let self_ty = match item {
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        _ => "MyComponent".to_owned(),
    };
    let message = format!(
        "`#[palm::{}]` belongs on an `impl` block, not on {what}: `{usage} impl {self_ty} {{ .. }}`",
        kind.attribute(),
    );
    match ident {
        Some(ident) => Error::new_spanned(ident, message),
        None => Error::new(Span::call_site(), message),
    }
}
