//! `#[derive(Row)]`: a table's spec, checks and encoding from one struct.
