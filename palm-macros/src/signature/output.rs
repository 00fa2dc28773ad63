//! [`Output`]: what a method returns, and how many results a call has.
//!
//! Macros see no types, so the rules here read the names of well-known types and traits.

use proc_macro2::Span;
use quote::ToTokens as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit_mut::VisitMut;
use syn::{
    GenericArgument, Ident, Lifetime, PathArguments, PathSegment, ReturnType, Token, Type,
    TypeParamBound, TypeReference,
};

use crate::diagnostics::Diagnostics;
use crate::helper::Helper;
use crate::kind::Kind;
use crate::paths::at;
use crate::syntax::{find_ident, last_segment};

/// The return type of a method.
#[derive(Debug)]
pub(crate) struct Output {
    /// The type as written; `None` if there is no `->`.
    pub(crate) ty: Option<Type>,
    pub(crate) yields: Yields,
    /// What a caller receives.
    pub(crate) answer: Answer,
    /// Whether the value, or each item, is written as a `Result`.
    pub(crate) gives_results: bool,
    /// Whether the iterator or stream is inside a `Result`.
    pub(crate) is_fallible: bool,
    /// Whether it is an `impl IntoIterator` without bounds on its iterator, which rustc then does not know to be
    /// `Send`.
    pub(crate) hides_iterator: bool,
    /// Whether the type contains `impl Trait`, so that expanded code cannot name it.
    pub(crate) is_opaque: bool,
}

/// What a caller receives: the value or item, without `Result`s and `Option`s that are written as such.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The method returns nothing.
    None,
    /// A type that expanded code cannot name.
    Opaque,
    /// This type, with every lifetime `'static`.
    Type(Type),
    /// The items of this iterator.
    ItemOfIterator(Type),
    /// The items of this stream.
    ItemOfStream(Type),
}

/// How a method returns its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yields {
    /// The value is the result.
    One,
    /// An `IntoIterator` of results.
    Iterator,
    /// A `Stream` of results.
    Stream,
}

impl Output {
    pub(super) fn model(
        kind: Kind,
        helper: Helper,
        signature: &syn::Signature,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let always_many = match helper {
            Helper::Method => kind == Kind::MuxWorker,
            Helper::Scatter | Helper::Gather => true,
            Helper::HandleStream => false,
        };
        let ReturnType::Type(_, ty) = &signature.output else {
            if let Some(message) = missing(kind, helper) {
                diagnostics.push(&signature.ident, message);
            }
            return Self {
                ty: None,
                yields: Yields::One,
                answer: Answer::None,
                gives_results: false,
                is_fallible: false,
                hides_iterator: false,
                is_opaque: false,
            };
        };
        let (yields, is_fallible) = match (helper, ok_type(ty)) {
            (Helper::HandleStream, _) => (Yields::One, false),
            (_, Some(ok)) => match yields(ok) {
                Yields::One if always_many => (Yields::Iterator, true),
                Yields::One => (Yields::One, false),
                many => (many, true),
            },
            (_, None) => match yields(ty) {
                Yields::One if always_many => (Yields::Iterator, false),
                other => (other, false),
            },
        };
        if kind == Kind::HttpWorker && helper == Helper::Method && yields != Yields::One {
            let message = "an HTTP worker sends one response per request: return one value, such as `Json<Vec<T>>`";
            diagnostics.push(ty, message);
        }
        if always_many && let Some(one) = one_value(ok_type(ty).unwrap_or(ty)) {
            diagnostics.push(ty, not_many(kind, helper, one));
        }
        let value = ok_type(ty).unwrap_or(ty);
        let item = (yields != Yields::One).then(|| item_type(value)).flatten();
        Self {
            ty: Some(Type::clone(ty)),
            yields,
            answer: answer(yields, value, item),
            gives_results: match yields {
                Yields::One => ok_type(ty).is_some(),
                Yields::Iterator | Yields::Stream => item.and_then(ok_type).is_some(),
            },
            is_fallible,
            hides_iterator: hides_iterator(ok_type(ty).unwrap_or(ty)),
            is_opaque: is_opaque(ty),
        }
    }

    /// Returns the span for errors about the return type: that of the type, or of the method's name if there is none.
    pub(crate) fn span(&self, method: &Ident) -> Span {
        at(self.ty.as_ref().map_or(method.span(), |ty| ty.span()))
    }
}

fn missing(kind: Kind, helper: Helper) -> Option<String> {
    let what = helper.name();
    match helper {
        Helper::Method if kind == Kind::MuxWorker => Some(
            "a method of a mux worker returns its results: an iterator, a `Vec` or a stream of payloads".to_owned(),
        ),
        Helper::Method => None,
        Helper::Scatter | Helper::Gather => Some(format!(
            "a `#[palm::{what}]` returns messages: `-> impl Iterator<Item = Message>`, or a `Vec` or stream of them"
        )),
        Helper::HandleStream => Some(format!(
            "a `#[palm::{what}]` returns a topic and the message: `-> (&'static str, Message)`"
        )),
    }
}

fn not_many(kind: Kind, helper: Helper, one: &str) -> String {
    match helper {
        Helper::Method => format!(
            "a method of a {} returns many results, but `{one}` is a single one: return `Vec<{one}>`, an iterator or \
             a stream, or use `#[palm::worker]`",
            kind.noun(),
        ),
        _ => format!(
            "a `#[palm::{}]` returns messages, but this is `{one}`: return `Vec<Message>` or an iterator or stream of \
             `Message`",
            helper.name(),
        ),
    }
}

/// Returns the name of a type that is a single payload or message, even if it implements `IntoIterator`.
fn one_value(ty: &Type) -> Option<&'static str> {
    match ty {
        Type::Reference(_) => None,
        _ => {
            let segment = last_segment(ty)?;
            match segment.ident.to_string().as_str() {
                "Bytes" => Some("Bytes"),
                "ByteString" => Some("ByteString"),
                "String" => Some("String"),
                "Message" => Some("Message"),
                "Vec" => match first_type(segment).and_then(last_segment) {
                    Some(element) if element.ident == "u8" => Some("Vec<u8>"),
                    _ => None,
                },
                _ => None,
            }
        }
    }
}

/// Returns the `T` of a `Result<T, E>` or `Result<T>`.
pub(crate) fn ok_type(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty)?;
    (segment.ident == "Result").then(|| first_type(segment))?
}

/// Returns the `T` of an `Option<T>`.
fn some_type(ty: &Type) -> Option<&Type> {
    let segment = last_segment(ty)?;
    (segment.ident == "Option").then(|| first_type(segment))?
}

fn answer(yields: Yields, value: &Type, item: Option<&Type>) -> Answer {
    let mut ty = match (yields, item) {
        (Yields::One, _) | (_, None) => value,
        (_, Some(item)) => item,
    };
    while let Some(inner) = ok_type(ty).or_else(|| some_type(ty)) {
        ty = inner;
    }
    if is_opaque(ty) {
        return Answer::Opaque;
    }
    let ty = without_lifetimes(ty);
    match (yields, item) {
        (Yields::Iterator, None) => Answer::ItemOfIterator(ty),
        (Yields::Stream, None) => Answer::ItemOfStream(ty),
        _ if is_unit(&ty) => Answer::None,
        _ => Answer::Type(ty),
    }
}

fn is_unit(ty: &Type) -> bool {
    match ty {
        Type::Tuple(tuple) => tuple.elems.is_empty(),
        Type::Group(group) => is_unit(&group.elem),
        Type::Paren(paren) => is_unit(&paren.elem),
        _ => false,
    }
}

/// Returns the `X` of an `impl Iterator<Item = X>`, a `Vec<X>` or a `BoxStream<X>`.
fn item_type(ty: &Type) -> Option<&Type> {
    let bounds = match ty {
        Type::ImplTrait(ty) => &ty.bounds,
        Type::TraitObject(ty) => &ty.bounds,
        Type::Group(group) => return item_type(&group.elem),
        Type::Paren(paren) => return item_type(&paren.elem),
        _ => {
            let segment = last_segment(ty)?;
            return match segment.ident.to_string().as_str() {
                "Vec" | "BoxStream" => first_type(segment),
                "Box" | "Pin" => item_type(first_type(segment)?),
                _ => None,
            };
        }
    };
    let bound = bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last(),
        _ => None,
    })?;
    let PathArguments::AngleBracketed(arguments) = &bound.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
        _ => None,
    })
}

fn is_opaque(ty: &Type) -> bool {
    find_ident(ty.to_token_stream(), "impl").is_some()
}

/// Returns the type with every lifetime `'static`, as a constant needs it.
pub(crate) fn without_lifetimes(ty: &Type) -> Type {
    struct Static;

    impl VisitMut for Static {
        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            lifetime.ident = Ident::new("static", lifetime.ident.span());
        }

        fn visit_type_reference_mut(&mut self, reference: &mut TypeReference) {
            let lifetime = || Lifetime::new("'static", reference.and_token.span);
            reference.lifetime = Some(lifetime());
            syn::visit_mut::visit_type_mut(self, &mut reference.elem);
        }
    }

    let mut ty = ty.clone();
    Static.visit_type_mut(&mut ty);
    ty
}

/// Returns how a method returns its results, if it returns a `ty`.
///
/// Recognises `impl` and `dyn` of the well-known traits, boxed or not, and types whose name ends in `Stream`.
pub(crate) fn yields(ty: &Type) -> Yields {
    match ty {
        Type::ImplTrait(ty) => yields_of_bounds(&ty.bounds),
        Type::TraitObject(ty) => yields_of_bounds(&ty.bounds),
        Type::Group(group) => yields(&group.elem),
        Type::Paren(paren) => yields(&paren.elem),
        Type::Path(_) => match last_segment(ty) {
            Some(segment) if segment.ident == "Box" || segment.ident == "Pin" => {
                first_type(segment).map_or(Yields::One, yields)
            }
            Some(segment) if segment.ident.to_string().ends_with("Stream") => Yields::Stream,
            _ => Yields::One,
        },
        _ => Yields::One,
    }
}

fn yields_of_bounds(bounds: &Punctuated<TypeParamBound, Token![+]>) -> Yields {
    bounds
        .iter()
        .find_map(|bound| {
            let TypeParamBound::Trait(bound) = bound else {
                return None;
            };
            let name = bound.path.segments.last()?.ident.to_string();
            match name.as_str() {
                "Iterator" | "IntoIterator" | "DoubleEndedIterator" | "ExactSizeIterator" => {
                    Some(Yields::Iterator)
                }
                "Stream" => Some(Yields::Stream),
                _ => None,
            }
        })
        .unwrap_or(Yields::One)
}

fn hides_iterator(ty: &Type) -> bool {
    let Type::ImplTrait(ty) = ty else {
        return false;
    };
    ty.bounds.iter().any(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|segment| {
            segment.ident == "IntoIterator"
                && find_ident(segment.arguments.to_token_stream(), "IntoIter").is_none()
        }),
        _ => false,
    })
}

fn first_type(segment: &PathSegment) -> Option<&Type> {
    types(segment).next()
}

fn types(segment: &PathSegment) -> impl Iterator<Item = &Type> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments
        .into_iter()
        .flatten()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}
