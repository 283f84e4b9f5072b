//! `backup prune`: which backups go.
//!
//! Constraints: pure but for the removal. The last proven one never goes, however old it is; nor does the newest one. What is
//! kept is kept by number or by age, whichever keeps more. With a backup goes the part of PostgreSQL's archive that no kept one
//! needs.

use std::time::Duration;

use serde::Serialize;
use tripod::Timestamp;

use super::postgres::{Needed, PgPlace, Pruned, prune_archive};
use super::site::Ground;
use super::store::{Backup, Broken, Store, Work};
use super::{Part, leftovers};

/// What becomes of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fate {
    pub(crate) id: String,
    pub(crate) bytes: u64,
    /// Why it stays; none where it goes.
    pub(crate) kept: Option<&'static str>,
}

/// What a backup is judged by.
#[derive(Debug, Clone)]
struct Judged {
    id: String,
    at: Timestamp,
    bytes: u64,
    proven: bool,
}

/// Decides for each; the newest comes first. One that cannot be read is not counted and not touched.
fn decide(backups: &[Judged], keep: usize, keep_days: u64, now: Timestamp) -> Vec<Fate> {
    let youngest = now.checked_sub(Duration::from_hours(keep_days.saturating_mul(24))).unwrap_or(Timestamp::EPOCH);
    let last_proven = backups.iter().find(|backup| backup.proven).map(|backup| backup.id.clone());
    let fate = |(number, backup): (usize, &Judged)| {
        let kept = if Some(&backup.id) == last_proven.as_ref() {
            Some("the last proven one")
        } else if number < keep.max(1) {
            Some("by number")
        } else if keep_days > 0 && backup.at >= youngest {
            Some("by age")
        } else {
            None
        };
        Fate { id: backup.id.clone(), bytes: backup.bytes, kept }
    };
    backups.iter().enumerate().map(fate).collect()
}

/// What would become of each, and those that cannot be read.
pub(crate) fn plan(store: &Store, keep: usize, keep_days: u64) -> anyhow::Result<(Vec<Fate>, Vec<Broken>)> {
    let (mut judged, mut broken) = (Vec::new(), Vec::new());
    for found in store.list()? {
        match found {
            Ok(backup) => judged.push(Judged {
                id: backup.manifest.id.clone(),
                at: backup.manifest.begun_at,
                bytes: Part::ALL.iter().map(|part| backup.manifest.stored(*part)).sum(),
                proven: backup.proven_at().is_some(),
            }),
            Err(one) => broken.push(one),
        }
    }
    Ok((decide(&judged, keep, keep_days, Timestamp::now()), broken))
}

/// Removes those that go, and what of the archive only they needed.
pub(crate) fn prune(ground: &Ground, keep: usize, keep_days: u64) -> anyhow::Result<(Vec<Fate>, Pruned)> {
    let store = Store::open(ground.backups())?;
    let _lock = store.lock(Work::Change)?;
    // Not from under a `verify`.
    let _proving = store.lock(Work::Prove)?;
    leftovers::mend(ground, &store)?;
    let (fates, broken) = plan(&store, keep, keep_days)?;
    for fate in fates.iter().filter(|fate| fate.kept.is_none()) {
        store.remove(&fate.id)?;
    }
    let kept: Vec<Backup> = store.list()?.into_iter().filter_map(Result::ok).collect();
    // What a damaged one may still need is not known.
    if !broken.is_empty() || kept.is_empty() {
        return Ok((fates, Pruned::default()));
    }
    let needed =
        kept.iter().map(|backup| Needed::by(&backup.manifest.postgres.base)).collect::<anyhow::Result<Vec<_>>>()?;
    let pruned = prune_archive(&PgPlace::of(ground.site.data_dir())?, &needed)?;
    Ok((fates, pruned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backups(ages_days: &[(u64, bool)]) -> Vec<Judged> {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let one = |(age, proven): &(u64, bool)| Judged {
            id: format!("{age}"),
            at: now.checked_sub(Duration::from_hours(age * 24)).unwrap(),
            bytes: 1,
            proven: *proven,
        };
        ages_days.iter().map(one).collect()
    }

    fn going(ages_days: &[(u64, bool)], keep: usize, keep_days: u64) -> Vec<String> {
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let fates = decide(&backups(ages_days), keep, keep_days, now);
        fates.into_iter().filter(|fate| fate.kept.is_none()).map(|fate| fate.id).collect()
    }

    #[test]
    fn number_and_age_keep_and_the_last_proven_one_never_goes() {
        let all = [(0, false), (1, false), (5, true), (9, false), (20, true)];
        assert_eq!(going(&all, 2, 0), ["9", "20"]);
        assert_eq!(going(&all, 1, 6), ["9", "20"]);
        assert_eq!(going(&all, 1, 30), Vec::<String>::new());
        assert_eq!(going(&all, 1, 0), ["1", "9", "20"]);
        assert_eq!(going(&[(0, false), (400, true)], 1, 0), Vec::<String>::new());
        // The newest stays, though nothing is to be kept.
        assert_eq!(going(&[(9, false), (10, false)], 0, 0), ["10"]);
        assert_eq!(going(&[], 3, 3), Vec::<String>::new());
    }
}
