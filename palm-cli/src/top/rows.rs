//! The rows of the table: each component, and its edges below.

use std::cmp::Reverse;
use std::time::Duration;

use palm::report::{Backlog, Edge, EdgeState, Role, State};

use super::Sort;
use crate::model::{Component, Monitor};

/// A component or an edge.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// The address of the component.
    pub(super) component: String,
    /// The number of the edge among the edges with the same name; `None` for a component.
    pub(super) edge: Option<(Role, String, usize)>,
    pub(super) name: String,
    /// The kind or role.
    pub(super) kind: String,
    /// The state, if it is not the usual one.
    pub(super) state: Option<&'static str>,
    pub(super) rate: Option<f64>,
    pub(super) waiting: Option<Backlog>,
    pub(super) stalled: Option<f64>,
    pub(super) p99: Option<Duration>,
    pub(super) busy: Option<f64>,
}

impl Row {
    /// Returns what identifies the row.
    pub(super) fn key(&self) -> (&str, Option<&(Role, String, usize)>) {
        (&self.component, self.edge.as_ref())
    }

    fn order(&self, sort: Sort) -> Reverse<u64> {
        let scaled = |number: Option<f64>| (number.unwrap_or_default() * 1000.0) as u64;
        Reverse(match sort {
            Sort::Name => 0,
            Sort::Rate => scaled(self.rate),
            Sort::Waiting => self.waiting.map_or(0, |it| it.messages),
            Sort::Stalled => scaled(self.stalled),
        })
    }

    fn contains(&self, filter: &str) -> bool {
        if filter.is_empty() {
            return true;
        }
        let state = self.state.unwrap_or_default();
        let texts = [&*self.name, &self.kind, &self.component, state];
        texts
            .iter()
            .any(|text| text.to_lowercase().contains(filter))
    }
}

/// Returns the rows that contain `filter`. A component that contains it is followed by all of its edges.
pub(super) fn rows(monitor: &Monitor, sort: Sort, filter: &str) -> Vec<Row> {
    let filter = filter.to_lowercase();
    let mut groups: Vec<(Row, Vec<Row>)> = monitor
        .components()
        .map(|component| (component_row(component), edge_rows(component)))
        .collect();
    groups.retain_mut(|(row, edges)| {
        let is_found = row.contains(&filter);
        if !is_found {
            edges.retain(|edge| edge.contains(&filter));
        }
        is_found || !edges.is_empty()
    });
    // A group has the order of its first row.
    let least = |(row, edges): &(Row, Vec<Row>)| {
        let orders = edges.iter().map(|edge| edge.order(sort));
        orders.chain([row.order(sort)]).min()
    };
    groups.sort_by_cached_key(|group| (least(group), group.0.name.clone()));
    groups
        .into_iter()
        .flat_map(|(row, mut edges)| {
            edges.sort_by_cached_key(|edge| (edge.order(sort), edge.edge.clone()));
            std::iter::once(row).chain(edges)
        })
        .collect()
}

fn component_row(component: &Component) -> Row {
    let waiting = |_| Backlog::new(component.waiting(), 0);
    let state = match component.current() {
        Some(report) => match report.state {
            State::Ready => None,
            state => Some(state.as_str()),
        },
        None if component.state() == "no report" => None,
        None => Some("unreachable"),
    };
    Row {
        component: component.address.clone(),
        edge: None,
        name: component.name().to_owned(),
        kind: component.kind().to_owned(),
        state,
        rate: component.rate(),
        waiting: component.current().map(waiting),
        stalled: None,
        p99: component.p99(),
        busy: None,
    }
}

fn edge_rows(component: &Component) -> Vec<Row> {
    let edges = component.current().into_iter().flat_map(|it| &it.edges);
    let mut rows: Vec<Row> = Vec::new();
    for edge in edges {
        // Edges with one name are next to each other.
        let number = match rows.last().and_then(|row| row.edge.as_ref()) {
            Some((role, name, number)) if *role == edge.role && *name == edge.name => number + 1,
            _ => 0,
        };
        rows.push(edge_row(component, edge, number));
    }
    rows
}

fn edge_row(component: &Component, edge: &Edge, number: usize) -> Row {
    Row {
        component: component.address.clone(),
        edge: Some((edge.role, edge.name.clone(), number)),
        name: match edge.name.is_empty() {
            true => edge.db_address.clone(),
            false => edge.name.clone(),
        },
        kind: edge.role.as_str().to_owned(),
        state: match edge.state {
            EdgeState::Connected => None,
            state => Some(state.as_str()),
        },
        rate: component.edge_rate(edge),
        waiting: Some(edge.waiting),
        stalled: component.stalled(edge),
        p99: component.edge_p99(edge),
        busy: component.busy(edge),
    }
}
