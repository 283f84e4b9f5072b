//! `create`, `verify` and `restore`, killed (-9) at moments of no choice.

#![expect(clippy::print_stdout, reason = "what was seen is worth reading where a test fails, and no bar of one")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{LONG, Scene};
use crate::run::tripod;

/// Deaths of each kind in the suite; the long run has more.
const DEATHS: u32 = 3;
const DEATHS_LONG: u32 = 20;

fn start(scene: &Scene, arguments: &[&str]) -> Child {
    let mut command = tripod();
    command.current_dir(scene.data()).args(["--data", ".", "backup"]).args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills it after `life`, unless it has ended; says whether it was killed.
fn kill_after(mut child: Child, life: Duration) -> bool {
    let end = Instant::now() + life;
    while Instant::now() < end {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(2).min(end.saturating_duration_since(Instant::now())));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// How long it takes undisturbed.
fn timed(scene: &Scene, arguments: &[&str]) -> Duration {
    let begun = Instant::now();
    assert!(start(scene, arguments).wait().unwrap().success(), "{arguments:?}");
    begun.elapsed()
}

/// Moments spread over a command's life: the middle of each of equal parts, so that none is left out by chance.
fn moments(whole: Duration, deaths: u32) -> impl Iterator<Item = Duration> {
    (0..deaths).map(move |number| whole * (2 * number + 1) / (2 * deaths))
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn ids(scene: &Scene) -> Vec<Value> {
    let listed = scene.done(&["backup", "ls"]);
    listed.as_array().unwrap().iter().map(|one| one["id"].clone()).collect()
}

/// Processes that carry the name of servers of a backup's own directory.
fn scratch_servers(scene: &Scene) -> usize {
    let places = [scene.backups().join(".scratch"), scene.data().join("restore")];
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| places.iter().any(|place| line.contains(&place.display().to_string())))
        .count()
}

fn creates_die(deaths: u32) {
    let scene = Scene::new();
    scene.mark(1);
    let whole = timed(&scene, &["create"]);
    let (before, listed) = (scene.content(), ids(&scene));
    let mut killed = 0;
    for moment in moments(whole, deaths) {
        if !kill_after(start(&scene, &["create"]), moment) {
            continue;
        }
        killed += 1;
        let now = ids(&scene);
        // The last step may have been done.
        assert!(now == listed || now.len() == listed.len() + killed || now.len() > listed.len(), "{now:?}");
        for id in &now {
            assert!(scene.backups().join(id.as_str().unwrap()).join("manifest.json").is_file());
        }
        assert!(scene.content() == before, "the servers were harmed");
    }
    assert!(killed > 0, "none was killed");
    // The next one clears up and is whole.
    scene.done(&["backup", "create"]);
    assert!(!scene.checkpoint_is_open());
    let aside = scene.backups().join(".aside");
    assert!(!aside.exists() || std::fs::read_dir(aside).unwrap().next().is_none());
    assert_eq!(scene.done(&["backup", "verify"])["ok"], true);
    assert!(scene.content() == before, "the servers were harmed");
}

fn verifies_die(deaths: u32) {
    let scene = Scene::new();
    scene.mark(1);
    scene.done(&["backup", "create"]);
    let whole = timed(&scene, &["verify"]);
    let proof = scene.backups().join(ids(&scene)[0].as_str().unwrap()).join("proof.json");
    let before = scene.content();
    let mut unproven = 0;
    for moment in moments(whole, deaths) {
        // Of the one before, where that had come to its end.
        let _ = std::fs::remove_file(&proof);
        if kill_after(start(&scene, &["verify"]), moment) {
            until("its servers end", || scratch_servers(&scene) == 0);
            match std::fs::read(&proof) {
                Err(_) => {
                    assert_eq!(scene.done(&["backup", "ls"])[0]["proven_at"], json!(null));
                    unproven += 1;
                }
                // Killed behind its last step: then it is a whole one.
                Ok(text) => assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["ok"], true),
            }
            assert!(scene.content() == before, "the servers were harmed");
        }
    }
    assert!(unproven > 0, "none was killed before its proof");
    let left = || std::fs::read_dir(scene.backups().join(".scratch")).is_ok_and(|mut left| left.next().is_some());
    until("its directory is removed", || !left());
    assert_eq!(scene.done(&["backup", "verify"])["ok"], true);
}

fn restores_die(deaths: u32) {
    let scene = Scene::new();
    scene.mark(1);
    scene.done(&["backup", "create"]);
    let old = scene.content();
    scene.mark(2);
    let whole = timed(&scene, &["restore", "--yes"]);
    assert!(scene.content() == old, "not what was backed up");
    scene.done(&["deliver", "--until-empty"]);
    let mut outcomes = Vec::new();
    for moment in moments(whole, deaths) {
        // Different from the backup again, in all three.
        scene.mark(2);
        let marked = scene.content();
        assert_ne!(marked.setting, old.setting);
        let killed = kill_after(start(&scene, &["restore", "--yes"]), moment);
        // What an operator does next, whatever it was.
        scene.done(&["up"]);
        until("no server of the restore is left", || scratch_servers(&scene) == 0);
        let found = scene.content();
        assert!(found == marked || found == old, "killed after {moment:?}: the data of two moments");
        outcomes.push((killed, found == old));
        assert!(!scene.data().join("restore.json").exists());
        // It can be run again.
        scene.done(&["backup", "restore", "--yes"]);
        assert!(scene.content() == old, "not what was backed up");
        scene.done(&["deliver", "--until-empty"]);
        let again = scene.content().attempts;
        assert!(
            again == marked.attempts,
            "the journal brought {} of {} rows again",
            again.len(),
            marked.attempts.len()
        );
    }
    println!("killed, restored all the same: {outcomes:?}");
    assert!(outcomes.iter().any(|(killed, _)| *killed), "none was killed");
}

/// The one moment that matters most is met every time: while the checkpoint is open.
#[test]
fn a_checkpoint_that_a_killed_backup_left_open_is_released_by_up_and_by_the_next_backup() {
    let scene = Scene::new();
    scene.mark(1);
    let note = scene.backups().join(".checkpoint.json");
    for release in [&["up"][..], &["backup", "create"]] {
        // Enough to copy that the kill comes in time: it is a copy of this that is cut off.
        let mut child = start(&scene, &["create"]);
        until("the checkpoint is open", || note.exists() && scene.checkpoint_is_open());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(note.exists() && scene.checkpoint_is_open(), "it was not killed in time");
        scene.done(release);
        assert!(!note.exists() && !scene.checkpoint_is_open(), "{release:?} left it open");
        scene.mark(2);
    }
}

#[test]
fn a_killed_create_leaves_no_half_backup_and_the_servers_unharmed() {
    creates_die(DEATHS);
}

#[test]
fn a_killed_verify_leaves_no_server_and_no_proof() {
    verifies_die(DEATHS);
}

#[test]
fn a_killed_restore_leaves_the_old_data_or_the_new_ones_and_can_be_run_again() {
    restores_die(DEATHS);
}

#[test]
#[ignore = "twenty deaths each take half an hour; part of `make soak`"]
fn twenty_deaths_of_each() {
    creates_die(DEATHS_LONG);
    verifies_die(DEATHS_LONG);
    restores_die(DEATHS_LONG);
}
