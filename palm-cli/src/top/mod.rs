//! The state of `palm top`: what is selected, sorted and filtered. Events and time are arguments.

mod draw;
mod rows;

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use palm::inspect::Cluster;
use ratatui::widgets::ListState;

pub use draw::draw;

use self::rows::Row;
use crate::model::processes::Processes;
use crate::model::{Bottleneck, Monitor};

/// The longest text of a filter.
const MAX_FILTER: usize = 100;

/// What the rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// By messages per second, the most first.
    Rate,
    /// By what waits, the most first.
    Waiting,
    /// By the time for which a component had to wait, the longest first.
    Stalled,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Waiting,
            Self::Waiting => Self::Stalled,
            Self::Stalled => Self::Name,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Waiting => "waiting",
            Self::Stalled => "stalled",
        }
    }
}

/// What to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Draw the screen.
    Draw,
    /// End.
    Quit,
}

/// The state of the screen.
#[derive(Debug)]
pub struct App {
    monitor: Monitor,
    /// What the screen is titled with: an address, or the name of a cluster.
    title: String,
    now: Instant,
    sort: Sort,
    filter: String,
    is_filtering: bool,
    /// The address of the component whose details are shown, and the first line of them.
    detail: Option<(String, u16)>,
    /// Which component slows the others down, and the rows: computed once for each walk, and not for each drawing.
    bottleneck: Bottleneck,
    rows: Vec<Row>,
    list: ListState,
    /// Whether colours are used.
    has_colours: bool,
}

impl App {
    /// Creates the state before the first walk. The title is an address, or the name of a cluster.
    pub fn new(title: String, has_colours: bool, now: Instant) -> Self {
        Self {
            monitor: Monitor::default(),
            title,
            now,
            sort: Sort::default(),
            filter: String::new(),
            is_filtering: false,
            detail: None,
            bottleneck: Bottleneck::Unknown,
            rows: Vec::new(),
            list: ListState::default(),
            has_colours,
        }
    }

    /// Returns what is known about the cluster.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Adds the answers of a walk.
    pub fn update(&mut self, cluster: Cluster, now: Instant) {
        self.monitor.update(cluster, now);
        self.now = now;
        self.bottleneck = self.monitor.bottleneck();
        self.sort_rows();
    }

    /// Sets the processes of the cluster, or why they are unknown.
    pub fn set_processes(&mut self, processes: Result<Processes, String>) {
        self.monitor.set_processes(processes);
        self.bottleneck = self.monitor.bottleneck();
        self.sort_rows();
    }

    /// Sets the time: ages grow also if nothing answers.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Draw;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Next::Quit,
            code if self.is_filtering => self.filter_key(code),
            code if self.detail.is_some() => return self.detail_key(code),
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc if self.filter.is_empty() => return Next::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Enter => self.open_detail(),
            code => self.move_by(code),
        }
        self.sort_rows();
        Next::Draw
    }

    fn filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_filtering = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_filtering = false;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.len() < MAX_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
    }

    fn detail_key(&mut self, code: KeyCode) -> Next {
        let Some((_, line)) = &mut self.detail else {
            return Next::Draw;
        };
        match code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace => self.detail = None,
            KeyCode::Down | KeyCode::Char('j') => *line = line.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => *line = line.saturating_sub(1),
            KeyCode::PageDown => *line = line.saturating_add(10),
            KeyCode::PageUp => *line = line.saturating_sub(10),
            KeyCode::Home => *line = 0,
            _ => {}
        }
        Next::Draw
    }

    fn open_detail(&mut self) {
        let selected = self.list.selected().and_then(|at| self.rows.get(at));
        self.detail = selected.map(|row| (row.component.clone(), 0));
    }

    fn move_by(&mut self, code: KeyCode) {
        let last = self.rows.len().saturating_sub(1);
        let at = self.list.selected().unwrap_or_default();
        let at = match code {
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::PageDown => at + 10,
            KeyCode::PageUp => at.saturating_sub(10),
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return,
        };
        self.list.select(Some(at.min(last)));
    }

    /// Computes the rows. The selection stays at its row, wherever that moves.
    fn sort_rows(&mut self) {
        let rows = rows::rows(&self.monitor, self.sort, &self.filter);
        let before = std::mem::replace(&mut self.rows, rows);
        let selected = self.list.selected().and_then(|at| before.get(at));
        let found = selected
            .and_then(|selected| self.rows.iter().position(|row| row.key() == selected.key()));
        let at = found.or(self.list.selected()).unwrap_or_default();
        let last = self.rows.len().checked_sub(1);
        self.list.select(last.map(|last| at.min(last)));
    }
}

#[cfg(test)]
mod tests;
