//! How long `record()` takes, for `status` and metrics.
//!
//! Constraints: measured where it costs nothing that can be measured: one call of 1024 of each thread is timed, and noted
//! in a word of the journal's counts file. So the figures are those of the bot's own calls, in its own caches, and can
//! be read from any process, also after the bot died.

use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tripod_journal::Took;

use crate::config::Config;
use crate::error::Result;
use crate::tape::spec::Importance;

/// What the calls of one class took that were timed since the bot opened its journals. Times are told to an eighth, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordTimes {
    /// Of the table.
    pub class: Importance,
    /// How many calls were timed; for each there were about 1024.
    pub timed: u64,
    /// Half of them took no longer.
    #[serde(rename = "p50_ns", serialize_with = "nanos")]
    pub p50: Duration,
    /// 99 of 100 took no longer.
    #[serde(rename = "p99_ns", serialize_with = "nanos")]
    pub p99: Duration,
    /// 999 of 1000 took no longer; of fewer calls than that, the longest.
    #[serde(rename = "p999_ns", serialize_with = "nanos")]
    pub p999: Duration,
}

impl RecordTimes {
    fn of(class: Importance, took: &Took) -> Option<Self> {
        let within = |per_mille| took.within(per_mille);
        Some(Self { class, timed: took.noted(), p50: within(500)?, p99: within(990)?, p999: within(999)? })
    }

    /// Of the journal of `class` below `journals`; `None` where there is none yet, or no call was timed.
    pub(crate) fn read(journals: &Path, class: Importance) -> Result<Option<Self>> {
        match Took::read(&journals.join(class.as_str())) {
            Ok(took) => Ok(Self::of(class, &took)),
            Err(tripod_journal::Error::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn nanos<S: Serializer>(time: &Duration, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// How long `record()` takes in the bot of `config`, by class; those of which no call was timed yet are left out.
///
/// # Errors
/// [`crate::Error::Journal`] where a journal's counts cannot be read.
pub fn record_times(config: &Config) -> Result<Vec<RecordTimes>> {
    let journals = config.journal_dir();
    let times = Importance::ALL.into_iter().map(|class| RecordTimes::read(&journals, class));
    times.filter_map(Result::transpose).collect()
}
