//! `[monitor]`: where `tripod monitor` listens, who may look, what it does at set times.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// A token that is shorter can be guessed.
const TOKEN_CHARS_LEAST: usize = 16;

/// `[monitor]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Monitor {
    /// `IP:port`. An address that others reach is refused without a token.
    pub listen: String,
    /// Who shows it may look; empty: whoever reaches the address, which is then a loopback one.
    #[serde(skip_serializing)]
    pub token: SecretString,
    /// Read the token from this file instead.
    pub token_file: Option<PathBuf>,
    /// A backup that was not proven for so long is restored into scratch servers and compared; 0: never.
    pub verify_every_hours: u64,
    /// When `tape retention run` runs each day, UTC, as `HH:MM`; empty: never.
    pub retention_at: String,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9600".into(),
            token: SecretString::default(),
            token_file: None,
            verify_every_hours: 24,
            retention_at: "03:30".into(),
        }
    }
}

impl Monitor {
    /// Minutes after midnight, UTC, of the daily retention; none where it never runs.
    #[must_use]
    pub fn retention_minute(&self) -> Option<u16> {
        minute_of(&self.retention_at)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.listen.parse::<std::net::SocketAddr>().is_err() {
            return Err("monitor.listen: is not IP:PORT".into());
        }
        let token = self.token.expose_secret();
        if !token.is_empty() && token.chars().count() < TOKEN_CHARS_LEAST {
            return Err(format!("monitor.token: has fewer than {TOKEN_CHARS_LEAST} characters"));
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("monitor.token: takes printable ASCII without spaces".into());
        }
        if self.verify_every_hours > 8760 {
            return Err(format!("monitor.verify_every_hours: {} is outside 0 to 8760", self.verify_every_hours));
        }
        if !self.retention_at.is_empty() && self.retention_minute().is_none() {
            return Err("monitor.retention_at: is not HH:MM, 00:00 to 23:59".into());
        }
        Ok(())
    }
}

fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str, limit: u16| {
        let fine = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|number| fine && *number < limit)
    };
    Some(two(hour, 24)? * 60 + two(minute, 60)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_day_is_two_digits_each_and_a_real_one() {
        assert_eq!(["00:00", "03:30", "23:59"].map(minute_of), [Some(0), Some(210), Some(1439)]);
        assert_eq!(["", "3:30", "24:00", "12:60", "12:5", "+1:00", "12:00:00"].map(minute_of), [None; 7]);
    }

    #[test]
    fn a_short_token_an_address_without_a_port_and_a_wrong_time_are_named() {
        let wrong = |change: fn(&mut Monitor)| {
            let mut monitor = Monitor::default();
            change(&mut monitor);
            monitor.check().unwrap_err()
        };
        assert!(Monitor::default().check().is_ok());
        assert!(wrong(|m| m.listen = "localhost".into()).starts_with("monitor.listen"));
        assert!(wrong(|m| m.token = "short".into()).starts_with("monitor.token"));
        assert!(wrong(|m| m.token = "sixteen chars ok".into()).starts_with("monitor.token"), "a header takes no space");
        assert!(wrong(|m| m.retention_at = "25:00".into()).starts_with("monitor.retention_at"));
        assert!(wrong(|m| m.verify_every_hours = 9000).starts_with("monitor.verify_every_hours"));
    }
}
