//! Tests of reports: what is decoded is what was encoded, and rates are possible whatever is lost.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use histogram::Histogram;
use proptest::prelude::*;

use super::*;

fn durations(values: &[u64]) -> Durations {
    let mut recorded = Histogram::new(5, 40).unwrap();
    for value in values {
        recorded.increment(*value).unwrap();
    }
    Durations::new(&recorded, values.iter().sum())
}

fn report(instance: u64, uptime: Duration, messages: u64) -> Report {
    let mut report = Report::new(instance, "");
    report.uptime = uptime;
    report.parts = vec![Part {
        name: "Pull".to_owned(),
        messages,
        ..Part::default()
    }];
    report
}

fn worker() -> Worker {
    Worker {
        instance: 3,
        pid: 4,
        host: "host".to_owned(),
        version: "0.1.0".to_owned(),
        started_at: UNIX_EPOCH + Duration::from_secs(9),
        uptime: Duration::from_micros(5),
        concurrency: 6,
        prefetched: 7,
        prefetch: Some(0),
        log_level: "debug".to_owned(),
        running: 8,
        results: 9,
        calls: 10,
        errors: 11,
        late: 14,
        worked: Duration::from_micros(12),
        age: Duration::from_micros(13),
        recent: vec![RecentCall::new(Work::Step, "call", "id", "a.b", 0)],
    }
}

#[test]
fn report_survives_the_wire() {
    let mut sent = report(1, Duration::from_micros(2), 3);
    sent.name = "images".to_owned();
    sent.state = State::Draining;
    sent.tasks = Backlog::new(1, 2).with_limits(3, 4);
    sent.legacy.tasks = 5;
    sent.recent = vec![RecentCall::new(Work::Request, "call", "id", "a.b", 0)];
    sent.parts[0].late = 6;
    sent.functions = vec![Function {
        name: "resize".to_owned(),
        calls: 2,
        working: durations(&[1, 1_000_000]),
        ..Function::default()
    }];
    sent.edges = vec![Edge {
        role: Role::Worker,
        state: EdgeState::Lost,
        waiting: Backlog::new(7, 8),
        stalled: Duration::from_millis(5),
        time: durations(&[77]),
        worker: Some(worker()),
        ..Edge::default()
    }];
    assert_eq!(Report::decode(sent.encode()), Ok(sent));
}

#[test]
fn worker_state_survives_the_wire() {
    let functions = vec![Function {
        name: "resize".to_owned(),
        waiting: durations(&[5]),
        ..Function::default()
    }];
    let mut state = WorkerState::new(worker(), functions);
    state.has_calls = true;
    assert_eq!(WorkerState::decode(state.encode()), Some(state.clone()));
    // A worker of an earlier version does not say that it was asked for calls.
    state.has_calls = false;
    assert!(WorkerState::decode(state.encode()).unwrap().has_calls);
    state.worker.recent.clear();
    assert_eq!(WorkerState::decode(state.encode()), Some(state));
}

#[test]
fn edges_beyond_the_largest_report_are_omitted_and_counted() {
    let mut sent = report(1, Duration::ZERO, 0);
    sent.edges = vec![
        Edge {
            name: "n".repeat(1000),
            ..Edge::default()
        };
        3000
    ];
    let bytes = sent.encode();
    assert!(bytes.len() <= MAX_REPORT_BYTES, "{}", bytes.len());
    let received = Report::decode(bytes).unwrap();
    assert!(!received.edges.is_empty());
    assert_eq!(received.edges.len() as u64 + received.omitted_edges, 3000);
}

#[test]
fn empty_reply_is_not_a_report() {
    let error = Report::decode(Bytes::new()).unwrap_err();
    assert!(error.to_string().contains("it is empty"), "{error}");
}

#[test]
fn malformed_histogram_is_read_as_empty() {
    use crate::message::proto::DurationHistogram;
    let valid = durations(&[1, 2, 3]).to_wire().unwrap();
    let malformed = [
        DurationHistogram {
            grouping_power: 900,
            ..valid.clone()
        },
        DurationHistogram {
            counts: vec![1],
            ..valid.clone()
        },
        DurationHistogram {
            buckets: vec![1, 1, u32::MAX],
            ..valid.clone()
        },
        DurationHistogram {
            counts: vec![u64::MAX, u64::MAX, 1],
            ..valid
        },
    ];
    for wire in malformed {
        assert!(Durations::from_wire(wire.clone()).is_empty(), "{wire:?}");
    }
}

#[test]
fn quantiles_are_exact_within_three_percent() {
    let values: Vec<_> = (1..=1000).map(|micros| micros * 1000).collect();
    let durations = durations(&values);
    let p50 = durations.quantile(0.5).unwrap().as_secs_f64() * 1e6;
    assert!((485.0..=520.0).contains(&p50), "{p50}");
    assert_eq!(durations.count(), 1000);
    assert_eq!(durations.mean(), Some(Duration::from_nanos(500_500)));
    assert_eq!(durations.quantile(2.0), None);
    assert_eq!(Durations::default().quantile(0.5), None);
}

/// A report of a component that has counted `rate` messages per second in each of its runs.
fn reports(runs: &[(u64, Vec<u64>)], rate: u64) -> Vec<Report> {
    let report = |(instance, seconds): (u64, u64)| {
        report(instance, Duration::from_secs(seconds), seconds * rate)
    };
    let of_run = |(instance, seconds): &(u64, Vec<u64>)| {
        let instance = *instance;
        seconds.clone().into_iter().map(move |it| (instance, it))
    };
    runs.iter().flat_map(of_run).map(report).collect()
}

proptest! {
    #[test]
    fn rates_are_possible_whatever_is_lost_repeated_or_late(
        runs in prop::collection::vec(prop::collection::vec(1_u64..100, 1..8), 1..5),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        rate in 1_u64..1000,
    ) {
        let runs: Vec<_> = (1..).zip(runs).collect();
        let sent = reports(&runs, rate);
        let mut rates = Rates::default();
        for index in order {
            let arrived = index.get(&sent).clone();
            let (instance, uptime) = (arrived.instance, arrived.uptime);
            let before = rates.latest().map(|it| (it.instance, it.uptime));
            if !rates.add(arrived) {
                // Older than the latest one, or of an earlier run.
                let (last, latest) = before.unwrap();
                prop_assert!(instance != last || uptime <= latest);
            }
            let measured = rates.rate(|it| it.parts[0].messages);
            let is_exact = (measured - rate as f64).abs() < 1e-6 * rate as f64;
            prop_assert!(measured == 0.0 || is_exact, "{measured} instead of {rate}");
        }
    }

    #[test]
    fn sessions_with_one_name_have_their_own_rates(
        opened in prop::collection::btree_set(0_u64..1100, 1..20),
    ) {
        // Each has sent as many messages per second as the number of the second in which it was opened.
        let at = |second: u64| {
            let mut report = report(1, Duration::from_secs(second), 0);
            let opened = opened.iter().filter(|opened| **opened < second);
            report.edges = opened
                .map(|opened| Edge {
                    name: "worker".to_owned(),
                    age: Duration::from_secs(second - opened),
                    sent: opened * (second - opened),
                    ..Edge::default()
                })
                .collect();
            report
        };
        let mut rates = Rates::default();
        rates.add(at(1000));
        rates.add(at(1100));
        for (edge, opened) in rates.latest().unwrap().edges.iter().zip(&opened) {
            let measured = rates.edge_rate(edge, |it| it.sent) * 100.0;
            let expected = opened * (1100 - opened).min(100);
            prop_assert!((measured - expected as f64).abs() < 1e-3, "{measured}, not {expected}");
        }
    }

    #[test]
    fn merged_histograms_do_not_depend_on_the_order(
        mut parts in prop::collection::vec(prop::collection::vec(0_u64..1 << 30, 0..20), 1..6),
    ) {
        let merged = |parts: &[Vec<u64>]| {
            let mut all = Durations::default();
            for part in parts {
                all.merge(&durations(part));
            }
            all
        };
        let forwards = merged(&parts);
        let whole: Vec<_> = parts.concat();
        prop_assert_eq!(&forwards, &durations(&whole));
        parts.reverse();
        prop_assert_eq!(forwards, merged(&parts));
    }

    #[test]
    fn decoding_a_report_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Report::decode(bytes.into());
    }
}

#[test]
fn request_without_recent_calls_is_empty() {
    assert_eq!(ReportRequest::default().encode(), Bytes::new());
    for recent in ["", "call"] {
        let recent = Some(recent.to_owned());
        let request = ReportRequest { recent };
        assert_eq!(ReportRequest::decode(request.encode()), request);
    }
    let malformed = ReportRequest::decode(Bytes::from_static(b"\xff"));
    assert_eq!(malformed, ReportRequest::default());
}
