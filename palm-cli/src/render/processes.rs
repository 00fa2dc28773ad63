//! The processes of a cluster: a table with a line for each component, and the instances that are not ready.

use serde_json::{Value, json};

use crate::model::processes::{ComponentProcesses, InstanceProcess, Processes};
use crate::text::{self, Align, bytes, clean, count, or_unknown, percent};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text, without control characters.
    pub text: String,
    /// What it says.
    pub kind: LineKind,
}

/// What a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The names of the columns.
    Head,
    /// The processes of a component.
    Component,
    /// An instance that is not ready, or a warning.
    Problem,
    /// How many components are not shown.
    Rest,
}

/// Returns the table. The lines of an instance follow its component.
pub fn lines(processes: &Processes) -> Vec<Line> {
    let all: Vec<_> = processes.components.iter().collect();
    lines_of(&all, &processes.warnings)
}

/// Returns the table in at most `max` lines: if that is too few, components without a problem are left out first, and
/// the last line says how many are not shown.
pub fn lines_within(processes: &Processes, max: usize) -> Vec<Line> {
    let all = lines(processes);
    if all.len() <= max || max == 0 {
        return all.into_iter().take(max).collect();
    }
    let mut shown = Vec::new();
    let mut left = 0;
    for component in &processes.components {
        match component.gaps().is_empty() {
            true => left += 1,
            false => shown.push(component),
        }
    }
    loop {
        let mut lines = lines_of(&shown, &processes.warnings);
        if lines.len() < max || shown.is_empty() {
            lines.truncate(max - 1);
            lines.push(Line {
                text: format!("and {left} further components: `palm ps` shows all"),
                kind: LineKind::Rest,
            });
            return lines;
        }
        shown.pop();
        left += 1;
    }
}

fn lines_of(components: &[&ComponentProcesses], warnings: &[String]) -> Vec<Line> {
    let columns = [
        ("processes", Align::Left),
        ("kind", Align::Left),
        ("ready", Align::Left),
        ("cpu", Align::Right),
        ("memory", Align::Right),
        ("exits", Align::Right),
        ("last exit", Align::Left),
    ];
    let row = |it: &&ComponentProcesses| {
        vec![
            it.key.clone(),
            it.kind.clone(),
            format!("{} of {}", it.ready(), it.instances.len()),
            or_unknown(it.cpu(), percent),
            or_unknown(it.memory_bytes(), bytes),
            count(it.exits().into()),
            or_unknown(it.last_exit(), |it| it),
        ]
    };
    let rows: Vec<_> = components.iter().map(row).collect();
    let table = text::table("", &columns, &rows);
    let mut table = table.lines().map(str::to_owned);
    let line = |text, kind| Line { text, kind };
    let problem = |text: String| Line {
        text: clean(&text).into_owned(),
        kind: LineKind::Problem,
    };
    let mut lines = Vec::new();
    lines.extend(table.next().map(|text| line(text, LineKind::Head)));
    for (component, text) in components.iter().zip(table) {
        lines.push(line(text, LineKind::Component));
        let gaps = component.gaps();
        lines.extend(gaps.iter().map(|gap| problem(format!("  {gap}"))));
    }
    lines.extend(warnings.iter().map(|it| problem(format!("warning: {it}"))));
    lines
}

/// Returns the table as text.
pub fn text(processes: &Processes) -> String {
    let lines = lines(processes);
    lines
        .iter()
        .map(|line| format!("{}\n", line.text))
        .collect()
}

/// Returns the instances of one component as a table.
pub fn component(component: &ComponentProcesses) -> String {
    let columns = [
        ("instance", Align::Left),
        ("process", Align::Right),
        ("run", Align::Right),
        ("exits", Align::Right),
        ("cpu", Align::Right),
        ("memory", Align::Right),
        ("state", Align::Left),
    ];
    let row = |it: &InstanceProcess| {
        vec![
            it.id.clone(),
            or_unknown(it.pid, |pid| pid.to_string()),
            it.run.to_string(),
            count(it.exits.into()),
            or_unknown(it.cpu, percent),
            or_unknown(it.memory_bytes, bytes),
            match (it.is_ready, &it.last_exit) {
                (true, None) => it.state.clone(),
                (true, Some(exit)) => format!("{}; before, it {exit}", it.state),
                (false, _) => it.sentence.clone(),
            },
        ]
    };
    let rows: Vec<_> = component.instances.iter().map(row).collect();
    text::table("  ", &columns, &rows)
}

/// Returns all instances, by component.
pub fn json(processes: &Processes) -> Value {
    let instance = |it: &InstanceProcess| {
        json!({
            "id": it.id,
            "state": it.state,
            "is_ready": it.is_ready,
            "reason": (!it.is_ready).then_some(&it.sentence),
            "pid": it.pid,
            "run": it.run,
            "exits": it.exits,
            "last_exit": it.last_exit,
            "cpu": it.cpu,
            "memory_bytes": it.memory_bytes,
        })
    };
    let component = |it: &ComponentProcesses| {
        json!({
            "key": it.key,
            "kind": it.kind,
            "address": it.address,
            "ready": it.ready(),
            "instances": it.instances.iter().map(instance).collect::<Vec<_>>(),
        })
    };
    processes.components.iter().map(component).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn component(key: &str, kind: &str, count: usize) -> ComponentProcesses {
        let instance = |index| InstanceProcess {
            id: format!("{key}/{index}"),
            state: "ready".to_owned(),
            is_ready: true,
            pid: Some(100 + index),
            run: 1,
            cpu: Some(0.25),
            memory_bytes: Some(10 << 20),
            ..InstanceProcess::default()
        };
        ComponentProcesses {
            key: key.to_owned(),
            kind: kind.to_owned(),
            address: None,
            instances: (0_u32..).map(instance).take(count).collect(),
        }
    }

    fn processes() -> Processes {
        let mut workers = component("worker", "worker", 3);
        let missing = &mut workers.instances[1];
        missing.state = "backoff".to_owned();
        missing.is_ready = false;
        missing.sentence = "exited with 101: no \u{1b}[2Jfile; starts again in 4 s".to_owned();
        missing.last_exit = Some("exited with 101: no \u{1b}[2Jfile".to_owned());
        (missing.pid, missing.cpu, missing.memory_bytes) = (None, None, None);
        missing.exits = 2;
        Processes {
            components: vec![component("master", "master", 1), workers],
            warnings: vec!["logs of worker/0: 3 lines were lost".to_owned()],
        }
    }

    #[test]
    fn table_has_a_line_for_each_component_and_missing_instance() {
        expect![[r#"
            processes  kind    ready    cpu  memory  exits  last exit
            master     master  1 of 1  25 %  10 MiB      0  -
            worker     worker  2 of 3  50 %  20 MiB      2  worker/1 exited with 101: no �[2Jfile
              worker/1 exited with 101: no �[2Jfile; starts again in 4 s
            warning: logs of worker/0: 3 lines were lost
        "#]]
        .assert_eq(&text(&processes()));
        // `expect!` removes the indentation that all lines have.
        let instances = super::component(&processes().components[1]);
        expect![[r#"
            worker
              instance  process  run  exits   cpu  memory  state
              worker/0      100    1      0  25 %  10 MiB  ready
              worker/1        -    1      2     -       -  exited with 101: no �[2Jfile; starts again in 4 s
              worker/2      102    1      0  25 %  10 MiB  ready
        "#]]
        .assert_eq(&format!("worker\n{instances}"));
        let json = json(&processes());
        assert_eq!(json[1]["ready"], 2);
        assert_eq!(json[1]["instances"][1]["state"], "backoff");
        assert_eq!(json[0]["instances"][0]["reason"], Value::Null);
    }

    #[test]
    fn short_table_leaves_out_components_without_a_problem() {
        let mut processes = processes();
        let texts = |processes: &Processes, max| -> Vec<_> {
            let lines = lines_within(processes, max).into_iter();
            lines.map(|line| line.text).collect()
        };
        assert_eq!(
            texts(&processes, 5),
            text(&processes).lines().collect::<Vec<_>>()
        );
        processes.warnings.clear();
        processes.components.push(component("z", "pipeline", 1));
        let short = texts(&processes, 4);
        assert!(short[1].starts_with("worker "), "{short:?}");
        assert!(short[2].starts_with("  worker/1 exited"), "{short:?}");
        assert_eq!(short[3], "and 2 further components: `palm ps` shows all");
        let shorter = texts(&processes, 2);
        assert_eq!(shorter[1], "and 3 further components: `palm ps` shows all");
        for max in 0..8 {
            assert!(lines_within(&processes, max).len() <= max);
        }
    }
}
