//! For each finding that the doctor can have, the test that breaks exactly that.
//!
//! Constraints: a finding without a line here does not compile; a test that is gone does not either; and one that no longer
//! speaks of its finding fails. That a healthy stack has none of them, each of those tests looks at first.

use std::collections::BTreeSet;

use tripod::audit::Finding;

use super::{around, replicated};

/// Where it is shown.
enum Proof {
    /// This test, in this text, breaks it on live servers or on the machine that they run on.
    Live(fn(), &'static str),
    /// It cannot be broken here without another server's version or harm to others: a test beside the judge, in this text,
    /// feeds it in.
    Fed(&'static str),
}

const HERE: &str = include_str!("../doctor.rs");
const AROUND: &str = include_str!("around.rs");
const REPLICATED: &str = include_str!("replicated.rs");
const MACHINE: &str = include_str!("../../../src/commands/doctor/machine.rs");
const QUESTDB: &str = include_str!("../../../../tripod/src/audit/questdb.rs");
const POSTGRES: &str = include_str!("../../../../tripod/src/audit/postgres.rs");
const REDIS: &str = include_str!("../../../../tripod/src/audit/redis/settings.rs");

fn proof(finding: Finding) -> Proof {
    use Finding as F;
    use Proof::{Fed, Live};
    match finding {
        F::QuestDbAppendPage
        | F::QuestDbAutoCreate
        | F::QuestDbCheckpoint
        | F::QuestDbDevMode
        | F::QuestDbMemory
        | F::QuestDbSchema
        | F::QuestDbSuspended
        | F::QuestDbTelemetry
        | F::QuestDbWal => Live(super::what_is_wrong_with_questdb_is_found, HERE),
        F::QuestDbOpen | F::QuestDbView | F::QuestDbViewBehind => {
            Live(super::a_questdb_that_is_open_to_all_and_views_that_do_not_follow_are_found, HERE)
        }
        F::QuestDbVersion => Fed(QUESTDB),
        F::PostgresBotRights
        | F::PostgresFsync
        | F::PostgresFullPageWrites
        | F::PostgresGrants
        | F::PostgresSchema
        | F::PostgresSynchronousCommit => {
            Live(super::what_is_wrong_with_postgresql_is_found_and_its_remedy_mends_it, HERE)
        }
        F::PostgresArchive => Live(super::an_archive_that_fails_is_found_until_it_is_mended, HERE),
        F::PostgresArchiveOff
        | F::PostgresBotLogin
        | F::PostgresChecksums
        | F::PostgresPlainNetwork
        | F::PostgresWalLevel => Live(super::what_postgresql_takes_in_at_its_start_is_found_and_a_missing_login, HERE),
        F::PostgresConnections => Live(super::connections_that_run_out_are_found, HERE),
        F::PostgresVersion => Fed(POSTGRES),
        F::RedisAppendOnly
        | F::RedisAppendSync
        | F::RedisBotRights
        | F::RedisBotUser
        | F::RedisDefaultUser
        | F::RedisMemory
        | F::RedisMemoryLimit
        | F::RedisMemoryPolicy
        | F::RedisRole
        | F::RedisUnknown => Live(super::what_is_wrong_with_redis_is_found, HERE),
        F::RedisVersion => Fed(REDIS),
        F::RedisReplicas
        | F::RedisSentinelDown
        | F::RedisSentinelQuorum
        | F::RedisSentinelViews
        | F::RedisSentinels
        | F::RedisSentinelCount => Live(
            replicated::sentinels_that_are_gone_disagree_or_ask_too_much_and_a_missing_replica_are_found,
            REPLICATED,
        ),
        F::QuestDbClock | F::PostgresClock | F::RedisClock => {
            Live(around::a_clock_that_differs_from_the_servers_is_found_for_each_of_them, AROUND)
        }
        F::QuestDbUnreachable
        | F::PostgresUnreachable
        | F::RedisUnreachable
        | F::MachineConfigMode
        | F::MachineDisk => Live(around::the_machine_is_looked_at_though_no_server_answers, AROUND),
        F::NetworkPlain => Live(around::an_address_off_this_machine_without_tls_is_found, AROUND),
        F::MachineOpenFiles => Live(around::few_open_files_are_found, AROUND),
        // The kernel's settings are everybody's on the machine.
        F::MachineHugePages | F::MachineInodes | F::MachineMapCount | F::MachineOvercommit => Fed(MACHINE),
        F::JournalBudget | F::JournalDamaged | F::JournalUnreadable => {
            Live(around::a_journal_that_nears_its_budget_and_one_that_cannot_be_read_are_found, AROUND)
        }
        F::BackupOld | F::BackupUnproven => {
            Live(around::a_backup_that_nobody_has_proven_and_one_that_is_too_old_are_found, AROUND)
        }
    }
}

#[test]
fn each_finding_has_a_test_that_speaks_of_it() {
    let mut tests = BTreeSet::new();
    for finding in Finding::ALL {
        let id = finding.id();
        let text = match proof(*finding) {
            Proof::Live(test, text) => {
                tests.insert(test as usize);
                text
            }
            Proof::Fed(text) => text.split_once("#[cfg(test)]").map_or("", |(_, tests)| tests),
        };
        assert!(text.contains(&format!("\"{id}\"")), "the test of {id} does not look for it any more");
    }
    assert!(tests.len() > 10, "{} tests for all findings", tests.len());
    let ids: BTreeSet<&str> = Finding::ALL.iter().map(|finding| finding.id()).collect();
    assert_eq!(ids.len(), Finding::ALL.len(), "two findings have one id");
}
