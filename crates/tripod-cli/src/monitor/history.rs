//! The last quarter of an hour, a point a second, for the page's charts.
//!
//! Constraints: bounded (900 points; a megabyte at most); a second that was not sampled, or in which something was not
//! known, is null and no zero. All series have the length of `at`.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::snapshot::{Snapshot, State};

/// Points kept.
const POINTS_MAX: usize = 900;
/// Between two of them, milliseconds.
const STEP_MS: u64 = 1_000;

/// One second.
#[derive(Debug, Clone, Default)]
struct Point {
    /// Unix seconds.
    at: i64,
    recorded_per_s: Option<f64>,
    visible_per_s: Option<f64>,
    pending_rows: Option<u64>,
    visible_p99_ms: Option<f64>,
    price_oldest_ms: Option<u64>,
    stream_lag: Option<u64>,
    /// In the order of `servers`.
    server_up: Vec<Option<u8>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    points: VecDeque<Point>,
    servers: Vec<String>,
}

/// `/api/history`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    step_ms: u64,
    at: Vec<i64>,
    series: Series<'a>,
}

#[derive(Debug, Serialize)]
struct Series<'a> {
    recorded_per_s: Vec<Option<f64>>,
    visible_per_s: Vec<Option<f64>>,
    /// Of all bots and sinks.
    pending_rows: Vec<Option<u64>>,
    visible_p99_ms: Vec<Option<f64>>,
    price_oldest_ms: Vec<Option<u64>>,
    /// Of the group that is furthest behind.
    stream_lag: Vec<Option<u64>>,
    /// 1 while it answers.
    server_up: BTreeMap<&'a str, Vec<Option<u8>>>,
}

impl History {
    /// Notes a snapshot, taken at `at` unix seconds.
    pub(super) fn push(&mut self, snapshot: &Snapshot, at: i64) {
        for server in &snapshot.servers {
            if !self.servers.contains(&server.name) {
                self.servers.push(server.name.clone());
            }
        }
        let up = |name: &String| {
            let server = snapshot.servers.iter().find(|server| server.name == *name)?;
            Some(u8::from(server.state != State::Down))
        };
        let lags = snapshot.streams.iter().flat_map(|stream| stream.groups.iter().map(|group| group.lag));
        let point = Point {
            at,
            recorded_per_s: snapshot.rates.recorded_per_s,
            visible_per_s: snapshot.rates.visible_per_s,
            pending_rows: Some(snapshot.ledger.iter().map(|line| line.row.pending).sum()),
            visible_p99_ms: snapshot.visible_ms.p99,
            price_oldest_ms: snapshot.prices.list.last().map(|price| price.age_ms),
            stream_lag: lags.max(),
            server_up: self.servers.iter().map(up).collect(),
        };
        if self.points.len() >= POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// All of it.
    pub(super) fn document(&self) -> Document<'_> {
        fn all<T>(points: &VecDeque<Point>, of: impl Fn(&Point) -> T) -> Vec<T> {
            points.iter().map(of).collect()
        }
        let points = &self.points;
        let server_up = |number: usize| all(points, |point| point.server_up.get(number).copied().flatten());
        let servers = self.servers.iter().enumerate();
        Document {
            step_ms: STEP_MS,
            at: all(points, |point| point.at),
            series: Series {
                recorded_per_s: all(points, |point| point.recorded_per_s),
                visible_per_s: all(points, |point| point.visible_per_s),
                pending_rows: all(points, |point| point.pending_rows),
                visible_p99_ms: all(points, |point| point.visible_p99_ms),
                price_oldest_ms: all(points, |point| point.price_oldest_ms),
                stream_lag: all(points, |point| point.stream_lag),
                server_up: servers.map(|(number, name)| (name.as_str(), server_up(number))).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_series_has_the_length_of_the_times_and_the_oldest_goes() {
        let mut history = History::default();
        let mut snapshot = samples::quiet();
        for second in 0..1_000 {
            if second == 950 {
                snapshot.servers.extend(samples::full().servers.into_iter().filter(|one| one.name == "questdb-second"));
            }
            history.push(&snapshot, second);
        }
        let document = serde_json::to_value(history.document()).unwrap();
        assert_eq!((document["at"][0].as_i64(), document["at"][899].as_i64()), (Some(100), Some(999)));
        let mut series = 0;
        for (name, values) in document["series"].as_object().unwrap() {
            let lists: Vec<_> = match name.as_str() {
                "server_up" => values.as_object().unwrap().values().collect(),
                _ => vec![values],
            };
            for list in lists {
                assert_eq!(list.as_array().unwrap().len(), 900, "{name}");
                series += 1;
            }
        }
        assert_eq!(series, 6 + snapshot.servers.len());
        let late = &document["series"]["server_up"]["questdb-second"];
        assert!(late[849].is_null() && late[850] == 0, "a server that came later was not down before: {late}");
    }
}
