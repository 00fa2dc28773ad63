//! No text makes the parser, the formatter or the pictures of mistakes fail.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use palm_plan::{Cluster, Mistakes, Places, Scale, import};
use proptest::prelude::*;
use proptest::sample::select;

/// Returns the files of the rules.
fn files() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|it| it == "toml"));
    files
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// Returns the place of a character in a text, as a share of its length.
fn place(text: &str, share: f64) -> usize {
    let mut at = (text.len() as f64 * share) as usize;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn check_mistakes(text: &str, mistakes: &Mistakes) {
    for mistake in mistakes.list() {
        let related = mistake.related.iter().map(|(span, _)| span);
        for span in related.chain([&mistake.span]) {
            assert!(
                text.get(span.clone()).is_some(),
                "{span:?} is not in the text"
            );
        }
        assert!(!mistake.message.contains('\n'), "{}", mistake.message);
    }
    assert_eq!(mistakes.render(false), mistakes.to_string());
    let list: serde_json::Value = serde_json::from_str(&mistakes.to_json()).unwrap();
    assert_eq!(list.as_array().unwrap().len(), mistakes.list().len());
}

fn check(text: &str) {
    match Cluster::parse("cluster.toml", text) {
        Err(mistakes) => {
            assert!(mistakes.has_errors());
            check_mistakes(text, &mistakes);
        }
        Ok(cluster) => {
            check_mistakes(text, cluster.warnings());
            let places = Places {
                runtime_dir: "/run".into(),
                file_dir: "/".into(),
                ..Places::default()
            };
            let instances = cluster.instances(&Scale::default(), &places).unwrap();
            let plan = palm_plan::plan(&instances, &instances);
            assert!(plan.is_empty());
            assert!(cluster.tree().lines().count() > cluster.keys().count());
            assert!(cluster.dot().ends_with("}\n"));
        }
    }
    if let Ok(formatted) = palm_plan::format(text) {
        assert_eq!(palm_plan::format(&formatted).unwrap(), formatted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changed_files_have_mistakes_within_their_text(
        file in select(files()),
        other in select(files()),
        begin in 0.0..1.0,
        length in 0.0..0.2,
        from in 0.0..1.0,
    ) {
        let begin = place(&file, begin);
        let end = begin + place(&file[begin..], length);
        let from = place(&other, from);
        let to = from + place(&other[from..], length);
        check(&format!("{}{}{}", &file[..begin], &other[from..to], &file[end..]));
        check(&format!("{}{}", &file[..begin], &file[end..]));
    }

    #[test]
    fn any_text_is_read_or_has_mistakes(text in r#"([a-z"'\[\]{}=.\n#,0-9]|name = "a"\n|\[components\.a\]\n|kind = "server"\n|é)*"#) {
        check(&text);
        // The imported file is TOML.
        if let Ok(imported) = import("a", &text) {
            prop_assert!(palm_plan::format(&imported).is_ok(), "{imported}");
            check(&imported);
        }
    }
}
