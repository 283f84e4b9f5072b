//! What crosses a network readable: addresses of the config that lead off this machine, without TLS.
//!
//! Constraints: judged by the config alone. A tunnel (WireGuard, stunnel on the other machine) is not seen: name the
//! tunnel's own end on this machine, and it is loopback.

use std::net::IpAddr;

use super::{Departure, Finding};
use crate::config::Config;

/// Looks at every address. One finding a server, with the key that mends it.
#[must_use]
pub fn look(config: &Config) -> Vec<Departure> {
    let mut found = Vec::new();
    for (number, server) in config.questdb.iter().enumerate() {
        let addresses = [&server.http, &server.pg];
        found.extend(plain(&format!("questdb.{number}"), server.tls, addresses.into_iter().map(String::as_str)));
    }
    let postgres = &config.postgres;
    found.extend(plain("postgres", postgres.tls, postgres.hosts.iter().map(String::as_str)));
    for (section, redis) in [("redis.prices", &config.redis.prices), ("redis.events", &config.redis.events)] {
        found.extend(plain(section, redis.tls, redis.addresses.iter().map(String::as_str)));
    }
    found
}

fn plain<'a>(section: &str, tls: bool, addresses: impl Iterator<Item = &'a str>) -> Option<Departure> {
    let away: Vec<&str> = addresses.filter(|address| leaves_the_machine(address)).collect();
    (!tls && !away.is_empty()).then(|| {
        Departure::wrong(
            Finding::NetworkPlain,
            format!("{section} leads to {} without TLS", away.join(", ")),
            "whoever is on the way reads passwords and trades, and can change them",
            format!("`tls = true` in [{section}] and a certificate on the server (for QuestDB: a proxy in front of it), or a tunnel whose near end is 127.0.0.1"),
        )
    })
}

/// Neither a unix socket nor an address of this machine's loopback.
fn leaves_the_machine(address: &str) -> bool {
    if address.is_empty() || address.starts_with('/') {
        return false;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => !ip.is_loopback(),
        Err(_) => host != "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_sockets_stay_here_and_names_and_addresses_do_not() {
        for here in
            ["127.0.0.1:9000", "127.0.0.53:1", "[::1]:5432", "localhost:6379", "/run/redis.sock", "/run/pg:5432", ""]
        {
            assert!(!leaves_the_machine(here), "{here}");
        }
        for away in ["10.0.0.5:9000", "0.0.0.0:9000", "[fe80::1]:5432", "db.example:5432", "localhost.example:1"] {
            assert!(leaves_the_machine(away), "{away}");
        }
    }

    #[test]
    fn each_server_that_is_reached_in_the_clear_is_named_once() {
        let mut config = Config::default();
        assert!(look(&config).is_empty());
        config.questdb[0].http = "10.0.0.5:9000".into();
        config.questdb[0].pg = "10.0.0.5:8812".into();
        config.postgres.hosts = vec!["10.0.0.6:5432".into(), "10.0.0.7:5432".into()];
        config.redis.events.addresses = vec!["10.0.0.8:6379".into()];
        let whats: Vec<String> = look(&config).into_iter().map(|found| found.what).collect();
        assert_eq!(
            whats,
            [
                "questdb.0 leads to 10.0.0.5:9000, 10.0.0.5:8812 without TLS",
                "postgres leads to 10.0.0.6:5432, 10.0.0.7:5432 without TLS",
                "redis.events leads to 10.0.0.8:6379 without TLS"
            ]
        );
        config.questdb[0].tls = true;
        config.postgres.tls = true;
        config.redis.events.tls = true;
        assert!(look(&config).is_empty());
    }
}
