//! The commented reference: every key, what it means, its default. Generated from the defaults, so it cannot drift:
//! a test reads it back and compares, and fails on a key without a sentence.

use std::fmt::Write as _;

use super::{Config, environment};

/// A section's path, and for each of its keys a sentence.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

const SECTIONS: &[Section] = &[
    (
        "",
        &[(
            "bot",
            "Name of this bot: 1 to 32 letters, digits, - or _. Several bots share a stack; each has its own name.",
        )],
    ),
    (
        "journal",
        &[
            ("dir", "Directory of all journals on this machine; this bot's is DIR/<bot>. Relative to this file."),
            (
                "segment_mib",
                "Size of one segment file. Smaller wastes less disk, larger changes files less often. 1 to 1024.",
            ),
            ("critical_budget_mib", "Disk for undelivered critical rows; beyond it record() refuses: stop trading."),
            ("standard_budget_mib", "Disk for undelivered standard rows; beyond it new rows are dropped and counted."),
            ("debug_budget_mib", "Disk for undelivered debug rows; beyond it new rows are dropped and counted."),
            ("keep_hours", "Delivered segments stay this long, for a QuestDB that forgets or is restored."),
            ("sync", "When a record survives power loss: process (when the kernel writes it), periodic, each."),
            ("critical_sync_ms", "With periodic: at most this much of the critical tables is lost when power fails."),
            ("standard_sync_ms", "With periodic: the same for the other tables."),
        ],
    ),
    (
        "tape",
        &[
            ("flush_interval_ms", "Rows are sent at the latest this long after the first one that waits."),
            ("flush_rows", "Rows are sent when this many wait. More is faster, and slower to become visible."),
            ("flush_kib", "Rows are sent when this much text waits. QuestDB's client refuses more than 100 MiB."),
            ("request_timeout_ms", "QuestDB answers one request within this, or counts as away."),
            ("retry_max_ms", "Longest pause between two tries while QuestDB is away."),
            ("rewind_s", "After each restart of QuestDB, this much of what it had is sent again. 0 to 86400."),
            ("table_prefix", "Put before each table's name, for several deployments on one QuestDB."),
            ("delivery", "Who delivers: inside (the bot), or beside (`tripod deliver`, and the bot only records)."),
        ],
    ),
    (
        "retention",
        &[
            (
                "critical_days",
                "Days that rows of critical tables stay on QuestDB; 0: as each table says (built-in: 30).",
            ),
            ("standard_days", "The same for standard tables."),
            ("debug_days", "The same for debug tables."),
            ("rollup_days", "Days that the rollup tables (candles_1m_kept, …) stay. 30 to 36500."),
            ("archive_after_days", "A day is rolled up and archived so many days after it ended. 1 to 28."),
            ("archive_dir", "Directory of the Parquet archive, and of retention.json. Relative to this file."),
        ],
    ),
    (
        "questdb",
        &[
            ("name", "Name of this sink in cursors, metrics and status."),
            ("required", "A required sink holds journal segments until it has them."),
            ("http", "HOST:PORT of HTTP: writes, DDL, checks."),
            ("pg", "HOST:PORT of the PostgreSQL wire protocol: reads."),
            ("metrics", "HOST:PORT of the metrics endpoint; empty where there is none."),
            ("tls", "Use TLS to http and pg (open-source QuestDB needs a proxy for it)."),
            (
                "ca_file",
                "With tls: PEM file of the authorities to trust at http and pg, no other [default: the public ones].",
            ),
            ("token", "Sent to http as a bearer token instead of user and password; better: token_file."),
            ("token_file", "Read the token from this file."),
            ("user", "User of HTTP and of the PostgreSQL wire protocol."),
            ("password", "Its password; better: password_file, or the environment."),
            ("password_file", "Read the password from this file."),
        ],
    ),
    (
        "postgres",
        &[
            ("hosts", "HOST:PORT, or /DIRECTORY:PORT of a unix socket. The first that takes writes is used."),
            ("database", "The database."),
            ("tls", "Use TLS."),
            ("ca_file", "With tls: PEM file of the authorities to trust, no other [default: the system's]."),
            ("user", "The bot's login; `tripod migrate` puts it into the group tripod_writer."),
            ("password", "Its password; better: password_file, or the environment."),
            ("password_file", "Read the password from this file."),
            ("admin_user", "The login of `tripod migrate`. A bot needs none."),
            ("admin_password", "Its password."),
            ("admin_password_file", "Read the admin's password from this file."),
            ("pool_size", "Connections at most. 1 to 100."),
            ("deadline_ms", "One call, from waiting for a connection to the last row, ends within this."),
        ],
    ),
    ("redis.prices", REDIS),
    ("redis.events", REDIS),
    (
        "prices",
        &[
            ("ttl_ms", "Life of price:TOKEN. 100 to 60000; 1000 to 2000 by specification."),
            ("guard_ttl_ms", "Life of the guard that keeps an older slot from replacing a newer one; at least ttl_ms."),
            ("key_prefix", "Put before each key, for several deployments on one Redis."),
        ],
    ),
    (
        "events",
        &[
            ("cap", "Entries that a stream holds at most, exactly."),
            ("payload_bytes_max", "Bytes of one payload at most."),
            ("claim_after_ms", "A consumer that has not acknowledged for this long is dead; its events are claimed."),
            ("handler_deadline_ms", "A handler that has not finished within this has failed. 10 to 3600000."),
            (
                "tries_max",
                "Deliveries of one event to a group; after the last one it goes to the dead letters. 1 to 1000.",
            ),
            ("dead_cap", "Dead letters that a topic keeps at most; the oldest go first."),
            (
                "republish_window_ms",
                "What was acknowledged within this is looked up after a reconnect and published again if missing; 0: not.",
            ),
            ("key_prefix", "Put before each key, for several deployments on one Redis."),
        ],
    ),
    (
        "backup",
        &[(
            "dir",
            "Directory of the backups, best on another disk; in none of the servers' own. Relative to this file.",
        )],
    ),
    (
        "monitor",
        &[
            ("listen", "IP:PORT of `tripod monitor`. An address that others reach is refused without a token."),
            ("token", "Who shows it may look; at least 16 characters; better: token_file, or the environment."),
            ("token_file", "Read the token from this file."),
            ("verify_every_hours", "A backup not proven for so long is restored aside and compared; 0: never."),
            ("retention_at", "When `tripod tape retention run` runs each day, UTC, HH:MM; empty: never."),
        ],
    ),
];

const REDIS: &[(&str, &str)] = &[
    ("mode", "single: one server. sentinel: ask the sentinels for the primary and follow it."),
    ("addresses", "With single: one HOST:PORT or /PATH of a socket. With sentinel: the sentinels' HOST:PORT."),
    ("primary_name", "With sentinel: the name that the sentinels give the primary."),
    ("sentinel_user", "With sentinel: the ACL user at the sentinels; empty where they ask for a password alone."),
    ("sentinel_password", "Its password; without one nobody logs in there."),
    ("sentinel_password_file", "Read the sentinels' password from this file."),
    ("tls", "Use TLS, to the sentinels too."),
    ("ca_file", "With tls: PEM file of the authorities to trust, no other [default: the system's]."),
    ("user", "The bot's ACL user."),
    ("password", "Its password; better: password_file, or the environment."),
    ("password_file", "Read the password from this file."),
    ("admin_user", "The ACL user of `tripod status`, `migrate`, `doctor`. A bot needs none."),
    ("admin_password", "Its password."),
    ("admin_password_file", "Read the admin's password from this file."),
    ("deadline_ms", "One call ends within this (a blocking read: within this and its block time)."),
];

/// The reference configuration: parses to exactly the defaults. Keys that have no default stand as comments.
#[must_use]
pub fn reference() -> String {
    let defaults = defaults();
    let mut text = String::from(
        "# Tripod's configuration: every key with its default.\n\
         # A key that is not known is an error. Each key can be set by a variable of the environment too, e.g.\n",
    );
    let example = environment::variable(&["tape", "flush_interval_ms"]);
    let secret = environment::variable(&["questdb", "0", "password"]);
    // Writing into a String cannot fail.
    let _ = writeln!(text, "# {example}=50 or {secret}=... (entries of a list by number).");
    for (section, keys) in SECTIONS {
        match *section {
            "" => text.push('\n'),
            "questdb" => text.push_str("\n# One entry a sink: every row goes to each.\n[[questdb]]\n"),
            name => {
                let _ = writeln!(text, "\n[{name}]");
            }
        }
        for (key, doc) in *keys {
            let _ = writeln!(text, "# {doc}");
            let _ = match default_at(&defaults, section, key) {
                Some(value) => writeln!(text, "{key} = {value}"),
                None => writeln!(text, "# {key} = \"\""),
            };
        }
    }
    text
}

/// Refuses a secret that is not a text, by its key's name: the error that follows otherwise would quote it.
pub(super) fn check_secrets(document: &toml::Table) -> Result<(), String> {
    fn check(place: &str, table: &toml::Table) -> Result<(), String> {
        for (key, value) in table {
            let name = format!("{place}{key}");
            match value {
                toml::Value::Table(inner) => check(&format!("{name}."), inner)?,
                toml::Value::Array(list) => {
                    for (number, inner) in list.iter().enumerate() {
                        if let Some(inner) = inner.as_table() {
                            check(&format!("{name}.{number}."), inner)?;
                        }
                    }
                }
                toml::Value::String(_) => {}
                _ if key.ends_with("password") || key == "token" => {
                    return Err(format!("{name}: must be a text in quotes"));
                }
                _ => {}
            }
        }
        Ok(())
    }
    check("", document)
}

fn default_at<'a>(defaults: &'a toml::Table, section: &str, key: &str) -> Option<&'a toml::Value> {
    let mut table = defaults;
    for part in section.split('.').filter(|p| !p.is_empty()) {
        table = match table.get(part)? {
            toml::Value::Array(list) => list.first()?.as_table()?,
            value => value.as_table()?,
        };
    }
    table.get(key)
}

/// The defaults as a table.
pub(super) fn defaults() -> toml::Table {
    // The defaults are plain values: turning them into a table cannot fail, and the tests would see it.
    toml::Table::try_from(Config::default()).unwrap_or_default()
}

/// The defaults as a table, with an empty text at each key that has no default (secrets, files).
pub(super) fn shape() -> toml::Table {
    let mut table = defaults();
    for (section, keys) in SECTIONS {
        let mut place = Some(&mut table);
        for part in section.split('.').filter(|p| !p.is_empty()) {
            place = place.and_then(|t| match t.get_mut(part) {
                Some(toml::Value::Array(list)) => list.first_mut().and_then(toml::Value::as_table_mut),
                Some(value) => value.as_table_mut(),
                None => None,
            });
        }
        if let Some(place) = place {
            for (key, _) in *keys {
                place.entry(*key).or_insert_with(|| toml::Value::String(String::new()));
            }
        }
    }
    table
}
