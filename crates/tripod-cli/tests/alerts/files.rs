//! The files of `ops/` and `docs/alerts.md`, read as their programs read them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use promql_parser::parser::{Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One alert.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rule {
    pub(crate) alert: String,
    pub(crate) expr: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// What `alerts_test.yml` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Tests {
    pub(crate) tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) input_series: Vec<Series>,
    #[serde(default)]
    pub(crate) alert_rule_test: Vec<Check>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Series {
    pub(crate) series: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Check {
    pub(crate) eval_time: String,
    pub(crate) alertname: String,
    pub(crate) exp_alerts: Vec<serde_json::Value>,
}

impl Check {
    pub(crate) fn fires(&self) -> bool {
        !self.exp_alerts.is_empty()
    }

    /// Seconds from the beginning, of `1h2m3s`.
    pub(crate) fn at(&self) -> u64 {
        let (mut sum, mut number) = (0, 0);
        for letter in self.eval_time.chars() {
            match letter.to_digit(10) {
                Some(digit) => number = number * 10 + u64::from(digit),
                None => {
                    let seconds = match letter {
                        'd' => 86_400,
                        'h' => 3_600,
                        'm' => 60,
                        's' => 1,
                        _ => panic!("{} is no time", self.eval_time),
                    };
                    sum += std::mem::take(&mut number) * seconds;
                }
            }
        }
        assert_eq!(number, 0, "{} has no unit", self.eval_time);
        sum
    }
}

/// A path of the project.
pub(crate) fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name).canonicalize().unwrap()
}

pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(place(name)).unwrap()
}

pub(crate) fn yaml<T: DeserializeOwned>(name: &str) -> T {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every alert.
pub(crate) fn rules() -> Vec<Rule> {
    let rules: Rules = yaml("ops/prometheus/alerts.yml");
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

impl Rule {
    pub(crate) fn parsed(&self) -> Expr {
        promql_parser::parser::parse(&self.expr).unwrap_or_else(|error| panic!("{}: {error}", self.alert))
    }

    /// Everything that it looks at, with its matchers.
    pub(crate) fn selectors(&self) -> Vec<VectorSelector> {
        let mut all = Selectors::default();
        walk_expr(&mut all, &self.parsed()).unwrap();
        all.0
    }
}

/// The metrics that all rules name.
pub(crate) fn metrics() -> BTreeSet<String> {
    rules().iter().flat_map(|rule| rule.selectors()).map(|selector| selector.name.unwrap()).collect()
}

#[derive(Default)]
struct Selectors(Vec<VectorSelector>);

impl ExprVisitor for Selectors {
    type Error = String;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, String> {
        match expr {
            Expr::VectorSelector(selector) => self.0.push(selector.clone()),
            Expr::MatrixSelector(matrix) => self.0.push(matrix.vs.clone()),
            _ => {}
        }
        Ok(true)
    }
}

/// The sections of docs/alerts.md: heading and text.
pub(crate) fn sections() -> BTreeMap<String, String> {
    let text = text("docs/alerts.md");
    let parts = text.split("\n## ").skip(1);
    parts.map(|part| part.split_once('\n').unwrap()).map(|(head, body)| (head.to_owned(), body.to_owned())).collect()
}
