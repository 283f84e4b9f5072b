//! The archive of PostgreSQL's write-ahead log: it gets every file, also under odd paths and after an upgrade.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use tripod_stack::{PostgresPlace, ServerName, Servers, down, up};

use crate::scene::{Scene, eventually, is_root};

fn only_postgres(scene: &Scene) -> tripod_stack::UpReport {
    let mut options = scene.options();
    options.servers = Servers::only(ServerName::Postgres);
    up(&options).unwrap_or_else(|error| panic!("{error}"))
}

fn place(scene: &Scene) -> PostgresPlace {
    PostgresPlace::of(scene.data()).unwrap()
}

/// Writes something and ends the file of the log that it is in; gives where that is archived.
fn switched(scene: &Scene) -> PathBuf {
    scene.psql("tripod_admin", "SELECT txid_current()").unwrap();
    let name = scene.psql("tripod_admin", "SELECT pg_walfile_name(pg_switch_wal())").unwrap();
    place(scene).archive().unwrap().join(name)
}

fn archives(scene: &Scene) {
    let file = switched(scene);
    eventually("the file is archived", || file.is_file());
}

#[test]
fn under_a_path_with_everything_in_it_each_file_is_archived_by_an_account_that_is_not_root() {
    let scene = Scene::below("it's a \"data\" $(touch x) `id` %p & dir");
    only_postgres(&scene);
    let file = switched(&scene);
    eventually("the file is archived", || file.is_file());
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    let dir = file.parent().unwrap().metadata().unwrap();
    assert_eq!(dir.mode() & 0o7777, 0o700);
    if is_root() {
        let pid = scene.pid(ServerName::Postgres).unwrap();
        let server = std::fs::metadata(format!("/proc/{pid}")).unwrap();
        assert_ne!(server.uid(), 0);
        assert_eq!((file.metadata().unwrap().uid(), dir.uid()), (server.uid(), server.uid()));
    }
    // A server that ends archives what it has.
    scene.psql("tripod_admin", "CREATE TABLE last (a int)").unwrap();
    let current = scene.psql("tripod_admin", "SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
    down(scene.data(), false).unwrap();
    assert!(file.with_file_name(current).is_file());
}

#[test]
fn the_login_for_base_backups_can_make_one_and_nothing_else() {
    let scene = Scene::new();
    only_postgres(&scene);
    let place = place(&scene);
    let into = scene.root().join("base");
    let mut copy = place.client("pg_basebackup");
    copy.args(["-X", "stream", "-c", "fast", "--no-sync", "--no-password", "-U", place.backup_user()]);
    let output = copy.arg("-D").arg(&into).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(into.join("backup_manifest").is_file());
    for host in [None, Some("127.0.0.1")] {
        let mut ask = place.client("psql");
        ask.args(["-XAtc", "SELECT 1", "-d", "tripod", "--no-password", "-U", place.backup_user()]);
        let output = host.iter().fold(&mut ask, |ask, host| ask.env("PGHOST", host)).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("pg_hba.conf rejects connection"), "{output:?}");
    }
    for user in ["tripod_bot", "tripod_admin"] {
        let mut copy = place.client("pg_basebackup");
        copy.env(
            "PGPASSWORD",
            scene.configured("postgres", if user == "tripod_bot" { "password" } else { "admin_password" }),
        );
        let output = copy.args(["-U", user, "-D"]).arg(scene.root().join("other")).output().unwrap();
        assert!(!output.status.success(), "{user}: {output:?}");
    }
}

/// Makes of a running stack what an older version, which archived nothing, would have left.
fn make_old(scene: &Scene) {
    scene.psql("tripod_admin", "DROP ROLE tripod_backup").unwrap();
    let mut state = scene.state();
    state["passwords"].as_object_mut().unwrap().remove("postgres_backup").unwrap();
    std::fs::write(scene.data().join("stack/state.json"), state.to_string()).unwrap();
    let conf = place(scene).data().join("postgresql.conf");
    let text = std::fs::read_to_string(&conf).unwrap();
    let old: Vec<&str> = text.lines().filter(|line| !line.starts_with("archive_")).collect();
    assert_eq!(text.lines().count() - old.len(), 3);
    std::fs::write(&conf, old.join("\n")).unwrap();
    std::fs::remove_dir_all(place(scene).archives()).unwrap();
}

#[test]
fn a_stack_of_an_older_version_is_archived_from_the_next_up_on() {
    let scene = Scene::new();
    only_postgres(&scene);
    scene.psql("tripod_admin", "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    // Stopped, and running.
    for runs in [false, true] {
        make_old(&scene);
        if !runs {
            down(scene.data(), false).unwrap();
        }
        let report = only_postgres(&scene);
        assert_eq!(report.started, [ServerName::Postgres]);
        assert_eq!(report.notes.iter().any(|note| note.contains("settings of an older version")), runs, "{report:?}");
        assert_eq!(scene.psql("tripod_admin", "SHOW archive_mode").unwrap(), "on");
        let role =
            "SELECT rolreplication AND rolcanlogin AND NOT rolsuper FROM pg_roles WHERE rolname = 'tripod_backup'";
        assert_eq!(scene.psql("tripod_admin", role).unwrap(), "t");
        archives(&scene);
        assert_eq!(scene.psql("tripod_bot", "SELECT 1").unwrap(), "1");
        assert_eq!(scene.psql("tripod_admin", "SELECT n FROM kept").unwrap(), "7");
        assert_eq!(only_postgres(&scene).started, [], "once");
    }
}

/// The files of the new one have the names of the old one's.
#[test]
fn a_cluster_that_is_made_anew_in_the_same_place_has_an_archive_of_its_own() {
    let scene = Scene::new();
    only_postgres(&scene);
    archives(&scene);
    let old = place(&scene).archive().unwrap();
    down(scene.data(), false).unwrap();
    std::fs::remove_dir_all(place(&scene).data()).unwrap();
    only_postgres(&scene);
    assert_ne!(place(&scene).archive().unwrap(), old);
    archives(&scene);
    assert!(old.is_dir());
    assert_eq!(scene.psql("tripod_admin", "SELECT failed_count FROM pg_stat_archiver").unwrap(), "0");
}
