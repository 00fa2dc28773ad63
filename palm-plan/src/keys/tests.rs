use super::*;

#[test]
fn words_are_those_of_the_types() {
    assert_eq!(KINDS, Kind::ALL.map(Kind::name));
}

#[test]
fn each_key_is_in_its_table_once_and_documented() {
    for keys in [CLUSTER, LOGS, COMPONENT, REPLICAS, RESTART_TABLE, SECRET] {
        let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), keys.len());
        assert!(
            keys.iter()
                .all(|key| key.doc.ends_with('.') && !key.kinds.is_empty())
        );
    }
}

fn kinds(key: &Key) -> String {
    let names = |kinds: &[Kind]| {
        let names: Vec<_> = kinds.iter().map(|kind| format!("`{kind}`")).collect();
        names.join(", ")
    };
    let others: Vec<_> = ALL
        .iter()
        .copied()
        .filter(|kind| !key.kinds.contains(kind))
        .collect();
    match others.len() {
        0 => "all".to_owned(),
        1..=3 => format!("all but {}", names(&others)),
        _ => names(key.kinds),
    }
}

fn table(title: &str, keys: &[Key]) -> String {
    let mut table = format!("{title}\n\n| key | kinds | value |\n|---|---|---|\n");
    for key in keys {
        table += &format!("| `{}` | {} | {} |\n", key.name, kinds(key), key.doc);
    }
    table + "\n"
}

/// `UPDATE_EXPECT=1` writes them.
#[test]
fn tables_of_the_guide_are_those_of_the_keys() {
    let chapter =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/book/src/cluster.md");
    let text = std::fs::read_to_string(&chapter).unwrap();
    let (before, rest) = text.split_once("<!-- keys: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- keys: end -->").unwrap();
    let tables = [
        table("At the top of the file:", CLUSTER),
        table("In `[logs]`:", LOGS),
        table("In `[components.KEY]`:", COMPONENT),
        table("In `replicas`:", REPLICAS),
        table("In `restart`:", RESTART_TABLE),
        table("In a variable of `env`:", SECRET),
    ];
    let expected = format!(
        "{before}<!-- keys: begin -->\n{}<!-- keys: end -->{after}",
        tables.concat()
    );
    expect_test::expect_file![chapter].assert_eq(&expected);
}
