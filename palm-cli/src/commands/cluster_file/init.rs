//! `palm init`: the documented scenarios, as projects that run.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use super::FileFailure;
use super::arguments::Init;
use crate::commands::write;

/// A folder for each scenario, `NN_name`, with its `cluster.toml` and programs.
static SCENARIOS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/clusters");

/// The folder of programs that several scenarios have.
const SHARED: &str = "shared";
const GITIGNORE: &str = "/target\n/.palm\n";

pub(super) fn init(init: &Init) -> Result<(), FileFailure> {
    if init.list {
        return Ok(write(list().as_bytes())?);
    }
    let scenario =
        find(&init.scenario).ok_or_else(|| FileFailure::Scenario(init.scenario.clone()))?;
    let checkout = init.palm.clone().or_else(own_checkout);
    let files = files(scenario, checkout.as_deref());
    let existing = files
        .iter()
        .map(|(path, _)| init.folder.join(path))
        .find(|path| path.exists());
    if let Some(path) = existing {
        return Err(FileFailure::Exists(path));
    }
    for (path, text) in &files {
        let path = init.folder.join(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, text));
        written.map_err(|source| FileFailure::Write { path, source })?;
    }
    Ok(write(
        next_steps(init, scenario, checkout.as_deref()).as_bytes(),
    )?)
}

/// Returns the checkout of palm that this program was built from, if it is still there. A program from crates.io was
/// built from a package, with no other packages next to it.
fn own_checkout() -> Option<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
    let has_palm = ["palm-cli", "palm-runtime"].map(|it| checkout.join(it).join("Cargo.toml"));
    let is_checkout = has_palm.iter().all(|manifest| manifest.is_file());
    is_checkout.then(|| checkout.to_owned())
}

/// Returns a line for each scenario.
fn list() -> String {
    let mut text = String::new();
    for scenario in scenarios() {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:2}  {:16} {}",
            number(scenario),
            name(scenario),
            about(scenario)
        );
    }
    text
}

/// Returns the scenario with this name or number.
fn find(wanted: &str) -> Option<&'static Dir<'static>> {
    let number_wanted = wanted.parse::<u32>().ok();
    scenarios().find(|scenario| {
        let is_number = number_wanted.is_some() && number(scenario).parse().ok() == number_wanted;
        is_number || name(scenario) == wanted || folder(scenario) == wanted
    })
}

fn scenarios() -> impl Iterator<Item = &'static Dir<'static>> {
    SCENARIOS
        .dirs()
        .filter(|folder| folder.path() != Path::new(SHARED))
}

fn folder(scenario: &Dir<'static>) -> &'static str {
    scenario.path().to_str().unwrap_or_default()
}

fn number(scenario: &Dir<'static>) -> &'static str {
    folder(scenario)
        .split_once('_')
        .map_or("", |(number, _)| number)
}

fn name(scenario: &Dir<'static>) -> &'static str {
    folder(scenario)
        .split_once('_')
        .map_or("", |(_, name)| name)
}

/// Returns the comment at the top of the scenario's file.
fn about(scenario: &Dir<'static>) -> &'static str {
    let file = scenario.get_file(scenario.path().join("cluster.toml"));
    let text = file
        .and_then(|file| file.contents_utf8())
        .unwrap_or_default();
    let mut comments = text.lines().filter_map(|line| line.strip_prefix("# "));
    comments.next().unwrap_or_default()
}

/// Returns the files of a project by their paths.
fn files(scenario: &'static Dir<'static>, palm: Option<&Path>) -> Vec<(PathBuf, String)> {
    let mut files = vec![
        ("Cargo.toml".into(), manifest(scenario, palm)),
        (".gitignore".into(), GITIGNORE.to_owned()),
        (
            "cluster.schema.json".into(),
            format!("{:#}\n", palm_plan::schema()),
        ),
    ];
    let mut folders = vec![scenario];
    while let Some(folder) = folders.pop() {
        for entry in folder.entries() {
            match entry {
                DirEntry::Dir(folder) => folders.push(folder),
                DirEntry::File(file) => {
                    let path = file
                        .path()
                        .strip_prefix(scenario.path())
                        .unwrap_or(file.path());
                    files.push((
                        path.to_owned(),
                        file.contents_utf8().unwrap_or_default().to_owned(),
                    ));
                }
            }
        }
    }
    let client = PathBuf::from("src/bin/client.rs");
    if !files.iter().any(|(path, _)| *path == client) {
        files.push((client, shared_client(scenario)));
    }
    files
}

/// Returns the client of the scenarios whose client differs in its arguments only.
fn shared_client(scenario: &'static Dir<'static>) -> String {
    let name = match name(scenario) {
        "cache" | "scatter" | "gather" => "cache_client.rs",
        _ => "client.rs",
    };
    let file = SCENARIOS.get_file(Path::new(SHARED).join(name));
    file.and_then(|file| file.contents_utf8())
        .unwrap_or_default()
        .to_owned()
}

fn manifest(scenario: &'static Dir<'static>, palm: Option<&Path>) -> String {
    let name = name(scenario);
    let source = match palm {
        // A path of another folder would not lead there.
        Some(path) => format!(
            "path = {:?}",
            path.canonicalize().unwrap_or_else(|_| path.to_owned())
        ),
        None => format!("version = \"{}\"", env!("CARGO_PKG_VERSION")),
    };
    let features = match name.starts_with("http") {
        true => "\"http\", \"main\"",
        false => "\"main\"",
    };
    let has_components = scenario
        .get_file(scenario.path().join("src/main.rs"))
        .is_some();
    let components = match has_components {
        true => "\n[[bin]]\nname = \"components\"\npath = \"src/main.rs\"\n",
        false => "",
    };
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\npublish = false\n{components}\n\
         [dependencies]\npalm = {{ package = \"palm-cluster\", {source}, features = [{features}] }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n"
    )
}

fn next_steps(init: &Init, scenario: &'static Dir<'static>, checkout: Option<&Path>) -> String {
    let depends = match (checkout, &init.palm) {
        (Some(checkout), None) => format!(
            "The project depends on the palm of this checkout, from which the command was built: {}\n\n",
            checkout.display()
        ),
        _ => String::new(),
    };
    let change = match init.folder == Path::new(".") {
        true => String::new(),
        false => format!("  cd {}\n", init.folder.display()),
    };
    format!(
        "{}\n{depends}Next:\n\n{change}  cargo build\n  palm validate\n  palm up --wait\n  palm logs client\n",
        about(scenario)
    )
}

#[cfg(test)]
mod tests {
    use palm_plan::Cluster;

    use super::*;

    #[test]
    fn scenarios_are_those_of_the_documentation_and_have_no_mistakes() {
        assert_eq!(scenarios().count(), 14);
        for scenario in scenarios() {
            let (_, text) = files(scenario, None)
                .into_iter()
                .find(|(path, _)| path == Path::new("cluster.toml"))
                .unwrap();
            let cluster = Cluster::parse(folder(scenario), &text)
                .unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert!(cluster.warnings().is_empty(), "{}", cluster.warnings());
            assert_eq!(cluster.name(), name(scenario));
            assert_eq!(palm_plan::format(&text).unwrap(), text);
            assert!(about(scenario).ends_with('.'));
            let files = files(scenario, None);
            let (_, client) = files
                .iter()
                .find(|(path, _)| path.ends_with("client.rs"))
                .unwrap();
            assert!(client.contains("fn main()"), "{client}");
        }
    }

    #[test]
    fn scenarios_are_found_by_name_and_number() {
        for wanted in ["parallel", "2", "02", "02_parallel"] {
            assert_eq!(find(wanted).map(name), Some("parallel"), "{wanted}");
        }
        for wanted in ["", "0", "15", "paralell", "_"] {
            assert!(find(wanted).is_none(), "{wanted}");
        }
    }
}
