//! What the parts of a component share only for legacy peers.

mod in_flight;
mod on_demand;
mod redelivery;

pub(crate) use in_flight::InFlightTasks;
pub(crate) use on_demand::{OnDemand, OnDemandSocket};
pub(crate) use redelivery::{OverdueTasks, PushedTasks};
