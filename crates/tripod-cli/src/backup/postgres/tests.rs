//! Base backups and restores on real servers. What is there afterwards is asked of the restored server.

mod scene;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tripod::Timestamp;
use tripod::postgres::{Login, Postgres};
use tripod_stack::{PostgresPlace, ServerName};

use super::wal::{self, SegmentSize};
use super::*;
use scene::{LONG, Scene, Stopping, children_with, eventually, flip_a_bit, point, write_until};

#[test]
fn a_backup_under_writes_is_restored_to_a_point_a_time_and_the_end_row_by_row() {
    let source = Scene::new();
    let (stop, last) = (AtomicBool::new(false), AtomicI64::new(0));
    let mut told = 0;
    let into = source.dir("base");
    let backup = std::thread::scope(|scope| {
        // Also where this fails: the scope waits for the writer.
        let _stop = Stopping(&stop);
        scope.spawn(|| write_until(&source.place.config, &stop, &last));
        eventually("the writer writes", || last.load(Ordering::Relaxed) > 20);
        let begun = last.load(Ordering::Relaxed);
        let backup = base_backup(&source.place, &into, &mut |bytes| told = bytes).unwrap();
        assert!(last.load(Ordering::Relaxed) > begun, "nobody wrote meanwhile");
        let ended = last.load(Ordering::Relaxed);
        eventually("it goes on", || last.load(Ordering::Relaxed) > ended + 20);
        backup
    });
    assert!(told > 10_000_000 && backup.bytes > 10_000_000, "{told} of {}", backup.bytes);
    assert_eq!((backup.timeline, backup.system_identifier.parse::<u64>().is_ok()), (1, true));
    assert!(backup.finished_at > backup.started_at);
    assert_eq!(verify_files(&source.place, &into).unwrap(), Vec::<String>::new());
    assert_eq!(source.number("SELECT count(*) FROM pg_replication_slots"), 0);

    let at_point = last.load(Ordering::Relaxed);
    let made: RestorePoint = restore_point(&source.place, "it's \"a\" point").unwrap();
    assert_eq!(made.timeline, 1);
    source.write(at_point + 1..=at_point + 5);
    let at_time = source.now();
    source.write(at_point + 6..=at_point + 9);
    let wal = source.collect(&backup, "wal");
    source.write(at_point + 10..=at_point + 10);
    let (before, all) = (at_point, at_point + 9);

    let scratch = Scene::new();
    let wal = [wal];
    let targets =
        [(point(&made.name, made.timeline), before), (Target::Time(at_time), before + 5), (Target::Latest, all)];
    for (round, (target, rows)) in targets.into_iter().enumerate() {
        let recovered = scratch.restore(&into, &backup, &wal, &target);
        assert_eq!(scratch.rows(), (1..=rows).collect::<Vec<_>>(), "{target}");
        assert_eq!((recovered.timeline, scratch.timeline()), (2, 2), "{target}");
        assert!(recovered.at_lsn.parse::<wal::Lsn>().unwrap() >= backup.end_lsn.parse().unwrap(), "{recovered:?}");
        let newest = scratch.number("SELECT (extract(epoch FROM max(at)) * 1000000)::bigint FROM public.numbered");
        let at = recovered.at_time.unwrap().as_nanos() / 1000;
        assert!(at >= newest && at < newest + 60_000_000, "{target}: {at} and {newest}");
        assert_eq!(recovered.stopped.is_empty(), target == Target::Latest, "{recovered:?}");
        scratch.write(all + 1..=all + 1);
        assert_eq!(amcheck(&scratch.place, LONG).unwrap(), Vec::<String>::new(), "round {round}");
    }
    // The bot's login has the password of the stack it was restored into.
    let bot = scratch.stack.bot(ServerName::Postgres);
    let output = scratch
        .place
        .stack
        .client("psql")
        .args(["-XAtc", "SELECT current_user", "-U", bot.user, "-d", "tripod"])
        .env("PGPASSWORD", bot.password())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "tripod_bot", "{output:?}");
    // Of a process that has seen the copies, the original is still the one to write to.
    source.sql("INSERT INTO public.numbered (n) VALUES (-1)");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bot = Postgres::open_as(&source.place.config, Login::Admin, LONG).unwrap();
        let sql = "DELETE FROM public.numbered WHERE n = -1";
        bot.call("write", async |client| Ok(client.execute(sql, &[]).await?)).await.unwrap();
    });
    assert_eq!(source.rows(), (1..=all + 1).collect::<Vec<_>>(), "the source goes on as it was");

    // The server itself says so too where a moment is in the log and before the end of the copy.
    let known_earlier = BaseBackup { finished_at: backup.started_at, ..backup.clone() };
    let said = scratch.refusal(&into, &known_earlier, &wal, &Target::Time(backup.started_at));
    assert!(said.contains("is before the end of this base backup"), "{said}");
}

#[test]
fn what_cannot_be_restored_is_refused_in_words_and_the_server_in_place_goes_on() {
    let scene = Scene::new();
    let place = &scene.place;
    let early = scene.now();
    let made = restore_point(place, "too early").unwrap();
    let (base, backup) = scene.base("base");
    scene.write(1..=3);
    switch_and_await_archive(place, LONG).unwrap();
    scene.write(4..=6);
    let wanted = restore_point(place, "wanted").unwrap();
    let wal = scene.collect(&backup, "wal");
    let refusal = |wal: &Path, target: Target| scene.refusal(&base, &backup, &[wal.to_owned()], &target);

    let said = refusal(&wal, Target::Time(early));
    assert!(said.contains("before the end of this base backup"), "{said}");
    let said = refusal(&wal, point(&made.name, 1));
    assert!(said.contains("the point `too early` was not found"), "{said}");
    let said = refusal(&wal, point("never made", 1));
    assert!(
        said.contains("the point `never made` was not found") && said.contains("its last transaction is of 2"),
        "{said}"
    );
    let said = refusal(&wal, Target::Time(Timestamp::now().checked_add(LONG).unwrap()));
    assert!(said.contains("no transaction after"), "{said}");

    let size = SegmentSize::new(backup.segment_bytes).unwrap();
    let names: BTreeSet<String> =
        archive::names_in(&wal).unwrap().into_iter().filter(|name| wal::is_segment(name)).collect();
    let behind = size.name(1, size.number(backup.end_lsn.parse().unwrap()) + 1);
    assert!(names.contains(&behind) && names.last() > Some(&behind), "{behind} in {names:?}");
    let aside = scene.dir("aside");
    std::fs::rename(wal.join(&behind), &aside).unwrap();
    for target in [Target::Latest, point("wanted", 1)] {
        let said = refusal(&wal, target);
        assert!(said.contains(&format!("{behind} is missing")) && said.contains(names.last().unwrap()), "{said}");
    }
    std::fs::rename(&aside, wal.join(&behind)).unwrap();

    let first = size.name(1, size.number(backup.start_lsn.parse().unwrap()));
    std::fs::rename(wal.join(&first), &aside).unwrap();
    let said = refusal(&wal, point("wanted", 1));
    assert!(said.contains(&format!("{first} is missing")), "{said}");
    let said = scene.refusal(&base, &backup, &[], &Target::Latest);
    assert!(said.contains(&format!("{first} is missing;")), "{said}");
    std::fs::rename(&aside, wal.join(&first)).unwrap();

    // Where the last row is, so that there is a record to be damaged.
    let undamaged = std::fs::read(wal.join(&behind)).unwrap();
    let used = undamaged.iter().rposition(|byte| *byte != 0).unwrap();
    // Not in what only fills a record up.
    (0..64).for_each(|at| flip_a_bit(&wal.join(&behind), used / 2 + at));
    for target in [Target::Latest, point("wanted", 1)] {
        let said = refusal(&wal, target);
        assert!(said.contains("damaged"), "{said}");
    }
    // Half a file is no file.
    std::fs::write(wal.join(&behind), &undamaged[..undamaged.len() / 2]).unwrap();
    let said = refusal(&wal, Target::Latest);
    assert!(said.contains(&format!("{behind} is missing")), "{said}");
    std::fs::write(wal.join(&behind), undamaged).unwrap();

    let other = BaseBackup { system_identifier: "1".into(), ..backup.clone() };
    assert!(scene.refusal(&base, &other, std::slice::from_ref(&wal), &Target::Latest).contains("another base backup"));
    let old = BaseBackup { version: "9.6".into(), ..backup.clone() };
    assert!(
        scene
            .refusal(&base, &old, std::slice::from_ref(&wal), &Target::Latest)
            .contains("of PostgreSQL 9.6, installed is 15")
    );
    let error = base_backup(place, &base, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    for name in ["", "a\nb", &"x".repeat(64)] {
        assert!(restore_point(place, name).is_err(), "{name:?}");
    }

    assert!(archive::names_in(&place.stack.restore_dir()).unwrap().is_empty(), "what was given up takes no disk");
    // All the time its own server has run, and nothing of the refused ones is in its archive.
    assert_eq!((scene.rows(), scene.timeline()), ((1..=6).collect(), 1));
    switch_and_await_archive(place, LONG).unwrap();
    let archived = archive::names_in(&place.archive().unwrap()).unwrap();
    assert!(archived.iter().all(|name| name.starts_with("00000001")), "{archived:?}");
    let recovered = scene.recover(&base, &backup, &[wal], &point("wanted", wanted.timeline)).unwrap();
    assert_eq!(recovered.timeline, 2, "and undamaged it can be restored");
}

#[test]
fn after_restores_each_moment_is_found_on_the_timeline_that_was_in_use() {
    let scene = Scene::new();
    // A bot that has known the server since before, with one handle all the time.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bot = {
        let _inside = runtime.enter();
        Postgres::open_as(&scene.place.config, Login::Admin, Duration::from_secs(5)).unwrap()
    };
    let goes_on = |what: &str| {
        let sql = "SELECT count(*) FROM public.numbered";
        eventually(what, || {
            runtime.block_on(bot.call("read", async |client| Ok(client.query_one(sql, &[]).await?))).is_ok()
        });
    };
    goes_on("at the beginning");
    let archive = [scene.place.archive().unwrap()];
    let (base, backup) = scene.base("base");
    scene.write(1..=2);
    restore_point(&scene.place, "fork").unwrap();
    scene.write(3..=4);
    let on_first = scene.now();
    scene.write(5..=5);
    let (late_base, late_backup) = scene.base("late");
    switch_and_await_archive(&scene.place, LONG).unwrap();

    let recovered = scene.restore(&base, &backup, &archive, &point("fork", 1));
    assert_eq!((recovered.timeline, scene.rows()), (2, vec![1, 2]));
    goes_on("after the first restore");
    scene.write(20..=21);
    let on_second = scene.now();
    scene.write(22..=22);
    switch_and_await_archive(&scene.place, LONG).unwrap();
    eventually("the new timeline's history is archived", || archive[0].join("00000002.history").is_file());

    // What the first restore threw away is still there for one who wants it.
    let recovered = scene.restore(&base, &backup, &archive, &Target::Time(on_first));
    assert_eq!((recovered.timeline, scene.rows()), (3, vec![1, 2, 3, 4]));
    goes_on("after the second restore");
    scene.write(30..=30);
    switch_and_await_archive(&scene.place, LONG).unwrap();

    let recovered = scene.restore(&base, &backup, &archive, &Target::Time(on_second));
    assert_eq!((recovered.timeline, scene.rows()), (4, vec![1, 2, 20, 21]));
    goes_on("after the third restore");
    scene.write(40..=40);
    switch_and_await_archive(&scene.place, LONG).unwrap();
    let said = scene.refusal(&late_base, &late_backup, &archive, &Target::Latest);
    assert!(said.contains("does not lead"), "{said}");

    // A base backup on the new timeline, and the end of it.
    let (new_base, new_backup) = scene.base("new");
    assert_eq!(new_backup.timeline, 4);
    scene.write(41..=41);
    let wal = scene.collect(&new_backup, "new wal");
    let recovered = scene.restore(&new_base, &new_backup, &[wal], &Target::Latest);
    assert_eq!(scene.rows(), [1, 2, 20, 21, 40, 41]);
    assert_eq!(recovered.timeline, 5);
    goes_on("after the last restore");
    eventually("the archive takes its files", || switch_and_await_archive(&scene.place, LONG).is_ok());
    assert_eq!(scene.number("SELECT failed_count FROM pg_stat_archiver"), 0);
}

/// Nothing is lost that was committed, though the archive has not got it yet: of a server that runs, and of one that died.
#[test]
fn the_latest_state_is_all_that_was_committed_whether_the_server_runs_or_is_dead() {
    let scene = Scene::new();
    let archive = [scene.place.archive().unwrap()];
    let (base, backup) = scene.base("base");
    scene.write(1..=2);
    let at = scene.now();
    scene.write(3..=3);
    let recovered = scene.restore(&base, &backup, &archive, &Target::Time(at));
    assert_eq!((recovered.timeline, scene.rows()), (2, vec![1, 2]));
    scene.write(4..=5);
    let recovered = scene.restore(&base, &backup, &archive, &Target::Latest);
    assert_eq!((recovered.timeline, scene.rows()), (3, vec![1, 2, 4, 5]));

    scene.write(6..=7);
    scene.stack.kill(ServerName::Postgres).unwrap();
    let archived = archive::names_in(&archive[0]).unwrap();
    let recovered = scene.restore(&base, &backup, &archive, &Target::Latest);
    assert_eq!((recovered.timeline, scene.rows()), (4, vec![1, 2, 4, 5, 6, 7]));
    // It was not in the archive: else this shows nothing.
    let size = SegmentSize::new(backup.segment_bytes).unwrap();
    assert!(!archived.contains(&size.name(3, size.number(recovered.at_lsn.parse().unwrap()))), "{archived:?}");
    eventually("the archive goes on", || switch_and_await_archive(&scene.place, LONG).is_ok());
}

#[test]
fn what_a_killed_recovery_left_at_its_socket_does_not_stand_in_the_way_of_the_next() {
    let scene = Scene::new();
    let (base, backup) = scene.base("base");
    scene.write(1..=3);
    let wal = scene.collect(&backup, "wal");
    // As long as its process is not awaited it counts as alive: here by the number of one that is.
    let sockets = scene.stack.socket(ServerName::Postgres).unwrap();
    let port = scene.stack.address(ServerName::Postgres).rsplit_once(':').unwrap().1.to_owned();
    std::fs::copy(sockets.join(format!(".s.PGSQL.{port}.lock")), sockets.join(".s.PGSQL.1.lock")).unwrap();
    scene.recover(&base, &backup, &[wal], &Target::Latest).unwrap();
    assert_eq!(scene.rows(), [1, 2, 3], "the server in place goes on");
}

#[test]
fn a_killed_copy_leaves_no_backup_and_no_slot() {
    let scene = Scene::new();
    let into = scene.dir("base");
    let beside = scene.dir("base.unfinished");
    let error = std::thread::scope(|scope| {
        let copy = scope.spawn(|| base_backup(&scene.place, &into, &mut |_| ()));
        let mut pids = Vec::new();
        eventually("the copy runs", || {
            pids = children_with(&beside);
            !pids.is_empty() && beside.join("base").is_dir()
        });
        for pid in pids {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        copy.join().unwrap().unwrap_err().to_string()
    });
    assert!(error.contains("pg_basebackup"), "{error}");
    assert!(!into.exists() && !beside.exists());
    assert_eq!(scene.number("SELECT count(*) FROM pg_replication_slots"), 0);
    // What a killed caller would leave is no backup, and does not stand in the way of the next.
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(beside.join("PG_VERSION"), "15").unwrap();
    scene.base("base");
    assert!(!beside.exists());
}

/// A killed recovery leaves the name of its socket locked under its number; here that number is a living server's.
#[test]
fn what_a_killed_recovery_has_left_is_not_taken_for_a_server_that_lives() {
    let scene = Scene::new();
    let archive = [scene.place.archive().unwrap()];
    let (base, backup) = scene.base("base");
    scene.write(1..=2);
    let (sockets, pid) =
        (scene.stack.socket(ServerName::Postgres).unwrap(), scene.stack.pid(ServerName::Postgres).unwrap());
    let lock = sockets.join(".s.PGSQL.1.lock");
    std::fs::write(&lock, format!("{pid}\n/gone\n0\n1\n{}\n", sockets.display())).unwrap();
    scene.restore(&base, &backup, &archive, &Target::Latest);
    assert_eq!(scene.rows(), [1, 2]);
    assert!(!lock.exists());
}

#[test]
fn an_archive_that_takes_nothing_is_an_error_in_its_own_words() {
    let scene = Scene::new();
    let archive = scene.place.archive().unwrap();
    std::fs::rename(&archive, archive.with_extension("aside")).unwrap();
    scene.write(1..=1);
    // Until its first failure is written down it may be silent.
    eventually("the archive's own words are told", || {
        let said = switch_and_await_archive(&scene.place, Duration::from_millis(200)).unwrap_err().to_string();
        said.contains("has not taken 0000") && said.contains("it has failed ") && said.contains("is not a directory")
    });
    let missing = collect_wal(&scene.place, "0/1000000", 1, "000000010000000000000001", &scene.dir("wal"));
    assert!(missing.unwrap_err().to_string().contains("000000010000000000000001 is missing in the archive"));
    std::fs::rename(archive.with_extension("aside"), &archive).unwrap();
    eventually("it goes on by itself", || switch_and_await_archive(&scene.place, Duration::from_secs(1)).is_ok());
}

#[test]
fn a_flipped_bit_and_a_wrong_index_are_found() {
    let scene = Scene::new();
    let (base, _) = scene.base("base");
    flip_a_bit(&base.join("global/1262"), 100);
    std::fs::remove_file(base.join("PG_VERSION")).unwrap();
    let problems = verify_files(&scene.place, &base).unwrap();
    assert!(
        problems.iter().any(|problem| problem.contains("checksum") && problem.contains("global/1262")),
        "{problems:?}"
    );
    assert!(problems.iter().any(|problem| problem.contains("PG_VERSION")), "{problems:?}");
    std::fs::remove_file(base.join("backup_manifest")).unwrap();
    assert!(verify_files(&scene.place, &base).unwrap()[0].contains("backup_manifest"));

    // An index whose order is no longer that of its comparison, as after a change of the system's collations.
    scene.sql(
        "CREATE FUNCTION public.fickle(int4, int4) RETURNS int4 LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($1, $2)';
         CREATE OPERATOR CLASS public.fickle_ops FOR TYPE int4 USING btree AS
             OPERATOR 1 < (int4, int4), OPERATOR 2 <= (int4, int4), OPERATOR 3 = (int4, int4),
             OPERATOR 4 >= (int4, int4), OPERATOR 5 > (int4, int4), FUNCTION 1 public.fickle(int4, int4);
         CREATE TABLE public.indexed AS SELECT n::int4 FROM generate_series(1, 1000) AS n;
         CREATE INDEX fickle_index ON public.indexed (n public.fickle_ops)",
    );
    assert_eq!(amcheck(&scene.place, LONG).unwrap(), Vec::<String>::new());
    scene.sql(
        "CREATE OR REPLACE FUNCTION public.fickle(int4, int4) RETURNS int4 LANGUAGE sql IMMUTABLE
         AS 'SELECT btint4cmp($2, $1)'",
    );
    let problems = amcheck(&scene.place, LONG).unwrap();
    assert!(problems.iter().any(|problem| problem.contains("fickle_index")), "{problems:?}");
    scene.stack.stop_server(ServerName::Postgres).unwrap();
    assert!(!amcheck(&scene.place, LONG).unwrap().is_empty(), "a server that is away is not sound");
}

#[test]
fn pruning_removes_only_what_no_kept_backup_needs() {
    let scene = Scene::new();
    let place = &scene.place;
    scene.write(1..=1);
    switch_and_await_archive(place, LONG).unwrap();
    let (first_base, first) = scene.base("first");
    scene.write(2..=2);
    switch_and_await_archive(place, LONG).unwrap();
    let (second_base, second) = scene.base("second");
    scene.write(3..=3);
    switch_and_await_archive(place, LONG).unwrap();
    let archive = place.archive().unwrap();
    let other = place.archive_of("1");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("000000010000000000000001"), "of another cluster").unwrap();
    std::fs::write(archive.join("00000002.history"), "1\t0/1000000\tnone\n").unwrap();
    let names = || archive::names_in(&archive).unwrap();
    let all = names();

    assert_eq!(prune_archive(place, &[]).unwrap(), Pruned::default());
    assert_eq!(names(), all);
    let both = [Needed::by(&second).unwrap(), Needed::by(&first).unwrap()];
    let pruned = prune_archive(place, &both).unwrap();
    assert!(pruned.files > 0 && pruned.bytes > 0, "{pruned:?}");
    std::fs::remove_file(archive.join("00000002.history")).unwrap();
    scene.recover(&first_base, &first, std::slice::from_ref(&archive), &Target::Latest).unwrap();

    prune_archive(place, &[Needed::by(&second).unwrap()]).unwrap();
    let left = names();
    assert!(left.contains(&Needed::by(&second).unwrap().first_segment), "{left:?}");
    assert!(!left.contains(&Needed::by(&first).unwrap().first_segment), "{left:?}");
    assert!(left.iter().filter(|name| name.ends_with(".backup")).count() == 1, "{left:?}");
    assert!(other.join("000000010000000000000001").exists());
    // Unpacked where it recovers, it is not copied again.
    let unpacked = place.make_restore_dir().unwrap();
    assert!(std::process::Command::new("cp").arg("-aT").arg(&second_base).arg(&unpacked).status().unwrap().success());
    scene.recover(&unpacked, &second, std::slice::from_ref(&archive), &Target::Latest).unwrap();
    assert!(unpacked.join("PG_VERSION").is_file() && !unpacked.join("tripod-restore").exists());
    let error = prune_archive(place, &[Needed { system_identifier: "1".into(), first_segment: "x".into() }]);
    assert!(error.is_err());
    assert_eq!(PostgresPlace::system_identifier(&place.data()).unwrap().to_string(), first.system_identifier);
}
