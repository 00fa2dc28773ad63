//! What was written, and where: the `impl` block, with the helper attributes taken out. No rules,
//! but that it is an `impl` block, without which there is nothing to go on with.

use proc_macro2::{Span, TokenStream};
use syn::{Attribute, Error, Ident, ImplItem, ImplItemFn, Item, ItemImpl, Result, parse_quote};

use crate::helper::Helper;
use crate::kind::Kind;

/// The block as it will be compiled, and the helper attributes that were in it.
#[derive(Debug)]
pub(crate) struct Written {
    /// Without helper attributes.
    pub(crate) item: ItemImpl,
    /// The methods that carried some.
    pub(crate) functions: Vec<MarkedFunction>,
    /// Helper attributes on what is no method.
    pub(crate) misplaced: Vec<Mark>,
}

/// A method, without helper attributes, and those that it carried: at least one.
#[derive(Debug)]
pub(crate) struct MarkedFunction {
    pub(crate) function: ImplItemFn,
    pub(crate) marks: Vec<Mark>,
}

/// A helper attribute.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) helper: Helper,
    pub(crate) attribute: Attribute,
}

impl Written {
    /// Parses `item` under the attribute `kind`.
    pub(crate) fn parse(kind: Kind, item: TokenStream) -> Result<Self> {
        let mut item = match syn::parse2(item)? {
            Item::Impl(item) => item,
            other => return Err(not_an_impl(kind, &other)),
        };
        let is_interface = item.trait_.is_some();
        let mut functions = Vec::new();
        let mut misplaced = Vec::new();
        for member in &mut item.items {
            match member {
                ImplItem::Fn(function) => {
                    let mut marks = take_marks(&mut function.attrs);
                    if is_interface && marks.is_empty() {
                        // All that an interface names can be called.
                        marks.push(Mark {
                            helper: Helper::Method,
                            attribute: parse_quote!(#[method]),
                        });
                    }
                    if !marks.is_empty() {
                        let function = function.clone();
                        functions.push(MarkedFunction { function, marks });
                    }
                }
                ImplItem::Const(member) => misplaced.extend(take_marks(&mut member.attrs)),
                ImplItem::Type(member) => misplaced.extend(take_marks(&mut member.attrs)),
                ImplItem::Macro(member) => misplaced.extend(take_marks(&mut member.attrs)),
                _ => {}
            }
        }
        Ok(Self {
            item,
            functions,
            misplaced,
        })
    }
}

fn take_marks(attributes: &mut Vec<Attribute>) -> Vec<Mark> {
    let mut marks = Vec::new();
    attributes.retain(|attribute| match Helper::of(attribute) {
        Some(helper) => {
            let attribute = attribute.clone();
            marks.push(Mark { helper, attribute });
            false
        }
        None => true,
    });
    marks
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
    let of = match item {
        Item::Struct(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        _ => "MyComponent".to_owned(),
    };
    let message = format!(
        "`#[palm::{}]` belongs on an `impl` block, not on {what}: `{usage} impl {of} {{ .. }}`",
        kind.attribute(),
    );
    match ident {
        Some(ident) => Error::new_spanned(ident, message),
        None => Error::new(Span::call_site(), message),
    }
}
