//! The state file is gone or damaged while the servers run: nothing is deleted under them, nothing is left running.

use tripod_stack::{Error, RunState, ServerName, Servers, down, up};

use crate::scene::{Scene, command_line, eventually, processes_with};

fn damage(scene: &Scene, text: Option<&str>) {
    let state = scene.data().join("stack/state.json");
    match text {
        Some(text) => std::fs::write(state, text).unwrap(),
        None => std::fs::remove_file(state).unwrap(),
    }
}

#[test]
fn without_its_state_up_ends_the_old_servers_and_takes_their_data_over() {
    let scene = Scene::new();
    let first = scene.up();
    let mark = scene.mark();
    let pids = processes_with(&mark);
    scene.psql("tripod_admin", "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XADD stream 1-1 field value"), "$3 1-1");
    assert_eq!(scene.questdb("create table kept (n long)").0, 200);
    assert_eq!(scene.questdb("insert into kept values (7)").0, 200);
    let password = scene.configured("postgres", "password");

    damage(&scene, None);
    let second = scene.up();
    assert_eq!(second.started.len(), 4);
    assert_ne!(second.supervisor_pid, first.supervisor_pid);
    assert_eq!(command_line(first.supervisor_pid), "");
    assert!(pids.iter().all(|pid| command_line(*pid).is_empty()), "the old servers have ended");
    assert_ne!(scene.configured("postgres", "password"), password);
    assert_eq!(scene.psql("tripod_admin", "SELECT n FROM kept").unwrap(), "7");
    assert_eq!(scene.psql("tripod_bot", "SELECT 1").unwrap(), "1");
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XLEN stream"), ":1");
    assert!(scene.questdb("select n from kept").1.contains("[[7]]"));

    let mark = scene.mark();
    down(scene.data(), true).unwrap();
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert!(!scene.data().exists(), "that `up` made it was not forgotten");
}

#[test]
fn a_wipe_without_the_state_ends_everything_first() {
    // With nothing, with nothing in it, with something else in it.
    for text in [None, Some(""), Some("{\"format\": 1, \"id\"")] {
        let scene = Scene::new();
        let report = scene.up();
        let mark = scene.mark();
        damage(&scene, text);
        if text.is_some() {
            for error in [up(&scene.options()).unwrap_err(), down(scene.data(), false).unwrap_err()] {
                assert!(matches!(error, Error::State { .. }), "{error:?}");
                assert!(error.to_string().contains("state.json"), "{error}");
                assert!(error.hint().unwrap().contains("down --wipe --yes"), "{error}");
            }
            assert!(!processes_with(&mark).is_empty());
        }
        let report = (report.supervisor_pid, down(scene.data(), true).unwrap());
        assert_eq!(report.1.stopped.len(), 4, "{report:?}");
        assert!(report.1.wiped && report.1.killed.is_empty(), "{report:?}");
        assert_eq!(processes_with(&mark), Vec::<u32>::new());
        assert_eq!(command_line(report.0), "");
        assert!(!scene.data().exists());
    }
}

/// Also the lock is gone, and with it the way to the supervisor, who would start again what is ended.
#[test]
fn down_without_state_and_lock_finds_the_supervisor_too() {
    let scene = Scene::new();
    let report = scene.up();
    let mark = scene.mark();
    damage(&scene, None);
    std::fs::remove_file(scene.data().join("stack/supervisor.lock")).unwrap();
    std::fs::write(scene.data().join("stack/supervisor.lock"), "").unwrap();
    down(scene.data(), false).unwrap();
    eventually("the supervisor ends", || command_line(report.supervisor_pid).is_empty());
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert!(scene.data().join("stack/redis-events").exists());
}

/// A copy without its state holds files with the original's id; the original is not touched.
#[test]
fn a_copy_without_its_state_leaves_the_original_alone() {
    let scene = Scene::new();
    let mut options = scene.options();
    options.servers = Servers::only(ServerName::RedisPrices);
    up(&options).unwrap();
    let pids = scene.pids();
    let copy = scene.root().join("copy");
    assert!(std::process::Command::new("cp").arg("-a").arg(scene.data()).arg(&copy).status().unwrap().success());
    std::fs::remove_file(copy.join("stack/state.json")).unwrap();
    let report = down(&copy, true).unwrap();
    assert!(report.wiped && report.stopped.is_empty(), "{report:?}");
    assert_eq!(scene.pids(), pids);
    assert!(scene.check().iter().all(|server| server.state == RunState::Running), "{:?}", scene.check());
}
