//! The answers to callers, by route and by kind of status.

use super::elementwise::{Elementwise, wrapped};
use crate::proxy::route::Route;
use crate::telemetry::metrics::reading::series;
use crate::telemetry::metrics::{Metrics, words};

words! {
    /// The kinds of status codes that operators tell apart.
    pub enum StatusKind {
        Success = "2xx",
        Redirection = "3xx",
        ClientError = "4xx",
        ServerError = "5xx",
        /// The caller left before the answer (499), or the status is of none of the other kinds.
        Other = "other",
    }
}

impl StatusKind {
    /// Classifies the label `code` of `requests_total`.
    fn of(code: &str) -> Self {
        match code.as_bytes() {
            b"499" => Self::Other,
            [b'2', ..] => Self::Success,
            [b'3', ..] => Self::Redirection,
            [b'4', ..] => Self::ClientError,
            [b'5', ..] => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// One count for each [`StatusKind`].
pub type ByStatus = [u32; StatusKind::ALL.len()];

/// Counts of answers, one row for each of [`Route::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers([ByStatus; Route::ALL.len()]);

impl Answers {
    /// The answers since the process started.
    pub fn read(metrics: &Metrics) -> Self {
        let mut answers = Self::default();
        for series in series(&metrics.requests) {
            let mut rows = Route::ALL.iter().zip(&mut answers.0);
            if let Some((_, row)) = rows.find(|(route, _)| route.template() == series.label("route")) {
                add(row, StatusKind::of(series.label("code")), wrapped(series.count()));
            }
        }
        answers
    }

    /// Each route that has an answer, in the order of [`Route::ALL`].
    pub fn routes(&self) -> impl Iterator<Item = (Route, &ByStatus)> {
        Route::ALL.iter().copied().zip(&self.0).filter(|(_, row)| row.iter().any(|count| *count > 0))
    }

    /// The answers of all routes together.
    pub fn total(&self) -> ByStatus {
        self.0.iter().fold(ByStatus::default(), |sum, row| sum.combine(row, u32::wrapping_add))
    }

    /// Counts further answers.
    #[cfg(test)]
    pub fn add(&mut self, route: Route, kind: StatusKind, more: u32) {
        let row = Route::ALL.iter().zip(&mut self.0).find(|(known, _)| **known == route);
        row.into_iter().for_each(|(_, row)| add(row, kind, more));
    }
}

impl Elementwise for Answers {
    fn combine(&self, other: &Self, each: fn(u32, u32) -> u32) -> Self {
        Self(self.0.combine(&other.0, each))
    }
}

fn add(row: &mut ByStatus, kind: StatusKind, more: u32) {
    let known = StatusKind::ALL.iter().zip(row).find(|(known, _)| **known == kind);
    known.into_iter().for_each(|(_, count)| *count = count.wrapping_add(more));
}

/// The count of one kind of status.
pub fn of_kind(row: &ByStatus, kind: StatusKind) -> u32 {
    StatusKind::ALL.iter().zip(row).find(|(known, _)| **known == kind).map_or(0, |(_, count)| *count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_one_kind() {
        for (code, kind) in [
            ("200", StatusKind::Success),
            ("304", StatusKind::Redirection),
            ("404", StatusKind::ClientError),
            ("499", StatusKind::Other),
            ("504", StatusKind::ServerError),
            ("101", StatusKind::Other),
            ("other", StatusKind::Other),
        ] {
            assert_eq!(StatusKind::of(code), kind, "{code}");
        }
    }

    #[test]
    fn answers_are_read_by_route_and_kind() {
        let metrics = Metrics::new().expect("metrics");
        for (route, code, times) in [("/v2/session", "200", 2), ("/v2/session", "503", 3), ("other", "499", 4)] {
            metrics.requests.with_label_values(&[route, "POST", code, "sidecar"]).inc_by(times);
        }
        let answers = Answers::read(&metrics);
        let rows: Vec<_> = answers.routes().map(|(route, row)| (route.template(), *row)).collect();
        assert_eq!(rows, [("/v2/session", [2, 0, 0, 3, 0]), ("other", [0, 0, 0, 0, 4])]);
        assert_eq!(answers.total(), [2, 0, 0, 3, 4]);
    }
}
