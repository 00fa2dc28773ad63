//! Hints for misspelt function names.

/// How many names a hint lists.
const MAX_LISTED: usize = 20;

/// Suggests the known names that resemble `name`, or lists what there is.
pub(crate) fn nearest(name: &str, known: &[&str]) -> String {
    let allowed = (name.chars().count() / 3).max(1);
    let distances = known
        .iter()
        .map(|known| (strsim::osa_distance(name, known), *known));
    let mut near: Vec<_> = distances
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    near.sort_unstable();
    if near.is_empty() {
        format!("there are {}", list(known.iter().copied(), known.len()))
    } else {
        let count = near.len();
        let names = near.into_iter().map(|(_, name)| name);
        format!("did you mean {}?", list(names, count))
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let names = names.take(MAX_LISTED).map(|name| format!("`{name}`"));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if count > MAX_LISTED {
        text.push_str(&format!(" and {} more", count - MAX_LISTED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_others_listed() {
        let known = ["thumbnail", "thumbnails", "size"];
        let hints = ["thumbnial", "siez", "sizes", "colour"].map(|name| nearest(name, &known));
        assert_eq!(
            hints,
            [
                "did you mean `thumbnail`, `thumbnails`?",
                "did you mean `size`?",
                "did you mean `size`?",
                "there are `thumbnail`, `thumbnails`, `size`",
            ]
        );
    }

    #[test]
    fn long_list_is_cut() {
        let names: Vec<_> = (0..MAX_LISTED + 2).map(|it| format!("a{it}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(nearest("colour", &names).ends_with("`a19` and 2 more"));
        assert!(nearest("colour", &names[..MAX_LISTED]).ends_with("`a19`"));
    }
}
