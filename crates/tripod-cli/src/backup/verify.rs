//! `backup verify`: a backup is proven by a restore on servers of its own.
//!
//! Constraints: on ports and in a directory of its own, gone afterwards however it ends; the stack is asked nothing. What
//! was found is kept beside the backup, good or bad: *proven* means that the last one was good. A backup with a damaged
//! file is not restored at all: that it is damaged is what there is to know.

use std::time::{Duration, Instant};

use tripod::Timestamp;
use tripod_stack::{Scratch, ServerName, Servers};

use super::check::Checked;
use super::events::Server;
use super::manifest::Proof;
use super::postgres::{PgPlace, Target, amcheck, put_in_place};
use super::store::{Backup, Store, Work};
use super::{Part, Shown, create, files, stage};

/// Every index is compared with its table.
const AMCHECK_WITHIN: Duration = Duration::from_mins(30);

/// All stores of a backup.
const SERVERS: Servers = Servers { questdb: true, postgres: true, redis_events: true, ..Servers::NONE };

/// Proves one, the newest where none is named, and keeps what was found.
pub(crate) fn verify(store: &Store, id: Option<&str>, shown: Shown<'_>) -> anyhow::Result<(Backup, Proof)> {
    let id = store.pick(id)?.manifest.id;
    let _lock = store.lock(Work::Prove)?;
    // Again: a `prune` may have removed it until now.
    let mut backup = store.pick(Some(&id))?;
    let stored = Part::ALL.iter().map(|part| backup.manifest.stored(*part)).sum();
    shown.step("comparing files with their sums", Some(stored));
    let damaged = files::check(&backup.manifest.files, &backup.dir, shown)?;
    let mut proof = Proof {
        id: backup.manifest.id.clone(),
        at: Timestamp::now(),
        ok: false,
        restore_ms: 0,
        tables: Vec::new(),
        problems: damaged,
    };
    if proof.problems.is_empty() {
        let (checked, restored_in) = on_scratch(store, &backup, shown)?;
        proof.restore_ms = u64::try_from(restored_in.as_millis()).unwrap_or(u64::MAX);
        (proof.tables, proof.problems) = (checked.tables, checked.problems);
        proof.at = Timestamp::now();
    }
    proof.ok = proof.problems.is_empty();
    backup.keep_proof(&proof)?;
    backup.proof = Some(proof.clone());
    Ok((backup, proof))
}

fn on_scratch(store: &Store, backup: &Backup, shown: Shown<'_>) -> anyhow::Result<(Checked, Duration)> {
    let manifest = &backup.manifest;
    let needed = Part::ALL.iter().map(|part| manifest.unpacked(*part)).sum();
    create::room_for(store.dir(), needed, "free some space there; a proof unpacks the whole backup beside it")?;
    let begun = Instant::now();
    let mut scratch = Scratch::lay(&store.scratch(), SERVERS)?;
    let dir = scratch.site().data_dir().to_owned();
    stage::fill(backup, &mut scratch, &[Part::Questdb, Part::Events], shown)?;
    let place = PgPlace::of(&dir)?;
    let point = &manifest.postgres.point;
    let target = Target::Point { name: point.name.clone(), timeline: point.timeline };
    stage::recover_postgres(backup, &place, &target, (&dir, None), true, shown)?;
    put_in_place(&place)?;
    stage::start(&mut scratch, SERVERS, shown)?;
    let restored_in = begun.elapsed();

    let mut checked = Checked::default();
    checked.questdb(&stage::questdb(&scratch.site())?, manifest, true, shown)?;
    checked.events(&mut Server::open(&scratch.site(), ServerName::RedisEvents)?, manifest)?;
    shown.step("PostgreSQL: comparing tables and indexes", None);
    // Its port is known since it was started.
    let place = PgPlace::of(&dir)?;
    checked.postgres(&place, manifest)?;
    let unsound = amcheck(&place, AMCHECK_WITHIN)?;
    checked.problems.extend(unsound.into_iter().map(|problem| format!("PostgreSQL: {problem}")));
    Ok((checked, restored_in))
}
