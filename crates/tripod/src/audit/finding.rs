//! Every finding that `tripod doctor` can have, by name: the library's and the command's own.
//!
//! Constraints: a [`super::Departure`] is made of one of these and of nothing else, and the doctor's tests name for each of
//! them the test that breaks exactly that. So who adds a finding adds it here, and its test with it.

macro_rules! findings {
    ($($name:ident = $id:literal,)*) => {
        /// What was looked at and is not as Tripod needs it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Finding {
            $(#[doc = concat!("`", $id, "`")] $name,)*
        }

        impl Finding {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its id, e.g. `postgres.fsync`. It does not change between versions.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }
        }
    };
}

findings! {
    QuestDbAppendPage = "questdb.append-page",
    QuestDbAutoCreate = "questdb.auto-create",
    QuestDbCheckpoint = "questdb.checkpoint",
    QuestDbClock = "questdb.clock",
    QuestDbDevMode = "questdb.dev-mode",
    QuestDbMemory = "questdb.memory",
    QuestDbOpen = "questdb.open",
    QuestDbSchema = "questdb.schema",
    QuestDbSuspended = "questdb.suspended",
    QuestDbTelemetry = "questdb.telemetry",
    QuestDbUnreachable = "questdb.unreachable",
    QuestDbVersion = "questdb.version",
    QuestDbView = "questdb.view",
    QuestDbViewBehind = "questdb.view-behind",
    QuestDbWal = "questdb.wal",
    PostgresArchive = "postgres.archive",
    PostgresArchiveOff = "postgres.archive-off",
    PostgresBotLogin = "postgres.bot-login",
    PostgresBotRights = "postgres.bot-rights",
    PostgresChecksums = "postgres.checksums",
    PostgresClock = "postgres.clock",
    PostgresConnections = "postgres.connections",
    PostgresFsync = "postgres.fsync",
    PostgresFullPageWrites = "postgres.full-page-writes",
    PostgresGrants = "postgres.grants",
    PostgresPlainNetwork = "postgres.plain-network",
    PostgresSchema = "postgres.schema",
    PostgresSynchronousCommit = "postgres.synchronous-commit",
    PostgresUnreachable = "postgres.unreachable",
    PostgresVersion = "postgres.version",
    PostgresWalLevel = "postgres.wal-level",
    RedisAppendOnly = "redis.append-only",
    RedisAppendSync = "redis.append-sync",
    RedisBotRights = "redis.bot-rights",
    RedisBotUser = "redis.bot-user",
    RedisClock = "redis.clock",
    RedisDefaultUser = "redis.default-user",
    RedisMemory = "redis.memory",
    RedisMemoryLimit = "redis.memory-limit",
    RedisMemoryPolicy = "redis.memory-policy",
    RedisReplicas = "redis.replicas",
    RedisRole = "redis.role",
    RedisSentinelCount = "redis.sentinel-count",
    RedisSentinelDown = "redis.sentinel-down",
    RedisSentinelQuorum = "redis.sentinel-quorum",
    RedisSentinelViews = "redis.sentinel-views",
    RedisSentinels = "redis.sentinels",
    RedisUnknown = "redis.unknown",
    RedisUnreachable = "redis.unreachable",
    RedisVersion = "redis.version",
    NetworkPlain = "network.plain",
    MachineConfigMode = "machine.config-mode",
    MachineDisk = "machine.disk",
    MachineHugePages = "machine.huge-pages",
    MachineInodes = "machine.inodes",
    MachineMapCount = "machine.map-count",
    MachineOpenFiles = "machine.open-files",
    MachineOvercommit = "machine.overcommit",
    JournalBudget = "journal.budget",
    JournalDamaged = "journal.damaged",
    JournalUnreadable = "journal.unreadable",
    BackupOld = "backup.old",
    BackupUnproven = "backup.unproven",
}
