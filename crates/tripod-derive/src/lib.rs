//! `#[derive(Row)]`: a table's spec, checks and encoding from one struct.
//!
//! Constraints: whatever can be known at compile time is a compile error that says what to change; the types of fields
//! are left to traits (`tripod::tape::row::{Field, TextField, DecimalField}`), so that aliases and newtypes work.
//!
//! Picture:
//! ```text
//! struct ──parse──▶ Table, Columns ──expand──▶ impl Row { fn spec(), fn write() }
//! ```

mod attributes;
mod expand;
mod parse;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct with named fields one row of a table.
///
/// On the struct: `#[row(table = "fills", importance = "critical", retain_days = 30)]`. `importance` is `critical`,
/// `standard` or `debug` and decides what happens when the journal is full; `retain_days` is 30 where it is not said.
///
/// On a field:
/// - `timestamp`: the designated timestamp, exactly one, a `Timestamp`; always a key, always the first column
/// - `key`: part of DEDUP UPSERT KEYS; at least one besides the timestamp, none of them an `Option`
/// - `symbol`: text of a bounded set, at most 64 bytes (SYMBOL)
/// - `text = 256`: text of at most so many bytes (VARCHAR)
/// - `decimal = "28,18"`: digits in all, digits after the point
/// - `rename = "…"`: the column's name, where it is not the field's
///
/// Without an attribute a field is a `bool`, `i64`, `f64`, `u64`, `Timestamp`, `Uuid`, `Token`, an `Option` of one
/// (there is no `Option<bool>`), or a type of your own that says so. Doc comments become the table's and columns' docs.
#[proc_macro_derive(Row, attributes(row))]
pub fn derive_row(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    parse::table(&input)
        .map_or_else(syn::Error::into_compile_error, |table| expand::implementation(&input, &table))
        .into()
}
