//! The metrics of the servers: what `tripod monitor` finds by asking them, beside what the journals' files tell.
//!
//! Constraints: as in the module above. A server that does not answer has no metrics but `tripod_server_up` 0: what it said
//! before is not repeated as if it were still so. Names and labels are a contract with alert rules; docs/metrics.md is
//! made from this file.

use metrics::Unit;

use super::{Kind, Metric};

metrics! {
    /// 1 while the server answers, 0 where it does not.
    SERVER_UP = Gauge "tripod_server_up" Count ["server"];
    /// How long its last answer took.
    SERVER_LATENCY_SECONDS = Gauge "tripod_server_latency_seconds" Seconds ["server"];
    /// How far its clock is from this machine's, either way; less than the answer took is not seen.
    SERVER_CLOCK_SKEW_SECONDS = Gauge "tripod_server_clock_skew_seconds" Seconds ["server"];

    /// 1 where QuestDB has suspended the table: its rows are answered OK and stay invisible.
    TABLE_SUSPENDED = Gauge "tripod_table_suspended" Count ["table", "sink"];
    /// How long ago the oldest transaction of its table was that the view has not taken in; 0 where it has all.
    VIEW_LAG_SECONDS = Gauge "tripod_view_lag_seconds" Seconds ["view", "sink"];
    /// 1 where the view follows its table no more.
    VIEW_INVALID = Gauge "tripod_view_invalid" Count ["view", "sink"];
    /// How long a checkpoint is open, 0 where none is; while it is, deleted files give no disk back.
    CHECKPOINT_OPEN_SECONDS = Gauge "tripod_checkpoint_open_seconds" Seconds ["sink"];

    /// Bytes that may still be written to the disk under a directory of this machine.
    DISK_FREE_BYTES = Gauge "tripod_disk_free_bytes" Bytes ["where"];
    /// Bytes of that disk.
    DISK_TOTAL_BYTES = Gauge "tripod_disk_total_bytes" Bytes ["where"];

    /// From recorded to visible, the slowest of all sinks, of rows that became visible within the last minute.
    VISIBLE_SECONDS = Gauge "tripod_visible_seconds" Seconds ["quantile"];

    /// Tokens (and venues) that had a price within the last quarter of an hour.
    PRICES_TRACKED = Gauge "tripod_prices_tracked" Count [];
    /// Those of them whose price is over: older than its life, or gone.
    PRICES_STALE = Gauge "tripod_prices_stale" Count [];
    /// Age of the oldest of their prices.
    PRICE_OLDEST_AGE_SECONDS = Gauge "tripod_price_oldest_age_seconds" Seconds [];

    /// Entries in the stream.
    EVENTS_LENGTH = Gauge "tripod_events_length" Count ["topic"];
    /// Entries that it holds at most.
    EVENTS_CAP = Gauge "tripod_events_cap" Count ["topic"];
    /// Entries that the group has not been given yet.
    EVENTS_GROUP_LAG = Gauge "tripod_events_group_lag" Count ["topic", "group"];
    /// Entries given to a consumer and not acknowledged.
    EVENTS_GROUP_PENDING = Gauge "tripod_events_group_pending" Count ["topic", "group"];
    /// Entries that the cap took before the group was given them; missing where that cannot be known.
    EVENTS_TRIMMED_UNREAD = Counter "tripod_events_trimmed_unread_total" Count ["topic", "group"];
    /// Entries that the cap took after they were given to a consumer and before it acknowledged them.
    EVENTS_TRIMMED_PENDING = Counter "tripod_events_trimmed_pending_total" Count ["topic", "group"];
    /// Events that were given up and are kept.
    DEAD_LETTERS = Gauge "tripod_dead_letters" Count ["topic"];

    /// Replicas that are connected to the primary.
    REDIS_REPLICAS = Gauge "tripod_redis_replicas" Count ["server"];
    /// Bytes of memory in use.
    REDIS_MEMORY_USED_BYTES = Gauge "tripod_redis_memory_used_bytes" Bytes ["server"];
    /// Bytes of memory that it may use; 0: no limit.
    REDIS_MEMORY_LIMIT_BYTES = Gauge "tripod_redis_memory_limit_bytes" Bytes ["server"];
    /// 1 where the last write to the append-only file went well, or none is kept.
    REDIS_APPEND_ONLY_OK = Gauge "tripod_redis_append_only_ok" Count ["server"];
    /// 1 where the sentinels can agree on a failover; only with sentinels.
    SENTINEL_QUORUM_OK = Gauge "tripod_sentinel_quorum_ok" Count [];

    /// Standbys that are connected to the primary.
    POSTGRES_REPLICAS = Gauge "tripod_postgres_replicas" Count [];
    /// How far the standby is behind.
    POSTGRES_REPLICA_LAG_SECONDS = Gauge "tripod_postgres_replica_lag_seconds" Seconds ["replica"];
    /// 1 where the last try to archive a file of the log failed.
    POSTGRES_ARCHIVE_FAILING = Gauge "tripod_postgres_archive_failing" Count [];

    /// 1 for the status that a component has, 0 for all others; `stale` is one that owes a heartbeat.
    COMPONENT_STATUS = Gauge "tripod_component_status" Count ["component", "status"];

    /// Unix time of the last backup; 0: there is none.
    BACKUP_LAST_SECONDS = Gauge "tripod_backup_last_seconds" Seconds [];
    /// Unix time of the last backup that a restore has proven; 0: there is none.
    BACKUP_PROVEN_SECONDS = Gauge "tripod_backup_proven_seconds" Seconds [];
    /// 0 where the last scheduled proof of a backup failed, else 1.
    BACKUP_VERIFY_OK = Gauge "tripod_backup_verify_ok" Count [];
    /// Unix time at which the last retention ended; 0: it never ran.
    RETENTION_LAST_SECONDS = Gauge "tripod_retention_last_seconds" Seconds [];
    /// 0 where the last scheduled retention failed or left days uncovered, else 1.
    RETENTION_OK = Gauge "tripod_retention_ok" Count [];

    /// How long the monitor took to ask the server last.
    MONITOR_COLLECT_SECONDS = Gauge "tripod_monitor_collect_seconds" Seconds ["server"];
    /// How often it got no answer since it started.
    MONITOR_COLLECT_FAILURES = Counter "tripod_monitor_collect_failures_total" Count ["server"];
    /// Unix time of the sample that these figures are from.
    MONITOR_SAMPLED_SECONDS = Gauge "tripod_monitor_sampled_seconds" Seconds [];
    /// Alerts of the monitor's own that are active.
    ALERTS = Gauge "tripod_alerts" Count ["severity"];
}

/// Tells the installed exporter each metric's unit and help text.
pub fn describe() {
    super::describe_all(ALL);
}
