//! Questions to what syn has parsed.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Ident, PathSegment, Type};

/// Under which conditions an item exists.
pub(crate) fn cfgs(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .cloned()
        .collect()
}

/// What a generated item takes over: documentation and deprecation.
pub(crate) fn attributes_of_constant(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter(|attribute| {
            attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
        })
        .cloned()
        .collect()
}

/// The first identifier `name` in `tokens`: of a keyword, the only way to use it.
pub(crate) fn find_ident(tokens: TokenStream, name: &str) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) => (ident == name).then_some(ident),
        TokenTree::Group(group) => find_ident(group.stream(), name),
        _ => None,
    })
}

/// The last name in a type's path, through the groups that `macro_rules` puts around types.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}
