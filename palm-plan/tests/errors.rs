//! The chapter on errors describes each code, and only these.

use palm_plan::mistake::{CHAPTER, Code};

#[test]
fn chapter_has_a_section_for_each_code_in_their_order() {
    let headings = CHAPTER.lines().filter_map(|line| line.strip_prefix("## "));
    let codes = Code::ALL
        .iter()
        .map(|code| format!("{}: {}", code.name(), code.title()));
    assert_eq!(headings.collect::<Vec<_>>(), codes.collect::<Vec<_>>());
}

#[test]
fn explanation_of_a_code_is_its_section() {
    for code in Code::ALL {
        let explanation = code.explanation();
        assert!(explanation.starts_with(&format!("## {}", code.name())));
        assert_eq!(explanation.matches("\n## ").count(), 0);
        assert!(explanation.lines().count() >= 3, "{explanation}");
        assert!(!explanation.contains("]: "), "{explanation}");
    }
}
