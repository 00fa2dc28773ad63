//! The commands about the file of a cluster.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{check, palm, succeed};

/// A folder with files, which is deleted at the end.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            std::fs::write(folder.path(name), text).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

/// Makes a file executable.
fn executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const SLEEP: &str = "name = \"sleep\"\n\n[components.sleep]\nkind = \"process\"\ncommand = \"sleep\"\nargs = [\"60\"]\n";

#[test]
fn validate_shows_all_mistakes_and_fails() {
    check(async {
        let text = SLEEP.replace("process", "proces") + "drain = \"30\"\n[components.other]\n";
        let folder = Folder::new(&[("cluster.toml", &text)]);
        let file = folder.text("cluster.toml");
        let (code, stdout, stderr) = palm(&["validate", "-f", &file], b"").await;
        assert_eq!((code, &*stdout), (1, ""));
        for shown in [
            "error[P007]: unknown `kind`: `proces`",
            "error[P009]: `drain` is malformed: the unit is missing",
            "error[P004]: component `other` has no `kind`",
            "cluster.toml:4:8",
        ] {
            assert!(stderr.contains(shown), "{shown} is not in\n{stderr}");
        }
        let (code, stdout, _) = palm(&["validate", "-f", &file, "--format", "json"], b"").await;
        assert_eq!(code, 1);
        let list: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(list[0]["code"], "P007");
        assert_eq!(list[0]["line"], 4);
    });
}

#[test]
fn validate_compares_the_file_with_commands_programs_ports_and_secrets() {
    check(async {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = format!(
            r#"
            name = "surroundings"
            [components.missing]
            kind = "process"
            command = "./missing"
            [components.text]
            kind = "process"
            command = "./cluster.toml"
            [components.taken]
            kind = "process"
            command = "sleep"
            address = "tcp://127.0.0.1:{port}"
            [components.secret]
            kind = "process"
            command = "sleep"
            env = {{ TOKEN = {{ file = "token" }} }}
            [components.server]
            kind = "server"
            program = "./program"
            options = {{ concurency = 4, drain_limit = "30s" }}
            [components.other]
            kind = "server"
            name = "other"
            program = "false"
            "#
        );
        let list = r#"[{"kind":"pipeline","component":"lines","type":"Lines","functions":[],"startable":true}]"#;
        let program = format!("#!/bin/sh\necho '{list}'\n");
        let folder = Folder::new(&[("cluster.toml", &text), ("program", &program)]);
        executable(&folder.path("program"));
        let file = folder.text("cluster.toml");
        let holder = format!("(process {})", std::process::id());
        let (mut code, mut stderr) = (0, String::new());
        // A child that another test has just forked holds the port too, until it runs its program.
        for _ in 0..10 {
            (code, _, stderr) = palm(&["validate", "-f", &file], b"").await;
            if stderr.contains(&holder) {
                break;
            }
        }
        assert_eq!(code, 1);
        for shown in [
            "error[P050]: `./missing` cannot be executed: `",
            "error[P050]: `./cluster.toml` cannot be executed: it is not an executable file",
            &format!("error[P057]: `tcp://127.0.0.1:{port}` is taken by "),
            &holder,
            "error[P058]: the secret `TOKEN` cannot be read: ",
            "error[P052]: `./program` has no server",
            "it has `pipeline lines`",
            "error[P056]: the option `concurency` of a server: ",
            "did you mean `concurrency`?",
            "error[P051]: `false` does not say which components it has: `list --format json` ends with ",
            "cluster.toml: 7 errors",
        ] {
            assert!(stderr.contains(shown), "{shown} is not in\n{stderr}");
        }
        let offline = succeed(&["validate", "--offline", "-f", &file], b"").await;
        assert!(
            offline.ends_with("cluster.toml: 6 components, no mistakes\n"),
            "{offline}"
        );
    });
}

#[test]
fn fmt_writes_the_file_in_one_form() {
    check(async {
        let folder = Folder::new(&[("cluster.toml", &SLEEP.replace(" = ", "="))]);
        let file = folder.text("cluster.toml");
        let (code, _, stderr) = palm(&["fmt", "--check", "-f", &file], b"").await;
        assert_eq!(code, 1);
        assert!(
            stderr.contains("is not in the form of `palm fmt`"),
            "{stderr}"
        );
        assert_eq!(succeed(&["fmt", "-f", &file], b"").await, "");
        assert_eq!(folder.read("cluster.toml"), SLEEP);
        assert_eq!(succeed(&["fmt", "--check", "-f", &file], b"").await, "");
    });
}

#[test]
fn graph_of_a_file_is_a_tree_or_graphviz() {
    check(async {
        let folder = Folder::new(&[("cluster.toml", SLEEP)]);
        let file = folder.text("cluster.toml");
        assert_eq!(
            succeed(&["graph", &file], b"").await,
            "sleep\n└─ sleep  process, sleep 60\n"
        );
        let dot = succeed(&["graph", "--dot", &file], b"").await;
        assert!(dot.starts_with("digraph \"sleep\" {"), "{dot}");
    });
}

#[test]
fn plan_shows_the_instances_of_a_file() {
    check(async {
        let folder = Folder::new(&[(
            "cluster.toml",
            &(SLEEP.to_owned() + "replicas = 2\nprofiles = [\"night\"]\n"),
        )]);
        let file = folder.text("cluster.toml");
        let plan = succeed(&["plan", "-f", &file, "--profile", "night"], b"").await;
        assert!(plan.contains("+ start    sleep/1  sleep 60\n"), "{plan}");
        assert!(plan.contains("2 to start, 0 to restart"), "{plan}");
        let (code, _, stderr) = palm(&["plan", "-f", &file, "--profile", "nigth"], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("did you mean `night`?"), "{stderr}");
    });
}

#[test]
fn import_writes_a_file_without_mistakes() {
    check(async {
        let ini = "[Master]\nScript = sleep 60\n--db = _1\n--workerpull = _2\n[Worker]\nScript = sleep 60\n--db = _1\n\
                   Connected = Master\nRole = Worker\nReplicas = 2\n";
        let folder = Folder::new(&[("old cluster.conf", ini), ("bad.conf", "[A]\n")]);
        let imported = succeed(&["import", &folder.text("old cluster.conf")], b"").await;
        assert!(imported.contains("name = \"old-cluster\""), "{imported}");
        let file = folder.text("cluster.toml");
        std::fs::write(&file, imported).unwrap();
        let valid = succeed(&["validate", "-f", &file], b"").await;
        assert!(valid.ends_with("2 components, no mistakes\n"), "{valid}");
        let (code, _, stderr) = palm(&["import", &folder.text("bad.conf")], b"").await;
        assert_eq!(code, 1);
        assert!(
            stderr.contains("the section `A` has no `Script`"),
            "{stderr}"
        );
    });
}

#[test]
fn explain_shows_the_section_of_a_code() {
    check(async {
        let text = succeed(&["explain", "p020"], b"").await;
        assert!(
            text.starts_with("## P020: A reference to nothing\n"),
            "{text}"
        );
        let list = succeed(&["explain", "--list"], b"").await;
        assert!(list.contains("P020  A reference to nothing\n"), "{list}");
        let (code, _, stderr) = palm(&["explain", "E0308"], b"").await;
        assert_eq!(code, 1);
        assert!(
            stderr.contains("there is no mistake with the code `E0308`"),
            "{stderr}"
        );
    });
}

#[test]
fn init_writes_a_project_and_overwrites_nothing() {
    check(async {
        let list = succeed(&["init", "--list"], b"").await;
        assert_eq!(list.lines().count(), 14, "{list}");
        let folder = Folder::new(&[]);
        let project = folder.text("sink project");
        let next = succeed(&["init", "sink", &project], b"").await;
        assert!(next.contains("palm up --wait"), "{next}");
        // The command was built from this checkout, so `cargo build` finds palm without crates.io.
        let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap();
        assert!(next.contains(checkout.to_str().unwrap()), "{next}");
        let manifest = folder.read("sink project/Cargo.toml");
        let path = format!("package = \"palm-cluster\", path = {checkout:?}");
        assert!(manifest.contains(&path), "{manifest}");
        let file = folder.text("sink project/cluster.toml");
        succeed(&["validate", "--offline", "-f", &file], b"").await;
        let schema: Value =
            serde_json::from_str(&folder.read("sink project/cluster.schema.json")).unwrap();
        let written = succeed(&["schema"], b"").await;
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), schema);
        assert!(
            folder
                .read("sink project/src/main.rs")
                .contains("palm::main!();")
        );
        std::fs::remove_file(folder.path("sink project/Cargo.toml")).unwrap();
        let (code, _, stderr) = palm(&["init", "sink", &project], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("exists: choose another folder"), "{stderr}");
        assert!(!folder.path("sink project/Cargo.toml").exists());
        let (code, _, stderr) = palm(&["init", "snk"], b"").await;
        assert_eq!(code, 1);
        assert!(stderr.contains("`palm init --list` lists them"), "{stderr}");
    });
}
