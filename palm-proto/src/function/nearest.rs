//! Suggestions for misspelt function names.

/// Most names in a suggestion.
const MAX_LISTED: usize = 20;
/// Longest name that is compared with others, in bytes. The cost of a comparison is the product of the lengths.
const MAX_COMPARED: usize = 256;

/// Suggests known names that are similar to `name`, or lists all of them.
pub fn nearest(name: &str, known: &[&str]) -> String {
    let allowed = (name.chars().count() / 3).max(1);
    let distances = known
        .iter()
        .filter_map(|known| Some((distance(name, known)?, *known)));
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

/// Lists the names most similar to `name`, at most `MAX_LISTED`. Skips names longer than `MAX_COMPARED`.
pub fn nearest_first<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let known = known.filter(|known| known.len() <= MAX_COMPARED);
    let mut names: Vec<_> = known
        .map(|known| (distance(name, known).unwrap_or(usize::MAX), known))
        .collect();
    names.sort_unstable();
    names.truncate(MAX_LISTED);
    names.into_iter().map(|(_, name)| name).collect()
}

/// Returns the edit distance, or `None` for long names.
fn distance(name: &str, known: &str) -> Option<usize> {
    let is_short = name.len() <= MAX_COMPARED && known.len() <= MAX_COMPARED;
    is_short.then(|| strsim::osa_distance(name, known))
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
    fn nearest_suggests_similar_names_or_lists_all() {
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
    fn long_names_are_not_compared() {
        // Otherwise this would take minutes.
        let long = "x".repeat(1 << 20);
        assert_eq!(nearest(&long, &["size"]), "there are `size`");
        let long = ["x".repeat(1 << 20), "y".repeat(1 << 20)];
        let known = [long[1].as_str(), "size"];
        assert_eq!(nearest("siez", &known), "did you mean `size`?");
        assert!(nearest(&long[0], &known).starts_with("there are `yyy"));
    }

    #[test]
    fn nearest_first_sorts_by_similarity() {
        let long = "x".repeat(1 << 20);
        let known = ["colour", "thumbnails", "size", "thumbnail", &long];
        let nearest = nearest_first("thumbnial", known.into_iter());
        assert_eq!(nearest[..2], ["thumbnail", "thumbnails"]);
        assert_eq!(nearest.len(), 4);
        assert_eq!(nearest_first(&long, known.into_iter())[0], "colour");
        let many = nearest_first("a", ["b"; 100].into_iter());
        assert_eq!(many.len(), MAX_LISTED);
    }

    #[test]
    fn nearest_truncates_a_long_list() {
        let names: Vec<_> = (0..MAX_LISTED + 2).map(|it| format!("a{it}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(nearest("colour", &names).ends_with("`a19` and 2 more"));
        assert!(nearest("colour", &names[..MAX_LISTED]).ends_with("`a19`"));
    }
}
