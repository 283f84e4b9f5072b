//! Which timeline a restore has to follow.
//!
//! Constraints: each restore forks a timeline off and what was recorded after that point stays on the old one. PostgreSQL
//! follows the newest by itself; asked for a moment between the fork and the restore it would then stop at the fork, and
//! say nothing. So the timeline is chosen here, by when each began, and named to PostgreSQL.
//!
//! ```text
//! 1 ─────────●────────────────── (given up at 12:00, when it was restored to 11:00)
//!            └─ 2 ─────────────── 11:30 is on 1, 12:30 on 2; a backup taken on 1 at 11:45 does not lead to 2
//!          11:00   (12:00)
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tripod::Timestamp;

use super::archive::names_in;
use super::tool::{self, Patience};
use super::wal::{self, Ancestors, Chain, Lsn, SegmentSize};
use super::{BaseBackup, PgPlace, Target};
use crate::exit::Stop;

/// To find the first commit of a timeline, which is at its beginning.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// The timelines that some directories know of, but for the first one of all, which has no history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Histories(BTreeMap<u32, Ancestors>);

impl Histories {
    pub(super) fn read(places: &[PathBuf]) -> anyhow::Result<Self> {
        let mut all = BTreeMap::new();
        for place in places {
            for name in names_in(place)? {
                let Some(timeline) = wal::history_of(&name) else { continue };
                let path = place.join(&name);
                let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                let ancestors = wal::ancestors(&text).with_context(|| format!("{} is damaged", path.display()))?;
                all.entry(timeline).or_insert(ancestors);
            }
        }
        Ok(Self(all))
    }

    /// A timeline with what lies before it.
    pub(super) fn chain(&self, timeline: u32) -> Chain {
        Chain::new(timeline, self.0.get(&timeline).map_or(&[][..], Vec::as_slice))
    }

    /// The one that leads to the target; `began` says when one began, none where nothing was ever committed on it.
    fn choose(
        &self,
        backup: &BaseBackup,
        target: &Target,
        mut began: impl FnMut(u32, Lsn) -> anyhow::Result<Option<Timestamp>>,
    ) -> anyhow::Result<Chain> {
        let newest = || self.0.keys().next_back().copied().unwrap_or(1).max(backup.timeline);
        let wanted = match target {
            Target::Point { timeline, .. } => *timeline,
            Target::Latest => newest(),
            Target::Time(at) => {
                // Those before the backup's own were given up before it was taken.
                let mut found = backup.timeline;
                for (timeline, ancestors) in self.0.range(backup.timeline + 1..).rev() {
                    let fork = ancestors.last().map_or(Lsn(0), |(_, left)| *left);
                    if began(*timeline, fork)?.is_some_and(|began| began <= *at) {
                        found = *timeline;
                        break;
                    }
                }
                found
            }
        };
        let chain = self.chain(wanted);
        if chain.passes(backup.timeline, backup.end_lsn.parse()?) {
            return Ok(chain);
        }
        let what = format!(
            "{target} is on timeline {wanted}, to which this base backup (timeline {}, to {}) does not lead: the server \
             was restored to another state in between",
            backup.timeline, backup.end_lsn
        );
        Err(Stop::untrue(what, "choose a backup that was taken before that restore, or on that timeline").into())
    }
}

/// Chooses the timeline for a restore.
pub(super) fn choose(
    place: &PgPlace,
    places: &[PathBuf],
    backup: &BaseBackup,
    target: &Target,
) -> anyhow::Result<Chain> {
    let size = SegmentSize::new(backup.segment_bytes)?;
    let histories = Histories::read(places)?;
    histories.choose(backup, target, |timeline, fork| began(place, places, size, timeline, fork))
}

/// When the first transaction of a timeline ended. A restore changes the logins' passwords at once, so that is when it began.
fn began(
    place: &PgPlace,
    places: &[PathBuf],
    size: SegmentSize,
    timeline: u32,
    fork: Lsn,
) -> anyhow::Result<Option<Timestamp>> {
    let name = size.name(timeline, size.number(fork));
    let Some(dir) = places.iter().find(|dir| dir.join(&name).is_file()) else { return Ok(None) };
    let mut command = place.stack.client("pg_waldump");
    command.arg("--path").arg(dir).args(["--rmgr=Transaction", "--limit=1"]);
    command.arg(format!("--timeline={timeline}")).arg(format!("--start={fork}"));
    let said = tool::run(command, Patience { total: Some(LOOK_WITHIN), silent: LOOK_WITHIN }, |_| Ok(()))?;
    Ok(said.out.lines().find_map(ended_at))
}

/// `… desc: COMMIT 2026-11-23 10:00:00.123456 UTC; …`
fn ended_at(line: &str) -> Option<Timestamp> {
    let (_, desc) = line.split_once("desc: ")?;
    let mut words = desc.split([' ', ';']);
    words.find(|word| matches!(*word, "COMMIT" | "ABORT"))?;
    super::restore::moment_of(words.next()?, words.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: u32) -> Timestamp {
        format!("2026-11-23T11:{minute:02}:00Z").parse().unwrap()
    }

    fn backup(timeline: u32, end: u64) -> BaseBackup {
        BaseBackup {
            start_lsn: "0/0".into(),
            end_lsn: Lsn(end).to_string(),
            timeline,
            system_identifier: "7".into(),
            version: "15.18".into(),
            segment_bytes: 1 << 20,
            started_at: at(0),
            finished_at: at(0),
            bytes: 0,
        }
    }

    #[test]
    fn the_timeline_is_the_one_that_was_in_use_at_that_moment() {
        // 2 forked off 1 at 100 and began at :20; 3 forked off 2 at 200 and began at :40.
        let histories = Histories([(2, vec![(1, Lsn(100))]), (3, vec![(1, Lsn(100)), (2, Lsn(200))])].into());
        let began = |timeline: u32, fork: Lsn| {
            assert_eq!(fork, Lsn(u64::from(timeline - 1) * 100));
            Ok(Some(at(timeline * 20 - 20)))
        };
        let choose = |target: Target, backup: BaseBackup| {
            histories.choose(&backup, &target, began).map(|chain| chain.timeline()).map_err(|error| error.to_string())
        };
        for (minute, timeline) in [(10, 1), (19, 1), (20, 2), (39, 2), (40, 3), (59, 3)] {
            assert_eq!(choose(Target::Time(at(minute)), backup(1, 50)), Ok(timeline), "minute {minute}");
        }
        assert_eq!(choose(Target::Latest, backup(1, 50)), Ok(3));
        assert_eq!(choose(Target::Latest, backup(3, 250)), Ok(3));
        assert_eq!(choose(Target::Point { name: "x".into(), timeline: 1 }, backup(1, 150)), Ok(1));
        // Taken on 1 behind the fork: nothing leads from there to what came later.
        for target in [Target::Latest, Target::Time(at(30)), Target::Point { name: "x".into(), timeline: 2 }] {
            let said = choose(target, backup(1, 150)).unwrap_err();
            assert!(said.contains("does not lead"), "{said}");
        }
        assert_eq!(choose(Target::Time(at(10)), backup(1, 150)), Ok(1));
        // Of those before the backup's own nobody need know when they began: their log may be pruned.
        let began = |timeline: u32, _: Lsn| if timeline == 3 { Ok(Some(at(40))) } else { panic!("{timeline}") };
        let chosen = |minute| histories.choose(&backup(2, 150), &Target::Time(at(minute)), began).unwrap().timeline();
        assert_eq!((chosen(30), chosen(50)), (2, 3));
    }

    #[test]
    fn a_timeline_on_which_nothing_was_written_does_not_count() {
        let histories = Histories([(2, vec![(1, Lsn(100))])].into());
        let chain = histories.choose(&backup(1, 50), &Target::Time(at(30)), |_, _| Ok(None)).unwrap();
        assert_eq!(chain.timeline(), 1);
        let none = Histories::default().choose(&backup(4, 50), &Target::Latest, |_, _| Ok(None)).unwrap();
        assert_eq!(none.timeline(), 4);
    }

    #[test]
    fn the_end_of_a_transaction_is_read() {
        let line = "rmgr: Transaction len (rec/tot): 34/ 34, tx: 740, lsn: 0/030001E8, prev 0/030001B0, \
                    desc: COMMIT 2026-11-23 11:05:00.000000 UTC; inval msgs: catcache 7";
        assert_eq!(ended_at(line), Some(at(5)));
        assert_eq!(ended_at("rmgr: XLOG desc: CHECKPOINT_SHUTDOWN"), None);
    }
}
