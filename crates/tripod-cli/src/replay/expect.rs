//! What must stand on the server, computed from the files and nothing else.
//!
//! Constraints: neither the library's encoding nor the sender's memory is asked. A cell is compared as text in one
//! normal form (decimals without zeros at their end), so two numbers are equal where every digit is.

use tripod::{Decimal, Timestamp, Token};

use super::script::Step;
use super::source::{Event, Taker};

/// The tables that a replay fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    Trades,
    Quotes,
}

/// How a column is read from the server and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Number,
    /// Nanoseconds since the epoch, asked for as LONG: as a date some readers lose digits.
    Nanos,
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) key: bool,
    /// Compared once more as the server's own sum.
    pub(crate) summed: bool,
}

const fn column(name: &'static str, form: Form, key: bool, summed: bool) -> Column {
    Column { name, form, key, summed }
}

const TRADES: [Column; 8] = [
    column("venue", Form::Text, true, false),
    column("token", Form::Text, true, false),
    column("trade_id", Form::Text, true, false),
    column("side", Form::Text, false, false),
    column("price", Form::Number, false, true),
    column("size", Form::Number, false, true),
    column("slot", Form::Number, false, false),
    column("received_at", Form::Nanos, false, false),
];

const QUOTES: [Column; 10] = [
    column("source", Form::Text, true, false),
    column("seq", Form::Number, true, false),
    column("venue", Form::Text, true, false),
    column("token", Form::Text, true, false),
    column("bid", Form::Number, false, true),
    column("bid_size", Form::Number, false, true),
    column("ask", Form::Number, false, true),
    column("ask_size", Form::Number, false, true),
    column("slot", Form::Number, false, false),
    column("received_at", Form::Nanos, false, false),
];

impl Table {
    pub(crate) const ALL: [Self; 2] = [Self::Trades, Self::Quotes];

    /// Its name, without the deployment's prefix.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trades => "market_trades",
            Self::Quotes => "quotes",
        }
    }

    /// Its columns behind the designated timestamp.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Trades => &TRADES,
            Self::Quotes => &QUOTES,
        }
    }

    /// The columns that tell two rows of one instant apart.
    pub(crate) fn keys(self) -> impl Iterator<Item = &'static Column> {
        self.columns().iter().filter(|column| column.key)
    }

    /// The columns whose sums are compared.
    pub(crate) fn summed(self) -> impl Iterator<Item = &'static Column> {
        self.columns().iter().filter(|column| column.summed)
    }
}

/// One row: its instant, its key, all its cells in the order of [`Table::columns`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) at: Timestamp,
    /// In normal form; empty is NULL.
    pub(crate) cells: Vec<String>,
}

impl Row {
    /// The cells that tell it apart from others of the same instant.
    pub(crate) fn key(&self, table: Table) -> String {
        let cells = table.columns().iter().zip(&self.cells).filter(|(column, _)| column.key);
        // No token, number or file name holds a comma.
        cells.map(|(_, cell)| cell.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// The row that this step must have left, if any.
pub(crate) fn expected(step: &Step) -> Option<(Table, Row)> {
    let slot = step.at.as_millis().to_string();
    let (table, cells) = match &step.event {
        Event::Trade(trade) => (
            Table::Trades,
            vec![
                text(trade.venue),
                text(trade.token),
                text(trade.id),
                match trade.taker {
                    Taker::Buy => "buy".to_owned(),
                    Taker::Sell => "sell".to_owned(),
                },
                decimal(Some(trade.price)),
                decimal(Some(trade.size)),
                slot,
                String::new(),
            ],
        ),
        Event::Quote(quote) => (
            Table::Quotes,
            vec![
                text(step.source),
                step.line.to_string(),
                text(quote.venue),
                text(quote.token),
                decimal(Some(quote.bid_price)),
                decimal(quote.bid_size),
                decimal(Some(quote.ask_price)),
                decimal(quote.ask_size),
                slot,
                String::new(),
            ],
        ),
        Event::Price(_) => return None,
    };
    Some((table, Row { at: step.at, cells }))
}

fn text(token: Token) -> String {
    token.as_str().to_owned()
}

fn decimal(value: Option<Decimal>) -> String {
    value.map(|value| normal_number(&value.to_string())).unwrap_or_default()
}

/// A decimal's text without what does not change its value: zeros at the end of the fraction, a point with nothing
/// behind it.
pub(crate) fn normal_number(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

/// Digits behind the point of the tape's prices and sizes.
const SCALE: usize = 18;

/// An exact sum of decimals with at most 18 digits behind the point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sum {
    /// The sum of nothing is NULL, as in SQL.
    #[default]
    Null,
    /// In units of the 18th digit behind the point.
    Units(i128),
    /// Past 20 digits before the point: given up for good rather than wrong.
    GivenUp,
}

impl Sum {
    /// Adds a cell in normal form; an empty one is NULL and adds nothing.
    pub(crate) fn add(&mut self, cell: &str) {
        if cell.is_empty() {
            return;
        }
        let so_far = match *self {
            Self::Null => 0,
            Self::Units(units) => units,
            Self::GivenUp => return,
        };
        *self = scaled(cell).and_then(|units| so_far.checked_add(units)).map_or(Self::GivenUp, Self::Units);
    }

    /// In normal form; `None` where it was given up.
    pub(crate) fn text(self) -> Option<String> {
        let units = match self {
            Self::Null => return Some(String::new()),
            Self::Units(units) => units,
            Self::GivenUp => return None,
        };
        let digits = format!("{:0width$}", units.unsigned_abs(), width = SCALE + 1);
        let (whole, fraction) = digits.split_at(digits.len() - SCALE);
        let sign = if units < 0 { "-" } else { "" };
        Some(normal_number(&format!("{sign}{whole}.{fraction}")))
    }
}

fn scaled(cell: &str) -> Option<i128> {
    let (whole, fraction) = cell.split_once('.').unwrap_or((cell, ""));
    if fraction.len() > SCALE {
        return None;
    }
    format!("{whole}{fraction:0<SCALE$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_where_every_digit_is() {
        for (text, normal) in
            [("87232.0", "87232"), ("100", "100"), ("0.00012000", "0.00012"), ("0.000", "0"), ("1e3", "1e3"), ("", "")]
        {
            assert_eq!(normal_number(text), normal);
        }
        assert_ne!(normal_number("87232.000000000000000001"), normal_number("87232"));
    }

    #[test]
    fn a_sum_keeps_every_digit_and_knows_null() {
        let sum = |cells: &[&str]| {
            let mut sum = Sum::default();
            cells.iter().for_each(|cell| sum.add(cell));
            sum.text()
        };
        assert_eq!(sum(&[]).unwrap(), "");
        assert_eq!(sum(&["", "0"]).unwrap(), "0");
        assert_eq!(sum(&["0.1", "0.2", "", "99999999999"]).unwrap(), "99999999999.3");
        assert_eq!(sum(&["0.000000000000000001", "1"]).unwrap(), "1.000000000000000001");
        assert_eq!(sum(&["-0.5", "0.25"]).unwrap(), "-0.25");
        assert_eq!(sum(&["0.0000000000000000001"]), None);
        assert_eq!(sum(&["99999999999999999999", "99999999999999999999"]), None);
    }
}
