//! The alerts that the monitor raises by itself: names, severities, what each means.
//!
//! Constraints: names are a contract. Prometheus has rules of its own on the metrics, in `ops/`; these are for who looks at
//! the page, at `/health` or at the monitor's log, and each leads to the same page of what to do. docs/metrics.md is made
//! from this file.

use super::snapshot::Severity;

macro_rules! rules {
    ($($rule:ident $id:literal $severity:ident $place:literal $meaning:literal;)*) => {
        /// One kind of alert.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Rule {
            $(#[doc = $meaning] $rule),*
        }

        impl Rule {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$rule),*];

            /// Its name.
            pub(super) fn id(self) -> &'static str {
                match self { $(Self::$rule => $id),* }
            }

            pub(super) fn severity(self) -> Severity {
                match self { $(Self::$rule => Severity::$severity),* }
            }

            /// The heading of docs/alerts.md that says what to do, as its anchor: that of the rule of Prometheus about the
            /// same matter.
            pub(super) fn place(self) -> &'static str {
                match self { $(Self::$rule => $place),* }
            }

            /// When it is raised.
            #[cfg(test)]
            pub(super) fn meaning(self) -> &'static str {
                match self { $(Self::$rule => $meaning),* }
            }
        }
    };
}

rules! {
    ServerDown "server-down" Critical "tripodserverdown"
        "A server does not answer.";
    OptionalServerDown "optional-server-down" Warning "tripodserverdown"
        "A QuestDB that is not required does not answer.";
    ServerDegraded "server-degraded" Warning "tripodserverdown"
        "A server answers, and something is wrong with it or it answers late.";
    ClockSkew "clock-skew" Warning "tripodclockskew"
        "A server's clock is more than a second from this machine's.";
    LedgerWrong "ledger-wrong" Critical "tripodledgerdoesnotaddup"
        "The counts of a table do not add up: a row is missing or counted twice.";
    RowsDropped "rows-dropped" Warning "tripodrowsdropped"
        "Rows were dropped within a quarter of an hour, because their journal was full.";
    RowsQuarantined "rows-quarantined" Warning "tripodquarantine"
        "QuestDB refused rows within a quarter of an hour; they are in quarantine.";
    RowsMissed "rows-missed" Warning "tripodsinkdetached"
        "A QuestDB that is not required missed rows within a quarter of an hour.";
    SinkStopped "sink-stopped" Critical "tripodsinkstuck"
        "A sink waits for somebody: schema, login, certificate, full disk, quarantine, journal, detached.";
    SinkSilent "sink-silent" Critical "tripodsinksilent"
        "A process has a sink and says nothing for ten seconds.";
    NobodyDelivers "nobody-delivers" Warning "tripodnobodydelivers"
        "Rows wait for longer than a minute and no process delivers them.";
    DeliveryLate "delivery-late" Warning "tripodvisibleslow"
        "The oldest row waits for longer than a minute although its sink runs.";
    TableSuspended "table-suspended" Critical "tripodtablesuspended"
        "QuestDB has suspended a table: rows are answered OK and stay invisible.";
    ViewInvalid "view-invalid" Critical "tripodviewinvalid"
        "A view follows its table no more.";
    ViewLag "view-lag" Warning "tripodviewlagging"
        "A view is more than a minute behind its table.";
    CheckpointOpen "checkpoint-open" Warning "tripodcheckpointopen"
        "A checkpoint is open for longer than an hour: deleted files give no disk back.";
    JournalFilling "journal-filling" Warning "tripodjournalbudgetlow"
        "Undelivered rows use more than 75 % of a journal's budget.";
    JournalFull "journal-full" Critical "tripodjournalbudgetlow"
        "Undelivered rows use more than 90 % of a journal's budget; at 100 % record() refuses or drops.";
    JournalDamaged "journal-damaged" Critical "tripodjournaldamaged"
        "A segment of a journal cannot be read.";
    DiskLow "disk-low" Warning "tripoddisklow"
        "Less than 15 % of a disk is free.";
    DiskFull "disk-full" Critical "tripoddiskfull"
        "Less than 5 % of a disk, or less than 512 MiB, is free.";
    MemoryHigh "memory-high" Warning "tripodredismemoryfull"
        "The Redis for events uses more than 75 % of its memory; at its limit nothing is published.";
    AppendOnlyFailing "append-only-failing" Critical "tripodeventsnotondisk"
        "Redis could not write its append-only file: events since are lost with a restart.";
    QuorumLost "quorum-lost" Critical "tripodquorumlost"
        "The sentinels cannot agree on a failover.";
    ReplicaMissing "replica-missing" Warning "tripodreplicamissing"
        "Events are meant to be replicated and the primary has no replica.";
    ReplicaLag "replica-lag" Warning "tripodpostgresreplicalagging"
        "A replica or standby is more than ten seconds behind.";
    ArchiveFailing "archive-failing" Critical "tripodarchivefailing"
        "PostgreSQL cannot archive its log: a restore would end before it, and the disk fills.";
    PricesStale "prices-stale" Warning "tripodpricesstale"
        "A token's price is over for more than ten seconds.";
    PricesDead "prices-dead" Critical "tripodpricesstale"
        "No token that had a price within a quarter of an hour has one now.";
    GroupLag "group-lag" Warning "tripodgrouplagging"
        "A group has more than half of what its stream can hold still to read.";
    TrimmedUnread "trimmed-unread" Critical "tripodstreamtrimmedunread"
        "Within a quarter of an hour the cap took events before a group had read them.";
    TrimmedPending "trimmed-pending" Critical "tripodstreamtrimmedunread"
        "Within a quarter of an hour the cap took events that a consumer had and had not acknowledged.";
    DeadLetters "dead-letters" Warning "tripoddeadletters"
        "Within a quarter of an hour events were given up and put to the dead letters.";
    ComponentFailed "component-failed" Critical "tripodcomponentfailed"
        "A component says that it failed.";
    ComponentStale "component-stale" Critical "tripodcomponentsilent"
        "A component owes a heartbeat.";
    ComponentDegraded "component-degraded" Warning "tripodcomponentfailed"
        "A component says that it is degraded.";
    BackupUnproven "backup-unproven" Warning "tripodbackupnotproven"
        "The last proven backup is older than the journals reach back: that span could be lost.";
    VerifyFailed "verify-failed" Critical "tripodbackupbroken"
        "The scheduled proof of a backup failed.";
    RetentionFailed "retention-failed" Warning "tripodretentionfailed"
        "The scheduled retention failed, or left days that nothing covers.";
    FilesUnreadable "files-unreadable" Warning "tripodjournaldamaged"
        "Files of this machine that the monitor watches cannot be read.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_anchors_and_none_is_there_twice() {
        let names: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.id()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(rule.id().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", rule.id());
            assert!(rule.meaning().ends_with('.'), "{}", rule.meaning());
        }
    }
}
