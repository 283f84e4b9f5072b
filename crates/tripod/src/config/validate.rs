//! The checks of the values, after everything was read. Each answer names the key.

use super::Config;

pub(super) fn check(_config: &Config) -> Result<(), String> {
    Ok(())
}
