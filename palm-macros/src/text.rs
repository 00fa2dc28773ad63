//! Text from the user's code: types for listings, lines of documentation, names of constants, misspellings.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Expr, ExprLit, Lit, Meta};

/// Returns `syntax` as a user would write it. (Tokens do not record the spaces between them.)
pub(crate) fn source(syntax: impl ToTokens) -> String {
    let mut text = String::new();
    write_tokens(syntax.into_token_stream(), &mut text);
    text
}

fn write_tokens(tokens: TokenStream, text: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                if needs_space_before_group(text) && !open.is_empty() {
                    text.push(' ');
                }
                text.push_str(open);
                write_tokens(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                '-' if matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == '>') =>
                {
                    tokens.next();
                    text.push_str(" -> ");
                }
                ',' if tokens.peek().is_none() => {}
                separator @ (',' | ';') => text.extend([separator, ' ']),
                operator @ ('=' | '+') => text.extend([' ', operator, ' ']),
                other => text.push(other),
            },
            word @ (TokenTree::Ident(_) | TokenTree::Literal(_)) => {
                if text.ends_with(|last: char| {
                    last.is_alphanumeric() || matches!(last, '_' | '>' | ')' | ']')
                }) {
                    text.push(' ');
                }
                text.push_str(&word.to_string());
            }
        }
    }
}

/// Whether a group after `text` is separated by a space, as in `&'a [u8]` and `&mut [u8]`, but not `Fn(u8)`.
fn needs_space_before_group(text: &str) -> bool {
    let word_at = text
        .rfind(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .map_or(0, |index| index + 1);
    let (before, word) = text.split_at(word_at);
    !word.is_empty() && (before.ends_with('\'') || matches!(word, "mut" | "const" | "dyn" | "impl"))
}

/// Returns the first line of the documentation that is not empty; an empty string if there is none.
pub(crate) fn first_doc_line(attributes: &[Attribute]) -> String {
    attributes
        .iter()
        .filter_map(doc_text)
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| line.trim().trim_start_matches('*').trim_start().to_owned())
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the name of the constant for `name`: `THUMB_NAIL` for `thumb_nail` and `thumbNail`.
pub(crate) fn screaming_snake(name: &str) -> String {
    let mut constant = String::new();
    let mut after_lowercase = false;
    for letter in name.chars() {
        if letter.is_uppercase() && after_lowercase {
            constant.push('_');
        }
        after_lowercase = letter.is_lowercase() || letter.is_numeric();
        constant.extend(letter.to_uppercase());
    }
    constant
}

/// Whether `written` is close to `meant`: at most two letters (one in a short word) are wrong, missing, added or
/// swapped.
pub(crate) fn is_misspelling(written: &str, meant: &str) -> bool {
    let allowed = if meant.len() < 5 { 1 } else { 2 };
    strsim::osa_distance(written, meant) <= allowed
}

#[cfg(test)]
mod tests {
    use syn::{Type, parse_quote, parse_str};

    use super::*;

    #[test]
    fn source_writes_types_as_a_user_would() {
        for text in [
            "()",
            "Bytes",
            "&'static str",
            "&'a [u8]",
            "&mut [u8; 4]",
            "Json<Thumbnail>",
            "Result<Vec<u8>, Box<dyn Error + Send + Sync>>",
            "impl Iterator<Item = (u8, Bytes)> + use<'_, T>",
            "fn(u8) -> u8",
            "<Self as Trait>::Output",
            "crate::images::Image<'static, { N }>",
            "impl for<'a> Fn(&'a str) -> &'a str",
            "*const u8",
        ] {
            assert_eq!(source(parse_str::<Type>(text).unwrap()), text);
        }
    }

    #[test]
    fn first_doc_line_skips_empty_lines() {
        assert_eq!(first_doc_line(&[]), "");
        assert_eq!(
            first_doc_line(&[
                parse_quote!(#[doc = " One."]),
                parse_quote!(#[doc = " Two."])
            ]),
            "One."
        );
        assert_eq!(
            first_doc_line(&[parse_quote!(#[doc = "\n * One.\n * Two.\n"])]),
            "One."
        );
        assert_eq!(
            first_doc_line(&[
                parse_quote!(#[doc = include_str!("a")]),
                parse_quote!(#[doc(hidden)])
            ]),
            ""
        );
    }

    #[test]
    fn screaming_snake_separates_words() {
        assert_eq!(screaming_snake("thumb_nail2"), "THUMB_NAIL2");
        assert_eq!(screaming_snake("thumbNail"), "THUMB_NAIL");
        assert_eq!(screaming_snake("_größe"), "_GRÖSSE");
    }
}
