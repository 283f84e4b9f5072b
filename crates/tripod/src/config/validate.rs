//! The checks of the values, after everything was read. Each answer names the key and its limit.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{Config, Redis, RedisMode};

pub(super) fn check(config: &Config) -> Result<(), String> {
    name("bot", &config.bot)?;

    let journal = &config.journal;
    within("journal.segment_mib", journal.segment_mib, &(1..=1024))?;
    for (key, budget) in [
        ("journal.critical_budget_mib", journal.critical_budget_mib),
        ("journal.standard_budget_mib", journal.standard_budget_mib),
        ("journal.debug_budget_mib", journal.debug_budget_mib),
    ] {
        // Below four segments the open ones alone would use the budget up.
        within(key, budget, &(journal.segment_mib * 4..=1_048_576))?;
    }
    within("journal.keep_hours", journal.keep_hours, &(0..=8760))?;
    within("journal.critical_sync_ms", journal.critical_sync_ms, &(10..=60_000))?;
    within("journal.standard_sync_ms", journal.standard_sync_ms, &(10..=60_000))?;

    let tape = &config.tape;
    within("tape.flush_interval_ms", tape.flush_interval_ms, &(1..=60_000))?;
    within("tape.flush_rows", tape.flush_rows, &(1..=200_000))?;
    within("tape.flush_kib", tape.flush_kib, &(64..=65_536))?;
    within("tape.request_timeout_ms", tape.request_timeout_ms, &(100..=300_000))?;
    within("tape.retry_max_ms", tape.retry_max_ms, &(10..=60_000))?;
    within("tape.rewind_s", tape.rewind_s, &(0..=86_400))?;
    prefix("tape.table_prefix", &tape.table_prefix)?;

    let retention = &config.retention;
    for (key, days) in [
        ("retention.critical_days", retention.critical_days),
        ("retention.standard_days", retention.standard_days),
        ("retention.debug_days", retention.debug_days),
    ] {
        // Below two days a view could not be told to leave alone what expires.
        if days != 0 {
            within(key, days, &(2..=3650))?;
        }
    }
    within("retention.rollup_days", retention.rollup_days, &(30..=36_500))?;
    within("retention.archive_after_days", retention.archive_after_days, &(1..=28))?;

    if config.questdb.is_empty() {
        return Err("questdb: at least one [[questdb]] is needed".into());
    }
    for (index, sink) in config.questdb.iter().enumerate() {
        name(&format!("questdb.{index}.name"), &sink.name)?;
        address(&format!("questdb.{index}.http"), &sink.http)?;
        address(&format!("questdb.{index}.pg"), &sink.pg)?;
        if !sink.metrics.is_empty() {
            address(&format!("questdb.{index}.metrics"), &sink.metrics)?;
        }
        trust(&format!("questdb.{index}"), sink.tls, sink.ca_file.is_some())?;
        if config.questdb[..index].iter().any(|other| other.name == sink.name) {
            return Err(format!("questdb.{index}.name: `{}` is there twice", sink.name));
        }
    }

    let postgres = &config.postgres;
    if postgres.hosts.is_empty() {
        return Err("postgres.hosts: at least one is needed".into());
    }
    for host in &postgres.hosts {
        address("postgres.hosts", host)?;
    }
    trust("postgres", postgres.tls, postgres.ca_file.is_some())?;
    within("postgres.pool_size", postgres.pool_size, &(1..=100))?;
    within("postgres.deadline_ms", postgres.deadline_ms, &(10..=600_000))?;

    redis("redis.prices", &config.redis.prices)?;
    redis("redis.events", &config.redis.events)?;

    within("prices.ttl_ms", config.prices.ttl_ms, &(100..=60_000))?;
    within("prices.guard_ttl_ms", config.prices.guard_ttl_ms, &(config.prices.ttl_ms..=86_400_000))?;
    prefix("prices.key_prefix", &config.prices.key_prefix)?;
    within("events.cap", config.events.cap, &(1..=10_000_000))?;
    within("events.payload_bytes_max", config.events.payload_bytes_max, &(64..=16_777_216))?;
    within("events.claim_after_ms", config.events.claim_after_ms, &(100..=86_400_000))?;
    within("events.handler_deadline_ms", config.events.handler_deadline_ms, &(10..=3_600_000))?;
    within("events.tries_max", config.events.tries_max, &(1..=1000))?;
    within("events.dead_cap", config.events.dead_cap, &(1..=10_000_000))?;
    within("events.republish_window_ms", config.events.republish_window_ms, &(0..=600_000))?;
    prefix("events.key_prefix", &config.events.key_prefix)?;
    config.monitor.check()
}

fn redis(section: &str, redis: &Redis) -> Result<(), String> {
    if redis.addresses.is_empty() {
        return Err(format!("{section}.addresses: at least one is needed"));
    }
    if redis.mode == RedisMode::Single && redis.addresses.len() > 1 {
        return Err(format!(
            "{section}.addresses: mode single takes one address; several are sentinels (mode sentinel)"
        ));
    }
    for text in &redis.addresses {
        if !text.starts_with('/') {
            address(&format!("{section}.addresses"), text)?;
        } else if redis.tls {
            return Err(format!("{section}.addresses: a unix socket has no TLS; write HOST:PORT, or tls = false"));
        }
    }
    trust(section, redis.tls, redis.ca_file.is_some())?;
    within(&format!("{section}.deadline_ms"), redis.deadline_ms, &(10..=600_000))
}

/// Who names an authority means to be encrypted.
fn trust(section: &str, tls: bool, has_ca_file: bool) -> Result<(), String> {
    if has_ca_file && !tls {
        return Err(format!("{section}.ca_file: is of no use with {section}.tls = false; set it to true"));
    }
    Ok(())
}

fn within<T: Copy + PartialOrd + Display>(key: &str, value: T, limits: &RangeInclusive<T>) -> Result<(), String> {
    if limits.contains(&value) {
        return Ok(());
    }
    Err(format!("{key}: {value} is outside {} to {}", limits.start(), limits.end()))
}

/// Names stand in file names, keys and metrics.
fn name(key: &str, text: &str) -> Result<(), String> {
    let fine = (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if fine { Ok(()) } else { Err(format!("{key}: `{text}` is not 1 to 32 letters, digits, - or _")) }
}

/// Prefixes stand before table names and keys.
fn prefix(key: &str, text: &str) -> Result<(), String> {
    let fine = text.len() <= 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fine { Ok(()) } else { Err(format!("{key}: `{text}` is not up to 32 letters, digits or _")) }
}

/// No scheme, no login, no path: addresses are shown by `status`.
fn address(key: &str, text: &str) -> Result<(), String> {
    let host_is_fine = |host: &str| {
        host.starts_with('/') || host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]%".contains(&b))
    };
    let valid = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && host_is_fine(host) && port.parse::<u16>().is_ok());
    // What is not an address may hold a login: it is not repeated.
    if valid { Ok(()) } else { Err(format!("{key}: is not HOST:PORT")) }
}
