//! The guide as a book: its table of contents, its links, and what it contains copies of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::documents::{
    BOOK, assert_none, chapters, definition, files, is_file, path, prose, read, rendered,
};

/// A link out of the folder of the book leads nowhere once the book is rendered.
#[test]
fn chapters_link_to_chapters() {
    let mut outside = Vec::new();
    for chapter in chapters() {
        let text = rendered(&chapter);
        let mut defined = BTreeMap::new();
        for (label, link) in prose(&text).filter_map(definition) {
            defined.entry(label.to_lowercase()).or_insert(link);
        }
        let inline = prose(&text).flat_map(|line| line.split("](").skip(1));
        let inline = inline.map(|link| link.split(')').next().unwrap());
        let links = inline.chain(defined.into_values());
        let found = links
            .filter(|link| is_file(link) && link.contains('/') && !link.starts_with("images/"));
        outside.extend(found.map(|link| format!("{chapter}: {link}")));
    }
    assert_none(&outside, "links out of the book");
}

#[test]
fn book_lists_each_chapter_once() {
    let summary = read(&format!("{BOOK}/SUMMARY.md"));
    let listed = summary.split("](").skip(1);
    let listed = listed.map(|link| format!("{BOOK}/{}", link.split(')').next().unwrap()));
    let mut listed: Vec<_> = listed.collect();
    listed.sort();
    assert_eq!(listed, chapters());
}

/// Returns the lines between `// ANCHOR: name` and `// ANCHOR_END: name` of a file, without their common indentation.
fn anchored(file: &str, name: &str) -> String {
    let text = read(file);
    let begin = format!("// ANCHOR: {name}\n");
    let end = format!("// ANCHOR_END: {name}\n");
    let found = text
        .split_once(&begin)
        .and_then(|(_, rest)| rest.split_once(&end));
    let (found, _) = found.unwrap_or_else(|| panic!("{file} has no part `{name}`"));
    // The last line is the indentation of the marker.
    let (found, _) = found.rsplit_once('\n').unwrap();
    let indentation = found.lines().filter(|line| !line.is_empty());
    let indentation = indentation
        .map(|line| line.len() - line.trim_start().len())
        .min();
    let lines = found
        .lines()
        .map(|line| line.get(indentation.unwrap()..).unwrap_or_default());
    lines.map(|line| format!("{line}\n")).collect()
}

/// A block of code after `<!-- file: name -->` is that part of the file, which is compiled and run by another test.
/// `PALM_BLESS=1` copies it.
#[test]
fn code_of_chapters_is_that_of_the_examples() {
    let mut different = Vec::new();
    let mut checked = 0;
    for chapter in chapters() {
        let text = read(&chapter);
        let mut copied = String::new();
        let mut rest = &*text;
        while let Some((before, after)) = rest.split_once("<!-- examples/") {
            let (source, after) = after.split_once(" -->\n").unwrap();
            let (file, name) = source.split_once(": ").unwrap();
            let (fence, after) = after.split_once('\n').unwrap();
            let (_, after) = after.split_once("```\n").unwrap();
            let code = anchored(&format!("examples/{file}"), name);
            copied.push_str(&format!(
                "{before}<!-- examples/{source} -->\n{fence}\n{code}```\n"
            ));
            rest = after;
            checked += 1;
        }
        copied.push_str(rest);
        if copied == text {
            continue;
        }
        if std::env::var_os("PALM_BLESS").is_some() {
            std::fs::write(path(&chapter), copied).unwrap();
        } else {
            different.push(chapter);
        }
    }
    assert_none(
        &different,
        "chapters whose code differs from the examples; `PALM_BLESS=1` copies it",
    );
    assert!(checked > 5, "only {checked} parts were found");
}

/// Pictures are data in the documentation of the crate, which has no place for files. `PALM_BLESS=1` copies them.
#[test]
fn pictures_in_the_documentation_are_those_of_the_book() {
    use base64::Engine as _;
    const PICTURES: &str = "docs/book/rustdoc-pictures.md";
    let mut text = String::new();
    for file in files(&format!("{BOOK}/images"), "svg") {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let picture =
            base64::engine::general_purpose::STANDARD.encode(std::fs::read(&file).unwrap());
        writeln!(text, "[{name}]: data:image/svg+xml;base64,{picture}").unwrap();
    }
    text.push('\n');
    if std::env::var_os("PALM_BLESS").is_some() {
        std::fs::write(path(PICTURES), text).unwrap();
    } else {
        assert!(
            read(PICTURES) == text,
            "{PICTURES} is not up to date; `PALM_BLESS=1` writes it"
        );
    }
}
