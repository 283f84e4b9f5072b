//! What a server says about itself.

use std::collections::HashMap;

use ::redis::{Cmd, cmd};

/// Replicas that are looked at, of one primary.
const REPLICAS_MAX: usize = 100;

/// The facts of `INFO` that `status` shows and `doctor` judges. A number that the server does not give is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Instance {
    /// E.g. `7.0.15`.
    pub version: String,
    /// Another one with each start of a server.
    pub run_id: String,
    /// `master` or `slave`, in the server's own words.
    pub role: String,
    /// Connected replicas, of a primary.
    pub replicas: u64,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Bytes in use.
    pub used_memory_bytes: u64,
    /// Bytes it may use; zero: no limit.
    pub maxmemory_bytes: u64,
    /// What it does at the limit.
    pub maxmemory_policy: String,
    /// Clients connected now.
    pub clients: u64,
    /// Keys thrown away at the memory limit since its start.
    pub evicted_keys: u64,
    /// Whether it writes an append-only file.
    pub append_only: bool,
    /// Whether the last write to that file went well; true without one.
    pub append_only_ok: bool,
    /// Times that a write had to wait for the disk.
    pub delayed_fsyncs: u64,
    /// Each replica that a primary knows of.
    pub replica_list: Vec<Replica>,
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Replica {
    /// Host and port.
    pub address: String,
    /// `online`, or what it does to become that, in the server's own words.
    pub state: String,
    /// Seconds since the primary last heard of it.
    pub lag_s: u64,
}

impl Instance {
    pub(crate) fn parse(info: &str) -> Self {
        let facts: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let text = |name: &str| facts.get(name).copied().unwrap_or_default().to_owned();
        let number = |name: &str| facts.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Self {
            version: text("redis_version"),
            run_id: text("run_id"),
            role: text("role"),
            replicas: number("connected_slaves"),
            uptime_s: number("uptime_in_seconds"),
            used_memory_bytes: number("used_memory"),
            maxmemory_bytes: number("maxmemory"),
            maxmemory_policy: text("maxmemory_policy"),
            clients: number("connected_clients"),
            evicted_keys: number("evicted_keys"),
            append_only: number("aof_enabled") == 1,
            append_only_ok: facts.get("aof_last_write_status").is_none_or(|status| *status == "ok"),
            delayed_fsyncs: number("aof_delayed_fsync"),
            // `slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`
            replica_list: (0..REPLICAS_MAX)
                .map_while(|number| facts.get(format!("slave{number}").as_str()))
                .map(|words| Replica::parse(words))
                .collect(),
        }
    }

    /// What a look asks for: the sections that [`Instance::parse`] reads.
    pub(crate) fn ask() -> Cmd {
        let mut info = cmd("INFO");
        info.arg("server").arg("clients").arg("memory").arg("persistence").arg("stats").arg("replication");
        info
    }

    /// The first number of the version, e.g. 7.
    #[must_use]
    pub fn major(&self) -> u64 {
        self.version.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Whether the version is this one or newer.
    #[must_use]
    pub fn at_least(&self, major: u64, minor: u64) -> bool {
        let mut numbers = self.version.split('.').map(|text| text.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
    }
}

impl Replica {
    fn parse(words: &str) -> Self {
        let facts: HashMap<&str, &str> = words.split(',').filter_map(|word| word.split_once('=')).collect();
        let text = |name: &str| facts.get(name).copied().unwrap_or_default();
        Self {
            address: format!("{}:{}", text("ip"), text("port")),
            state: text("state").to_owned(),
            lag_s: text("lag").parse().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_by_name_and_a_missing_one_is_zero() {
        let info = "# Server\r\nredis_version:7.0.15\r\n\r\n# Memory\r\nused_memory:1048576\r\nmaxmemory_policy:volatile-ttl\r\n\
                    # Persistence\r\naof_enabled:1\r\naof_last_write_status:err\r\n# Replication\r\nrole:master\r\n";
        let instance = Instance::parse(info);
        assert_eq!((instance.version.as_str(), instance.major()), ("7.0.15", 7));
        assert_eq!([(7, 0), (6, 9), (7, 1), (8, 0)].map(|(a, b)| instance.at_least(a, b)), [true, true, false, false]);
        assert_eq!((instance.used_memory_bytes, instance.maxmemory_bytes), (1_048_576, 0));
        assert_eq!(instance.maxmemory_policy, "volatile-ttl");
        assert_eq!((instance.append_only, instance.append_only_ok), (true, false));
        assert!(instance.replica_list.is_empty());
    }
    #[test]
    fn each_replica_is_listed_with_what_its_primary_says_of_it() {
        let info = "role:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=1\r\n\
                    slave1:ip=::1,port=6381,state=wait_bgsave,offset=0,lag=0\r\n";
        let instance = Instance::parse(info);
        let replica = |address: &str, state: &str, lag_s| Replica { address: address.into(), state: state.into(), lag_s };
        assert_eq!(
            instance.replica_list,
            [replica("127.0.0.1:6380", "online", 1), replica("::1:6381", "wait_bgsave", 0)]
        );
    }
}
