//! Queries about parsed syntax.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{Attribute, Ident, PathSegment, Type};

/// Returns the `cfg` attributes of an item.
pub(crate) fn cfgs(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .cloned()
        .collect()
}

/// Returns the attributes that a generated item copies from the user's: documentation and deprecation.
pub(crate) fn copied_attributes(attributes: &[Attribute]) -> Vec<Attribute> {
    attributes
        .iter()
        .filter(|attribute| {
            attribute.path().is_ident("doc") || attribute.path().is_ident("deprecated")
        })
        .cloned()
        .collect()
}

/// Returns the first identifier or keyword `name` in `tokens`.
pub(crate) fn find_ident(tokens: TokenStream, name: &str) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) => (ident == name).then_some(ident),
        TokenTree::Group(group) => find_ident(group.stream(), name),
        _ => None,
    })
}

/// Returns the last segment of a type's path.
///
/// Looks through the invisible groups that `macro_rules` puts around types.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

/// Maps the members of an item, which are in the braces at its end.
pub(crate) fn map_members(
    item: TokenStream,
    map: impl FnOnce(TokenStream) -> TokenStream,
) -> TokenStream {
    let mut tokens: Vec<_> = item.into_iter().collect();
    if let Some(TokenTree::Group(members)) = tokens.last_mut()
        && members.delimiter() == Delimiter::Brace
    {
        let mut mapped = Group::new(Delimiter::Brace, map(members.stream()));
        mapped.set_span(members.span());
        *members = mapped;
    }
    tokens.into_iter().collect()
}
