//! What commands that were killed have left, put in order by the next one.
//!
//! Constraints: nothing is taken from under a command that runs: each kind of leftover has a lock that ends with its
//! process. A checkpoint is released only where a note says that it was a backup's; directories that were about to change
//! places go on doing so, because a stack on the data of two moments is none.
//!
//! ```text
//! killed `create`    a checkpoint that is open, half a backup aside          ─▶ released, removed
//! killed `verify`    servers of its own: their guardian has ended them       ─▶ removed by the next `verify`
//! killed `restore`   data made ready                                         ─▶ removed
//!                    directories about to change places                      ─▶ changed, then as after a restore
//! ```

use std::path::Path;

use tripod::Config;
use tripod_stack::stand_still;

use super::site::{Ground, questdb_of};
use super::store::{Store, Work};
use super::{questdb, swap};

/// Puts everything in order, before a command of its own begins. Needs the lock.
pub(super) fn mend(ground: &Ground, store: &Store) -> anyhow::Result<()> {
    let data = ground.site.data_dir();
    go_on_with_moves(data)?;
    if !swap::record_path(data).exists() {
        swap::clear_ready(data);
    }
    store.clear_aside()?;
    release_checkpoint(&ground.config, store)
}

/// Carries out moves that were written down and not carried out; says what, in a sentence. The servers are ended for it.
pub(crate) fn go_on_with_moves(data: &Path) -> anyhow::Result<Option<String>> {
    if !swap::is_begun(data)? {
        return Ok(None);
    }
    let _still = stand_still(data)?;
    let backup = swap::carry_out(data)?;
    Ok(backup.map(|id| format!("a restore of backup {id} that was interrupted has been carried out")))
}

/// After the servers answer: removes the data that a restore replaced, and releases a checkpoint that a killed backup has
/// left open. Does nothing while a backup is at work. Says what was done, in a sentence each.
pub(crate) fn after_up(data: &Path) -> anyhow::Result<Vec<String>> {
    let mut done = Vec::new();
    if swap::record_path(data).exists() {
        swap::finish(data)?;
        done.push("the data that a restore has replaced were removed".to_owned());
    }
    let config = Config::local(data)?;
    let store = Store::new(&config.backup.dir);
    if !store.checkpoint_note().exists() {
        return Ok(done);
    }
    let Some(_lock) = store.try_lock(Work::Change)? else { return Ok(done) };
    if questdb::release_left(&questdb_of(&config)?, &store)? {
        done.push("a checkpoint that a killed backup had left open on QuestDB was released".to_owned());
    }
    Ok(done)
}

/// A server that does not answer has none open: it does not outlive a restart. The note stays until one is asked.
fn release_checkpoint(config: &Config, store: &Store) -> anyhow::Result<()> {
    match questdb::release_left(&questdb_of(config)?, store) {
        Ok(true) => {
            tracing::warn!("a checkpoint that a killed backup had left open on QuestDB was released");
            Ok(())
        }
        Ok(false) => Ok(()),
        Err(error) => {
            let away = error.downcast_ref::<tripod::Error>();
            match away {
                Some(tripod::Error::Unreachable { .. } | tripod::Error::Deadline { .. }) => Ok(()),
                _ => Err(error),
            }
        }
    }
}
