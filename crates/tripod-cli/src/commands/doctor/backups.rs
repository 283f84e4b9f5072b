//! The backups: whether the newest proven one and the journals meet, so that nothing lies between them.
//!
//! Constraints: where there is no backup at all, nobody asked for any, and nothing is said here; `status` shows it.

use std::time::Duration;

use tripod::audit::{Departure, Finding};
use tripod::{Config, Timestamp};

use crate::backup::store::Store;

pub(super) fn look(config: &Config) -> anyhow::Result<Vec<Departure>> {
    let store = Store::new(&config.backup.dir);
    let (newest, proof) = store.last()?;
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let reach = Duration::from_hours(config.journal.keep_hours);
    let proven = proof.map(|proof| store.pick(Some(&proof.id))).transpose()?;
    let at = proven.as_ref().map(|backup| backup.manifest.cut.questdb_at);
    Ok(judge(&newest, proven.as_ref().map(|backup| backup.manifest.id.as_str()).zip(at), reach, Timestamp::now()))
}

/// `proven` is the newest one that was proven, and its moment.
fn judge(newest: &str, proven: Option<(&str, Timestamp)>, reach: Duration, now: Timestamp) -> Vec<Departure> {
    let Some((id, at)) = proven else {
        let what = format!("no backup is proven; the newest is {newest}");
        let why = "whether it restores is found out when it has to";
        return vec![Departure::advice(
            Finding::BackupUnproven,
            what,
            why,
            "`tripod backup verify`; let a timer do it",
        )];
    };
    let age = now.since(at);
    if age <= reach {
        return Vec::new();
    }
    let hours = |span: Duration| span.as_secs() / 3600;
    vec![Departure::wrong(
        Finding::BackupOld,
        format!(
            "the last proven backup ({id}) is {} hours old, and journals reach {} hours back",
            hours(age),
            hours(reach)
        ),
        "if QuestDB's data are destroyed, the rows between the two are lost",
        "`tripod backup create` and `tripod backup verify`, more often than `journal.keep_hours`; a timer does it",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_the_last_proven_backup_and_the_journals_is_wrong() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let ids = |proven: Option<u64>| {
            let at = proven.map(|hours| ("b", now.checked_sub(Duration::from_hours(hours)).unwrap()));
            judge("b", at, Duration::from_hours(24), now).into_iter().map(|one| one.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Some(23)), Vec::<&str>::new());
        assert_eq!(ids(Some(25)), ["backup.old"]);
        assert_eq!(ids(None), ["backup.unproven"]);
    }
}
