//! The built-in rows: what a Solana trading bot must be able to answer afterwards.
//!
//! Constraints: a row holds nothing that a second delivery would change, so every time in it is the bot's own. Money is
//! a u64 of raw units or a [`Decimal`](crate::Decimal), never a float. Text is borrowed, so that building a row moves no
//! heap. Every column that a rollup groups by is a key, because QuestDB asks that of a view on a DEDUP table.
//!
//! | table | a row is | told apart by | and grouped by |
//! |---|---|---|---|
//! | `attempts` | a decision to trade, before it is sent | id | strategy, venue, token |
//! | `executions` | how it ended | id | strategy, venue, token, status |
//! | `market_trades` | somebody's trade on a venue | venue, token, trade_id | |
//! | `quotes` | a best bid and ask | source, seq | venue, token |
//! | `performance` | a strategy's books at an instant | source, seq | strategy, token |
//! | `samples` | any named measurement | source, seq | name |
//!
//! An attempt without an execution of the same id is one whose bot died or whose end nobody saw. `seq` counts up per
//! source and is never used twice; in a replay it is the input's line number.

mod market;
mod performance;
mod trading;

pub use market::{MarketTrade, Quote, Side};
pub use performance::{Performance, Sample};
pub use trading::{Attempt, Execution, ExecutionStatus};

use crate::tape::Row;
use crate::tape::spec::TableSpec;

/// The specs of all built-in tables.
#[must_use]
pub fn builtin() -> Vec<&'static TableSpec> {
    vec![Attempt::spec(), Execution::spec(), MarketTrade::spec(), Quote::spec(), Performance::spec(), Sample::spec()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tape::spec::Importance;

    #[test]
    fn every_builtin_table_is_sound_and_has_its_own_name() {
        let specs = builtin();
        for spec in &specs {
            spec.check().unwrap();
            assert!(!spec.doc.is_empty(), "{} says nothing about itself", spec.name);
            for column in &spec.columns {
                assert!(!column.doc.is_empty(), "{}.{} says nothing about itself", spec.name, column.name);
            }
        }
        let names: std::collections::BTreeSet<_> = specs.iter().map(|spec| &spec.name).collect();
        assert_eq!(names.len(), specs.len());
    }

    #[test]
    fn keys_and_importance_are_the_ones_that_rollups_and_budgets_rely_on() {
        let of = |spec: &TableSpec| {
            let keys: Vec<_> = spec.keys().map(|key| key.name.as_str()).collect();
            (spec.importance, keys.join(" "))
        };
        assert_eq!(of(Attempt::spec()), (Importance::Critical, "at id strategy venue token".into()));
        assert_eq!(of(Execution::spec()), (Importance::Critical, "at id strategy venue token status".into()));
        assert_eq!(of(MarketTrade::spec()), (Importance::Standard, "at venue token trade_id".into()));
        assert_eq!(of(Quote::spec()), (Importance::Standard, "at source seq venue token".into()));
        assert_eq!(of(Performance::spec()), (Importance::Standard, "at source seq strategy token".into()));
        assert_eq!(of(Sample::spec()), (Importance::Debug, "at source seq name".into()));
    }
}
