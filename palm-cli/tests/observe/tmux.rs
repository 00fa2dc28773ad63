//! `palm top` on a terminal: tmux is the terminal, sends keys and shows the screen.

use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::setup::{ANY, Component, trial};

/// Time within which the screen must show something.
const SOON: Duration = Duration::from_secs(30);

pub(crate) fn tests() -> Vec<Trial> {
    let tests = [
        trial("tmux_shows_navigation_filter_and_sizes", navigation),
        trial("tmux_shows_a_component_that_dies_and_returns", death),
        trial("tmux_shows_colours_unless_no_color_is_set", colours),
    ];
    tests.map(|it| it.with_ignored_flag(true)).into()
}

/// A terminal in which `palm top` runs.
pub(crate) struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    pub(crate) fn start(address: &str, environment: &str) -> Self {
        let terminal = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let palm = env!("CARGO_BIN_EXE_palm");
        let pid = terminal.folder.path().join("pid");
        let pid = pid.display();
        let command = format!(
            "sh -c 'echo $$ > {pid}; exec env {environment} {palm} top {address}'; echo ended with $?; cat"
        );
        terminal.tmux(&["new-session", "-d", "-x", "120", "-y", "30", &command]);
        terminal
    }

    /// Runs tmux with a server of this test, and returns its output.
    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket"));
        command.args(["-f", "/dev/null"]).args(arguments);
        // The environment of a test may contain any of them.
        command.env_remove("NO_COLOR").env_remove("TMUX");
        let output = command.env("LC_ALL", "C.UTF-8").output();
        let output = output.expect("tmux is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Returns the id of the process of `palm top`, which must have drawn its screen.
    pub(crate) fn pid(&self) -> u32 {
        let pid = std::fs::read_to_string(self.folder.path().join("pid"));
        pid.unwrap().trim().parse().unwrap()
    }

    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits for a screen, and returns it.
    async fn until(&self, what: &str, is_shown: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen();
            if is_shown(&screen) {
                return screen;
            }
            assert!(begin.elapsed() < SOON, "{what}:\n{screen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the screen contains all of these texts.
    pub(crate) async fn shows(&self, texts: &[&str]) -> String {
        let all = |screen: &str| texts.iter().all(|text| screen.contains(text));
        self.until(&format!("{texts:?}"), all).await
    }

    /// Returns the selected line, which is reversed.
    fn selected(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p", "-e"]);
        let is_reversed = |line: &&str| line.contains("\u{1b}[7m") || line.contains(";7m");
        let line = screen.lines().find(is_reversed).unwrap_or_default();
        line.to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.folder.path().join("socket"));
        let _ = command.arg("kill-server").output();
    }
}

/// A master with two workers and a step.
fn cluster() -> (Component, Vec<Component>, Component) {
    let master = Component::start(&["master", ANY]);
    let db = &*master.db_address;
    let workers = ["alpha", "beta"].map(|name| Component::start(&["worker", db, name]));
    let step = Component::start(&["step", ANY, db, "even"]);
    (master, workers.into(), step)
}

async fn navigation() {
    let (master, _workers, step) = cluster();
    let terminal = Terminal::start(&step.db_address, "");
    // The others are found from the step.
    let screen = terminal
        .shows(&["2 components", "alpha", "beta", "master"])
        .await;
    let rows = screen.lines().filter(|it| !it.trim().is_empty()).count();
    // Keys move the selection from row to row, and not beyond the last one.
    terminal.keys(&["Home"]);
    terminal
        .until("images is selected", |_| {
            terminal.selected().contains("images")
        })
        .await;
    terminal.keys(&["Down"]);
    terminal
        .until("the next row is selected", |_| {
            let selected = terminal.selected();
            !selected.is_empty() && !selected.contains("images")
        })
        .await;
    terminal.keys(&["Down"; 50]);
    terminal
        .until("the last row is selected", |screen| {
            let selected = terminal.selected();
            let last = screen.lines().filter(|it| !it.trim().is_empty());
            let last = last.rev().nth(1).unwrap_or_default().trim();
            let name = last.split_whitespace().next().unwrap_or_default();
            !name.is_empty() && selected.contains(name)
        })
        .await;
    terminal.keys(&["Home", "Enter"]);
    let details = terminal
        .shows(&["images, master, ready", "esc: back"])
        .await;
    assert!(details.contains(&master.db_address), "{details}");
    terminal.keys(&["Escape"]);
    terminal.shows(&["component, edges"]).await;

    terminal.keys(&["/", "a", "l", "p", "h"]);
    let filtered = |screen: &str| screen.contains("alpha") && !screen.contains("beta");
    terminal.until("only alpha", filtered).await;
    terminal.keys(&["Enter"]);
    terminal.shows(&["filter (alph)"]).await;
    terminal.keys(&["Escape"]);
    terminal.shows(&["beta"]).await;

    terminal.keys(&["s"]);
    terminal.shows(&["sort (rate)"]).await;

    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    let small = terminal
        .until("the footer is the last of 24 lines", |screen| {
            let lines: Vec<_> = screen.lines().collect();
            lines.len() == 24 && lines[23].contains("q: quit")
        })
        .await;
    let widest = small.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{small}");
    let still = small.lines().filter(|it| !it.trim().is_empty()).count();
    assert_eq!(still, rows, "all rows fit:\n{small}");
    for text in ["alpha", "beta", "images", "step"] {
        assert!(small.contains(text), "{text}:\n{small}");
    }
    terminal.keys(&["q"]);
    // The terminal is restored.
    let ended = terminal.shows(&["ended with 0"]).await;
    assert!(!ended.contains("component, edges"), "{ended}");
}

async fn death() {
    let (master, _workers, step) = cluster();
    let terminal = Terminal::start(&master.db_address, "");
    terminal.shows(&["2 components", "step"]).await;
    let address = step.db_address.clone();
    drop(step);
    let died = ["1 unreachable", "last answer", "connection refused"];
    terminal.shows(&died).await;
    let _step = Component::start(&["step", &address, &master.db_address, "even"]);
    let returned = |screen: &str| {
        screen.contains("2 components") && !died.iter().any(|text| screen.contains(text))
    };
    terminal.until("it has returned", returned).await;
}

async fn colours() {
    let (master, _workers, step) = cluster();
    let coloured = |terminal: &Terminal| {
        let screen = terminal.tmux(&["capture-pane", "-p", "-e"]);
        // The foreground colours of the eight first ones, bright ones and others.
        let sequences = screen.split('\u{1b}').filter_map(|it| it.split_once('m'));
        let mut numbers = sequences.flat_map(|(numbers, _)| {
            let numbers = numbers.trim_start_matches('[').split(';');
            numbers.map(str::to_owned).collect::<Vec<_>>()
        });
        numbers.any(|number| matches!(number.parse(), Ok(30..=38 | 90..=97)))
    };
    let (plain, colourful) = (
        Terminal::start(&master.db_address, "NO_COLOR=1"),
        Terminal::start(&master.db_address, ""),
    );
    for terminal in [&plain, &colourful] {
        terminal.shows(&["2 components"]).await;
    }
    // A component that is away is red.
    drop(step);
    for terminal in [&plain, &colourful] {
        terminal
            .shows(&["1 unreachable", "connection refused"])
            .await;
    }
    assert!(coloured(&colourful));
    assert!(!coloured(&plain));
}
