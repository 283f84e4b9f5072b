//! The commented reference, generated from the defaults.

use super::Config;

/// The reference configuration.
#[must_use]
pub fn reference() -> String {
    String::new()
}

pub(super) fn shape() -> toml::Table {
    toml::Table::try_from(Config::default()).unwrap_or_default()
}
