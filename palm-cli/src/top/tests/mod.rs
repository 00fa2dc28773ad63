use std::time::Duration;

use expect_test::{Expect, expect};
use palm::inspect::Answer;
use palm::report::{Backlog, Edge, Part, Report, Role, Worker};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;
use crate::model::processes::{ComponentProcesses, InstanceProcess};

mod screenshot;
mod scrolling;

/// The screen of a cluster that has run for two seconds.
struct Screen {
    app: App,
    terminal: Terminal<TestBackend>,
    begin: Instant,
}

fn edge(role: Role, name: &str, sent: u64, waiting: u64, stalled: u64) -> Edge {
    let mut edge = Edge::default();
    edge.role = role;
    edge.name = name.to_owned();
    edge.sent = sent;
    edge.waiting = Backlog::new(waiting, 0).with_limits(10_000, 0);
    edge.stalled = Duration::from_millis(stalled);
    edge
}

fn master(second: u64) -> Report {
    let mut report = Report::new(1, "images");
    report.kind = "master".to_owned();
    report.db_address = "tcp://10.0.0.7:5559".to_owned();
    report.uptime = Duration::from_secs(second);
    let mut part = Part::default();
    part.name = "PullService".to_owned();
    part.messages = 12_345 * second;
    report.parts = vec![part];
    let mut index = edge(
        Role::Subscriber,
        "index",
        1000 * second,
        10_000,
        970 * second,
    );
    index.db_address = "tcp://10.0.0.8:5559".to_owned();
    report.edges = vec![index];
    for name in ["alpha", "a worker with a very long name"] {
        let mut edge = edge(Role::Worker, name, 500 * second, 3, 0);
        let mut worker = Worker::new(2);
        worker.concurrency = 1;
        worker.worked = Duration::from_millis(400 * second);
        edge.worker = Some(worker);
        report.edges.push(edge);
    }
    for edge in &mut report.edges {
        edge.age = Duration::from_secs(second);
    }
    report
}

fn index(second: u64) -> Report {
    let mut report = Report::new(3, "index");
    report.kind = "pipeline".to_owned();
    report.db_address = "tcp://10.0.0.8:5559".to_owned();
    report.uptime = Duration::from_secs(second);
    report
}

fn cluster(answers: Vec<(&str, Answer)>) -> Cluster {
    let mut cluster = Cluster::default();
    for (address, answer) in answers {
        cluster.components.insert(address.to_owned(), answer);
    }
    cluster
}

fn both(second: u64) -> Cluster {
    let [master, index] = [master(second), index(second)]
        .map(Box::new)
        .map(Answer::Report);
    cluster(vec![
        ("tcp://10.0.0.7:5559", master),
        ("tcp://10.0.0.8:5559", index),
    ])
}

impl Screen {
    fn new(width: u16, height: u16) -> Self {
        let begin = Instant::now();
        let mut app = App::new("tcp://10.0.0.7:5559".to_owned(), false, begin);
        for second in [1, 2] {
            app.update(both(second), begin + Duration::from_secs(second));
        }
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        Self {
            app,
            terminal,
            begin,
        }
    }

    fn press(&mut self, keys: &[KeyCode]) {
        for key in keys {
            assert_eq!(self.app.key(KeyEvent::from(*key)), Next::Draw, "{key:?}");
        }
    }

    fn text(&mut self) -> String {
        self.terminal
            .draw(|frame| draw(&mut self.app, frame))
            .unwrap();
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let rows = buffer.content.chunks(width);
        let mut text = String::new();
        for row in rows {
            let row: String = row.iter().map(|cell| cell.symbol()).collect();
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }

    fn shows(&mut self, expected: &Expect) {
        expected.assert_eq(&self.text());
    }
}

#[test]
fn screen_of_80_columns_shows_all_numbers() {
    Screen::new(80, 24).shows(&expect![[r#"
        palm top  tcp://10.0.0.7:5559  2 components
        Bottleneck: `index`. `images` waits for it 97 % of the time, with 10,000 of
        10,000 messages waiting.
        component, edges                   rate/s          waiting stalled     p99  busy
        images                master        12.3k           10,006               -
          a worker with a ve… worker          500      3 of 10,000     0 %       -  40 %
          alpha               worker          500      3 of 10,000     0 %       -  40 %
          index               subscriber       1k 10,000 of 10,000    97 %       -
        index                 pipeline          0                0               -














        ↑↓: select  enter: details  s: sort (name)  /: filter  q: quit
    "#]]);
}

#[test]
fn component_that_dies_stays_with_its_reason_and_age() {
    let mut screen = Screen::new(80, 12);
    let dead = Answer::Unreachable("connection refused".to_owned());
    let answers = vec![
        ("tcp://10.0.0.7:5559", Answer::Report(Box::new(master(3)))),
        ("tcp://10.0.0.8:5559", dead),
    ];
    let died = screen.begin + Duration::from_secs(3);
    screen.app.update(cluster(answers), died);
    screen.app.tick(screen.begin + Duration::from_secs(12));
    screen.shows(&expect![[r#"
        palm top  tcp://10.0.0.7:5559  2 components, 1 unreachable
        Bottleneck: `index`. `images` waits for it 97 % of the time, with 10,000 of
        10,000 messages waiting. It does not answer: connection refused.
        component, edges                   rate/s          waiting stalled     p99  busy
        images                master        12.3k           10,006               -
          a worker with a ve… worker          500      3 of 10,000     0 %       -  40 %
          alpha               worker          500      3 of 10,000     0 %       -  40 %
          index               subscriber       1k 10,000 of 10,000    97 %       -
        index                 unreachable       -                -               -
          last answer 10 s ago: connection refused

        ↑↓: select  enter: details  s: sort (name)  /: filter  q: quit
    "#]]);
    // It returns.
    let restarted = screen.begin + Duration::from_secs(13);
    screen.app.update(both(4), restarted);
    assert!(!screen.text().contains("refused"));
}

fn processes(master: &str, worker: &str) -> Processes {
    let component = |key: &str, kind: &str, address: Option<&str>, sentences: &[&str]| {
        let instance = |(index, sentence): (usize, &&str)| InstanceProcess {
            id: format!("{key}/{index}"),
            is_ready: sentence.is_empty(),
            sentence: (*sentence).to_owned(),
            cpu: sentence.is_empty().then_some(0.07),
            memory_bytes: sentence.is_empty().then_some(9 << 20),
            exits: u32::from(!sentence.is_empty()),
            last_exit: sentence.split_once(';').map(|(exit, _)| exit.to_owned()),
            ..InstanceProcess::default()
        };
        ComponentProcesses {
            key: key.to_owned(),
            kind: kind.to_owned(),
            address: address.map(str::to_owned),
            instances: sentences.iter().enumerate().map(instance).collect(),
        }
    };
    Processes {
        components: vec![
            component("cache", "process", None, &[""]),
            component("index", "pipeline", Some("tcp://10.0.0.8:5559"), &[""]),
            component("master", "master", Some("tcp://10.0.0.7:5559"), &[master]),
            component("worker", "worker", None, &["", worker]),
        ],
        warnings: Vec::new(),
    }
}

#[test]
fn processes_are_above_the_list_and_explain_what_is_missing() {
    let mut screen = Screen::new(80, 24);
    let exit = "exited with 101: thread 'main' panicked at src/main.rs:4:5: no such file";
    let backoff = format!("{exit}; starts again in 4 s");
    screen.app.set_processes(Ok(processes("", &backoff)));
    screen.shows(&expect![[r#"
        palm top  tcp://10.0.0.7:5559  2 components
        Bottleneck: `index`. `images` waits for it 97 % of the time, with 10,000 of
        10,000 messages waiting.
        processes  kind      ready   cpu  memory  exits  last exit
        cache      process   1 of 1  7 %   9 MiB      0  -
        index      pipeline  1 of 1  7 %   9 MiB      0  -
        master     master    1 of 1  7 %   9 MiB      0  -
        worker     worker    1 of 2  7 %   9 MiB      1  worker/1 exited with 101: thre…
          worker/1 exited with 101: thread 'main' panicked at src/main.rs:4:5: no such …
        component, edges                   rate/s          waiting stalled     p99  busy
        images                master        12.3k           10,006               -
          a worker with a ve… worker          500      3 of 10,000     0 %       -  40 %
          alpha               worker          500      3 of 10,000     0 %       -  40 %
          index               subscriber       1k 10,000 of 10,000    97 %       -
        index                 pipeline          0                0               -








        ↑↓: select  enter: details  s: sort (name)  /: filter  q: quit
    "#]]);
    // The master, too: what does not answer has the runner's reason.
    let killed = "was killed by SIGKILL; starts again in 1 s";
    let silent = "nothing listens at tcp://10.0.0.7:5559";
    let answers = vec![
        (
            "tcp://10.0.0.7:5559",
            Answer::Unreachable(silent.to_owned()),
        ),
        ("tcp://10.0.0.8:5559", Answer::Report(Box::new(index(3)))),
    ];
    let died = screen.begin + Duration::from_secs(3);
    screen.app.update(cluster(answers), died);
    screen.app.set_processes(Ok(processes(killed, &backoff)));
    let text = screen.text();
    let reason = "  last answer 1.0 s ago: master/0 was killed by SIGKILL; starts again in 1 s";
    assert!(text.lines().any(|line| line == reason), "{text}");
    // Both return.
    screen.app.update(both(4), died + Duration::from_secs(1));
    screen.app.set_processes(Ok(processes("", "")));
    let text = screen.text();
    assert!(
        !text.contains("starts again") && !text.contains("unreachable"),
        "{text}"
    );
    assert!(text.contains("worker     worker    2 of 2"), "{text}");
    let reason = "the cluster does not run: `palm up` starts it";
    screen.app.set_processes(Err(reason.to_owned()));
    let text = screen.text();
    assert!(
        text.contains(&format!("processes are unknown: {reason}")),
        "{text}"
    );
}

#[test]
fn component_that_never_answered_has_its_key_as_name() {
    let mut screen = Screen::new(80, 18);
    screen.app = App::new("images".to_owned(), false, screen.begin);
    let waits = "waits for `master`, which is starting";
    let mut processes = processes("has not reported READY=1 since 2 s", "");
    processes.components.truncate(3);
    processes.components[1].instances[0].is_ready = false;
    processes.components[1].instances[0].sentence = waits.to_owned();
    screen.app.set_processes(Ok(processes));
    let silent = |address| {
        (
            address,
            Answer::Unreachable("connection refused".to_owned()),
        )
    };
    let answers = ["tcp://10.0.0.7:5559", "tcp://10.0.0.8:5559"].map(silent);
    screen.app.update(cluster(answers.into()), screen.begin);
    screen.shows(&expect![[r#"
        palm top  images  2 components, 2 unreachable
        Rates are unknown: no component has answered twice in a row.

        processes  kind      ready   cpu  memory  exits  last exit
        cache      process   1 of 1  7 %   9 MiB      0  -
        index      pipeline  0 of 1  7 %   9 MiB      0  -
          index/0 waits for `master`, which is starting
        master     master    0 of 1    -       -      1  -
          master/0 has not reported READY=1 since 2 s
        component, edges                   rate/s          waiting stalled     p99  busy
        index                 unreachable       -                -               -
          index/0 waits for `master`, which is starting
        master                unreachable       -                -               -
          master/0 has not reported READY=1 since 2 s



        ↑↓: select  enter: details  s: sort (name)  /: filter  q: quit
    "#]]);
}

#[test]
fn details_of_a_component_show_its_processes() {
    let mut screen = Screen::new(80, 40);
    screen.app.set_processes(Ok(processes("", "")));
    screen.press(&[KeyCode::Home, KeyCode::Enter]);
    let text = screen.text();
    assert!(
        text.contains("\n  instance  process  run  exits  cpu"),
        "{text}"
    );
    assert!(text.contains("  master/0"), "{text}");
    assert!(!text.contains("worker/0 "), "{text}");
}

#[test]
fn filter_keeps_rows_that_contain_it() {
    let mut screen = Screen::new(80, 10);
    screen.press(&[KeyCode::Char('/'), KeyCode::Char('A'), KeyCode::Char('l')]);
    let text = screen.text();
    assert!(text.contains("/Al_"), "{text}");
    assert!(text.contains("alpha"), "{text}");
    assert!(!text.contains("a worker with"), "{text}");
    screen.press(&[KeyCode::Enter]);
    assert!(screen.text().contains("filter (Al)"));
    // Escape removes the filter first.
    screen.press(&[KeyCode::Esc]);
    assert!(screen.text().contains("a worker with"));
    assert_eq!(screen.app.key(KeyCode::Esc.into()), Next::Quit);
}

#[test]
fn selection_stays_at_its_row_when_the_order_changes() {
    let mut screen = Screen::new(80, 24);
    screen.press(&[
        KeyCode::End,
        KeyCode::Up,
        KeyCode::Char('s'),
        KeyCode::Char('s'),
    ]);
    let at = screen.app.list.selected().unwrap();
    let before = screen.app.rows[at].name.clone();
    screen.press(&[KeyCode::Char('s')]);
    let at = screen.app.list.selected().unwrap();
    assert_eq!(screen.app.rows[at].name, before);
    assert!(screen.text().contains("sort (stalled)"));
    assert_eq!(screen.app.rows[0].name, "images");
    assert_eq!(screen.app.rows[1].name, "index");
}

#[test]
fn details_are_scrolled_within_their_lines() {
    let mut screen = Screen::new(80, 8);
    screen.press(&[KeyCode::Home, KeyCode::Enter]);
    assert!(screen.text().contains("images, master, ready"));
    screen.press(&[KeyCode::PageDown, KeyCode::PageDown]);
    let end = screen.text();
    assert!(end.contains("alpha"), "{end}");
    screen.press(&[KeyCode::Up]);
    assert_ne!(screen.text(), end);
    screen.press(&[KeyCode::Esc]);
    assert!(screen.text().contains("component, edges"));
}

#[test]
fn screen_is_drawn_at_any_size() {
    for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
        let mut screen = Screen::new(width, height);
        screen.text();
        screen
            .app
            .set_processes(Ok(processes("is starting", "exited with 1; it failed")));
        screen.text();
        screen.press(&[KeyCode::Enter]);
        screen.text();
    }
}

#[test]
fn without_colours_no_cell_has_one() {
    use ratatui::style::Color;
    let mut screen = Screen::new(80, 24);
    let coloured = |screen: &mut Screen| {
        screen.text();
        let cells = screen.terminal.backend().buffer().content.iter();
        cells.filter(|cell| cell.fg != Color::Reset).count()
    };
    assert_eq!(coloured(&mut screen), 0);
    screen.app.has_colours = true;
    assert!(coloured(&mut screen) > 0);
}
