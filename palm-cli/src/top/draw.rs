//! Draws the screen.

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{List, ListItem, ListState, Paragraph, Wrap};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::rows::Row;
use super::{App, Sort};
use crate::model::Bottleneck;
use crate::render::processes::{self, LineKind};
use crate::render::table;
use crate::text::{self, clean, duration, or_unknown, percent, rate};

/// The columns besides the name, and their widths.
const COLUMNS: [(&str, usize); 6] = [
    ("", 12),
    ("rate/s", 6),
    ("waiting", 16),
    ("stalled", 7),
    ("p99", 7),
    ("busy", 5),
];

/// Shares of stalled time from which an edge is yellow and red.
const SLOW: f64 = 0.05;
const VERY_SLOW: f64 = 0.5;

/// Draws the whole screen.
pub fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let processes = match app.detail {
        Some(_) => Vec::new(),
        None => process_lines(app, frame.area().height),
    };
    let rows = [
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(u16::try_from(processes.len()).unwrap_or(u16::MAX)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [head, sentence, above, body, foot] = Layout::vertical(rows).areas(frame.area());
    let colours = Colours(app.has_colours);
    frame.render_widget(title(app), head);
    let style = match &app.bottleneck {
        Bottleneck::Slow(_) | Bottleneck::Backlogged(_) => colours.foreground(Color::Red),
        _ => Style::new(),
    };
    let text = Paragraph::new(app.bottleneck.to_string()).style(style);
    frame.render_widget(text.wrap(Wrap { trim: true }), sentence);
    let processes: Vec<_> = processes
        .iter()
        .map(|line| process_line(line, above.width, colours))
        .collect();
    frame.render_widget(Paragraph::new(processes), above);
    match &app.detail {
        Some(_) => detail(app, frame, body),
        None => list(app, frame, body, colours),
    }
    frame.render_widget(footer(app), foot);
}

/// Returns the lines about the processes of the cluster, in at most half of the screen.
fn process_lines(app: &App, height: u16) -> Vec<processes::Line> {
    let max = usize::from(height.saturating_sub(4) / 2);
    match app.monitor.processes() {
        None => Vec::new(),
        Some(Ok(processes)) => processes::lines_within(processes, max),
        Some(Err(reason)) => vec![processes::Line {
            text: format!("processes are unknown: {}", clean(reason)),
            kind: LineKind::Problem,
        }],
    }
}

fn process_line(line: &processes::Line, width: u16, colours: Colours) -> Line<'static> {
    let text = fit(&line.text, usize::from(width), false);
    match line.kind {
        LineKind::Head => Line::from(text).add_modifier(Modifier::UNDERLINED),
        LineKind::Problem => Line::styled(text, colours.foreground(Color::Red)),
        LineKind::Rest => Line::from(text).dim(),
        LineKind::Component => Line::from(text),
    }
}

/// Colours, or none of them.
#[derive(Clone, Copy)]
struct Colours(bool);

impl Colours {
    fn foreground(self, colour: Color) -> Style {
        match self.0 {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }
}

fn title(app: &App) -> Line<'static> {
    let components = app.monitor.components();
    let (all, silent) = components.fold((0, 0), |(all, silent), component| {
        (
            all + 1,
            silent + u32::from(component.state() == "unreachable"),
        )
    });
    let components = if all == 1 { "component" } else { "components" };
    let mut text = format!("palm top  {}  {all} {components}", clean(&app.title));
    if silent > 0 {
        text += &format!(", {silent} unreachable");
    }
    if app.monitor.is_incomplete() {
        text += ", and further ones";
    }
    Line::from(text).bold()
}

fn footer(app: &App) -> Line<'static> {
    let text = match (app.is_filtering, &app.detail) {
        (true, _) => format!("/{}_  enter: apply, esc: remove", clean(&app.filter)),
        (_, Some(_)) => "esc: back  ↑↓: scroll  q: quit".to_owned(),
        _ => {
            let sort = app.sort.as_str();
            let filter = match app.filter.is_empty() {
                true => String::new(),
                false => format!(" ({})", clean(&app.filter)),
            };
            format!("↑↓: select  enter: details  s: sort ({sort})  /: filter{filter}  q: quit")
        }
    };
    Line::from(text).dim()
}

fn list(app: &mut App, frame: &mut Frame<'_>, area: Rect, colours: Colours) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let others: usize = COLUMNS.iter().map(|(_, width)| width + 1).sum();
    let width = usize::from(area.width).saturating_sub(others).max(8);
    let mut heads = fit("component, edges", width, false);
    for (index, (column, width)) in COLUMNS.iter().enumerate() {
        let is_sorted = matches!(
            (app.sort, index),
            (Sort::Rate, 1) | (Sort::Waiting, 2) | (Sort::Stalled, 3)
        );
        let column = match is_sorted {
            true => format!("{column}▼"),
            false => (*column).to_owned(),
        };
        heads += &format!(" {}", fit(&column, *width, index > 0));
    }
    frame.render_widget(Line::from(heads).add_modifier(Modifier::UNDERLINED), head);
    let visible = visible_rows(app, usize::from(body.height));
    let first = visible.start;
    let items: Vec<_> = app.rows[visible]
        .iter()
        .map(|row| item(app, row, width, colours))
        .collect();
    let list = List::new(items).highlight_style(Modifier::REVERSED);
    *app.list.offset_mut() = first;
    let selected = app.list.selected().map(|at| at - first);
    let mut state = ListState::default().with_selected(selected);
    frame.render_stateful_widget(list, body, &mut state);
}

/// Returns the rows that are drawn: the selected one, and as many as fit of those that were visible before or are below.
fn visible_rows(app: &App, height: usize) -> Range<usize> {
    let Some(selected) = app.list.selected() else {
        return 0..0;
    };
    let mut left = height;
    let mut fits = |at: &usize| {
        let lines = 1 + usize::from(row_problem(app, &app.rows[*at]).is_some());
        let rest = left.checked_sub(lines);
        left = rest.unwrap_or_default();
        rest.is_some()
    };
    let before = app.list.offset().min(selected)..=selected;
    let drawn = before.rev().take_while(&mut fits).count().max(1);
    let below = (selected + 1..app.rows.len()).take_while(&mut fits).count();
    selected + 1 - drawn..selected + 1 + below
}

fn item(app: &App, row: &Row, width: usize, colours: Colours) -> ListItem<'static> {
    let is_component = row.edge.is_none();
    let name = match is_component {
        true => row.name.clone(),
        false => format!("  {}", row.name),
    };
    let kind = row.state.unwrap_or(&row.kind);
    let kind_style = match row.state {
        Some("draining" | "starting") => colours.foreground(Color::Yellow),
        Some(_) => colours.foreground(Color::Red),
        None => Style::new(),
    };
    let stalled_style = match row.stalled {
        Some(share) if share >= VERY_SLOW => colours.foreground(Color::Red),
        Some(share) if share >= SLOW => colours.foreground(Color::Yellow),
        _ => Style::new(),
    };
    let own = |share: Option<f64>| match is_component {
        true => String::new(),
        false => or_unknown(share, percent),
    };
    let cells = [
        (kind.to_owned(), kind_style),
        (or_unknown(row.rate, rate), Style::new()),
        (
            or_unknown(row.waiting, |it| text::backlog(&it)),
            Style::new(),
        ),
        (own(row.stalled), stalled_style),
        (or_unknown(row.p99, duration), Style::new()),
        (row.busy.map(percent).unwrap_or_default(), Style::new()),
    ];
    let mut spans = vec![Span::raw(fit(&name, width, false))];
    for (index, ((cell, style), (_, width))) in cells.into_iter().zip(COLUMNS).enumerate() {
        spans.push(Span::raw(" "));
        spans.push(Span::styled(fit(&cell, width, index > 0), style));
    }
    let line = match is_component {
        true => Line::from(spans).bold(),
        false => Line::from(spans),
    };
    match row_problem(app, row) {
        Some(problem) => {
            let style = colours.foreground(Color::Red);
            ListItem::new(vec![line, Line::styled(format!("  {problem}"), style)])
        }
        None => ListItem::new(line),
    }
}

/// Returns the second line of a component's row: the reason for a missing report, and the age of the last answer.
fn row_problem(app: &App, row: &Row) -> Option<String> {
    if row.edge.is_some() {
        return None;
    }
    let component = app.monitor.component(&row.component)?;
    let reason = clean(component.reason()?);
    let age = component
        .answered_at
        .map(|it| app.now.saturating_duration_since(it));
    Some(match age {
        Some(age) if component.state() == "unreachable" => {
            format!("last answer {} ago: {reason}", duration(age))
        }
        _ => reason.into_owned(),
    })
}

fn detail(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    let Some((address, line)) = &mut app.detail else {
        return;
    };
    let text = match app.monitor.component(address) {
        Some(component) => {
            let mut text = table::component(component);
            if let Some(processes) = app.monitor.processes_of(component) {
                text.push('\n');
                text.push_str(&processes::component(processes));
            }
            text
        }
        None => "The component was forgotten.".to_owned(),
    };
    let lines = u16::try_from(text.lines().count()).unwrap_or(u16::MAX);
    *line = (*line).min(lines.saturating_sub(area.height));
    frame.render_widget(Paragraph::new(text).scroll((*line, 0)), area);
}

/// Returns the text in exactly `width` columns.
fn fit(text: &str, width: usize, is_right: bool) -> String {
    let text = clean(text);
    let mut fitting = String::new();
    let mut left = width;
    if text.width() > width {
        for character in text.chars() {
            let columns = character.width().unwrap_or_default();
            if columns + 1 > left {
                break;
            }
            left -= columns;
            fitting.push(character);
        }
        fitting.push('…');
        left = left.saturating_sub(1);
    } else {
        left -= text.width();
        fitting.push_str(&text);
    }
    let gap = " ".repeat(left);
    match is_right {
        true => gap + &fitting,
        false => fitting + &gap,
    }
}
