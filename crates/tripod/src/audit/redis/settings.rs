//! The one judge of an instance's settings: `tripod doctor` prints it, and so does `tripod migrate`.
//!
//! Constraints: pure, and changes nothing: these settings belong to the server's config file, which a `CONFIG SET` would
//! contradict after the next start.

use super::TESTED;
use crate::audit::{Departure, Finding};
use crate::error::Server;
use crate::redis::Instance;

/// Of the memory limit of the instance that refuses at it, in percent.
const MEMORY_PERCENT_MAX: u64 = 75;

pub(super) fn set(name: &str, to: &str) -> String {
    format!("`{name} {to}` in the server's config file and, until its next start, CONFIG SET {name} {to}")
}

/// What departs in one instance. Needs no server.
pub(super) fn judge(server: Server, instance: &Instance) -> Vec<Departure> {
    let prices = server == Server::RedisPrices;
    let mut found = Vec::new();
    if instance.major() < TESTED {
        found.push(Departure::wrong(
            Finding::RedisVersion,
            format!("{server} is version {}", instance.version),
            "the counters of streams and the rights of users that Tripod builds on came with Redis 7",
            "install Redis 7.0 or newer",
        ));
    }
    if instance.role != "master" {
        found.push(Departure::wrong(
            Finding::RedisRole,
            format!("{server} is a {}", instance.role),
            "it takes no writes",
            "name the primary in `addresses`, or let `mode = \"sentinel\"` find it",
        ));
    }
    let policy = if prices { "volatile-ttl" } else { "noeviction" };
    if instance.maxmemory_policy != policy {
        let what = format!("{server}: maxmemory-policy is {}", instance.maxmemory_policy);
        found.push(if prices {
            let why = "at the memory limit writes of prices fail, where the oldest could give way";
            Departure::advice(Finding::RedisMemoryPolicy, what, why, set("maxmemory-policy", policy))
        } else {
            let why = "at the memory limit events are deleted, and nobody is told";
            Departure::wrong(Finding::RedisMemoryPolicy, what, why, set("maxmemory-policy", policy))
        });
    }
    if instance.maxmemory_bytes == 0 {
        found.push(Departure::advice(
            Finding::RedisMemoryLimit,
            format!("{server} has no limit of memory"),
            "the machine's memory is the limit then, and the kernel ends the server there",
            set("maxmemory", "256mb"),
        ));
    } else if !prices && instance.used_memory_bytes / MEMORY_PERCENT_MAX > instance.maxmemory_bytes / 100 {
        found.push(Departure::wrong(
            Finding::RedisMemory,
            format!("{server} uses {} of {} bytes", instance.used_memory_bytes, instance.maxmemory_bytes),
            "at the limit no event can be published",
            "raise maxmemory, or lower the cap of streams or the size of payloads",
        ));
    }
    if instance.append_only == prices {
        found.push(if prices {
            Departure::advice(
                Finding::RedisAppendOnly,
                format!("{server} writes an append-only file"),
                "prices are refilled in a second; the file only costs latency",
                set("appendonly", "no"),
            )
        } else {
            Departure::wrong(
                Finding::RedisAppendOnly,
                format!("{server} writes no append-only file"),
                "a restart loses every event",
                set("appendonly", "yes"),
            )
        });
    }
    if !instance.append_only_ok {
        found.push(Departure::wrong(
            Finding::RedisAppendOnly,
            format!("{server}: the last write to the append-only file failed"),
            "what was published since is lost with the next restart",
            "see the server's log; most often the disk is full",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(policy: &str, append_only: bool) -> Instance {
        Instance {
            version: "7.0.15".into(),
            role: "master".into(),
            used_memory_bytes: 10 << 20,
            maxmemory_bytes: 100 << 20,
            maxmemory_policy: policy.into(),
            append_only,
            append_only_ok: true,
            ..Instance::default()
        }
    }

    fn ids(server: Server, instance: &Instance) -> Vec<&'static str> {
        judge(server, instance).iter().map(|found| found.id).collect()
    }

    #[test]
    fn each_instance_is_judged_by_what_it_holds() {
        assert!(ids(Server::RedisPrices, &instance("volatile-ttl", false)).is_empty());
        assert!(ids(Server::RedisEvents, &instance("noeviction", true)).is_empty());
        let old = Instance { version: "6.2.1".into(), role: "slave".into(), ..instance("noeviction", true) };
        assert_eq!(ids(Server::RedisEvents, &old), ["redis.version", "redis.role"]);
        let full = Instance { used_memory_bytes: 80 << 20, ..instance("noeviction", true) };
        assert_eq!(ids(Server::RedisEvents, &full), ["redis.memory"]);
        let foreign = Instance { append_only_ok: false, ..instance("allkeys-lru", false) };
        assert_eq!(
            ids(Server::RedisEvents, &foreign),
            ["redis.memory-policy", "redis.append-only", "redis.append-only"]
        );
    }
}
