//! What is killed, taken, left over or gone, and what `up` and the supervisor make of it.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use tripod_stack::{RunState, ServerName, Servers, down, forget_endings, up};

use crate::scene::{Scene, command_line, eventually, is_root, kill_9, processes_with, questdb_jar};

#[test]
fn what_is_killed_comes_back_also_under_a_new_supervisor() {
    let scene = Scene::new();
    let first = scene.up();
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XADD stream 1-1 field value"), "$3 1-1");
    for server in Servers::ALL.iter() {
        let before = scene.pid(server).unwrap();
        kill_9(before);
        eventually("it was started again", || scene.pid(server).is_some_and(|pid| pid != before));
    }
    scene.await_all_running();
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XLEN stream"), ":1");

    kill_9(first.supervisor_pid);
    eventually("the supervisor is gone", || command_line(first.supervisor_pid).is_empty());
    let pids = scene.pids();
    let states = scene.check();
    assert!(states.iter().all(|server| server.state == RunState::Running), "the servers stay: {states:?}");
    assert!(states.iter().all(|server| server.detail.contains("no supervisor")), "{states:?}");

    let second = scene.up();
    assert_eq!(second.started, [], "they were adopted, not started again");
    assert!(second.supervisor_started);
    assert!(second.notes.iter().any(|note| note.contains("supervisor")), "{:?}", second.notes);
    assert_ne!(second.supervisor_pid, first.supervisor_pid);
    assert_eq!(scene.pids(), pids);
    for server in Servers::ALL.iter() {
        let before = scene.pid(server).unwrap();
        kill_9(before);
        eventually("an adopted one is started again too", || scene.pid(server).is_some_and(|pid| pid != before));
    }
    scene.await_all_running();
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XLEN stream"), ":1");
}

#[test]
fn what_was_ended_on_purpose_is_started_at_once_however_often() {
    let scene = Scene::new();
    let mut options = scene.options();
    options.servers = Servers::only(ServerName::RedisPrices);
    up(&options).unwrap();
    let kill = || {
        let before = scene.pid(ServerName::RedisPrices).unwrap();
        kill_9(before);
        let another = || scene.pid(ServerName::RedisPrices).is_some_and(|pid| pid != before);
        eventually("it was started again", another);
    };
    for _ in 0..4 {
        forget_endings(scene.data()).unwrap();
        kill();
    }
    // The last one that was forgiven counts from then on.
    kill();
    let log = std::fs::read_to_string(scene.data().join("stack/logs/supervisor.log")).unwrap();
    let pauses: Vec<_> = log.lines().filter_map(|line| line.split_once("starting it again in ")).collect();
    let pauses: Vec<_> = pauses.into_iter().map(|(_, pause)| pause).collect();
    assert_eq!(pauses, ["0ns", "0ns", "0ns", "0ns", "250ms"]);
    scene.await_all_running();
}

/// As after a power failure: everything is gone at once, lock and pid files are there, and one of them names a process
/// that lives and belongs to PostgreSQL's account.
#[test]
fn after_everything_was_killed_up_starts_everything() {
    let scene = Scene::new();
    let first = scene.up();
    scene.psql("tripod_admin", "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    let mark = scene.mark();
    kill_9(first.supervisor_pid);
    eventually("nothing runs", || {
        let left = processes_with(&mark);
        for pid in &left {
            // One ends with another.
            let _ = rustix_kill(*pid);
        }
        left.is_empty()
    });
    assert!(scene.check().iter().all(|server| server.state == RunState::Dead), "{:?}", scene.check());

    let data = scene.data().join("stack/postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(&data).unwrap();
    let mut other = Command::new("sleep");
    other.arg("600").stdin(Stdio::null());
    if is_root() {
        let owner = std::fs::metadata(&data).unwrap();
        other.uid(std::os::unix::fs::MetadataExt::uid(&owner)).gid(std::os::unix::fs::MetadataExt::gid(&owner));
    }
    let mut other = other.spawn().unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&data, format!("{}\n{rest}", other.id())).unwrap();

    let second = scene.up();
    assert_eq!(second.started.len(), 4);
    assert_eq!(scene.psql("tripod_admin", "SELECT n FROM kept").unwrap(), "7");
    assert!(other.try_wait().unwrap().is_none(), "the process that took the id was left alone");
    other.kill().unwrap();
    other.wait().unwrap();
}

fn rustix_kill(pid: u32) -> rustix::io::Result<()> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
}

#[test]
fn an_up_that_was_killed_at_any_step_is_no_harm() {
    let scene = Scene::new();
    let stack = scene.data().join("stack");
    let cluster = |name: &str| {
        let places = std::fs::read_dir(stack.join("postgres")).into_iter().flatten().flatten();
        places.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|found| found.ends_with(name))
    };
    type Step<'a> = (&'a str, Box<dyn Fn() -> bool + 'a>);
    let steps: [Step<'_>; 6] = [
        ("the lock", Box::new(|| stack.join("lock").exists())),
        ("the state", Box::new(|| stack.join("state.json").exists())),
        ("initdb", Box::new(|| cluster("-initdb"))),
        ("the cluster", Box::new(|| cluster("data"))),
        ("the config", Box::new(|| scene.data().join("tripod.toml").exists())),
        ("the supervisor", Box::new(|| stack.join("control").exists())),
    ];
    for (what, reached) in &steps {
        let mut one = scene.process("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually(what, || reached() || one.try_wait().unwrap().is_some());
        one.kill().unwrap();
        one.wait().unwrap();
    }
    scene.up();
    scene.await_all_running();
    let mark = scene.mark();
    down(scene.data(), true).unwrap();
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert!(!stack.exists());

    // And without an `up` in between: what is half made is wiped.
    for (what, reached) in &steps {
        let mut one = scene.process("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually(what, || reached() || one.try_wait().unwrap().is_some());
        one.kill().unwrap();
        one.wait().unwrap();
        let mark = std::fs::read_to_string(stack.join("state.json")).is_ok().then(|| scene.mark());
        down(scene.data(), true).unwrap();
        assert!(!stack.exists(), "killed at {what}");
        if let Some(mark) = mark {
            assert_eq!(processes_with(&mark), Vec::<u32>::new(), "killed at {what}");
        }
    }
}

#[test]
fn a_port_that_was_taken_is_replaced_and_said() {
    let scene = Scene::new();
    scene.up();
    down(scene.data(), false).unwrap();
    let (old, postgres) = (scene.configured("redis.prices", "addresses"), scene.configured("postgres", "hosts"));
    let config = scene.data().join("tripod.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("bot = \"mine\" # keep\n{text}")).unwrap();

    let taken = TcpListener::bind(&old).unwrap();
    let report = scene.up();
    let new = scene.configured("redis.prices", "addresses");
    assert_ne!(new, old);
    assert_eq!(scene.configured("postgres", "hosts"), postgres, "the others are kept");
    let port = old.rsplit(':').next().unwrap();
    assert!(report.notes.iter().any(|note| note.contains(port) && note.contains("redis-prices")), "{:?}", report.notes);
    assert!(std::fs::read_to_string(&config).unwrap().starts_with("bot = \"mine\" # keep\n"));
    assert_eq!(scene.redis("redis.prices", "tripod_bot", "PING"), "+PONG");
    drop(taken);
}

/// QuestDB says it at the top of a long list of calls.
#[test]
fn a_port_that_is_taken_between_choice_and_start_is_replaced() {
    let scene = Scene::new();
    let conf = scene.data().join("stack/questdb/conf/server.conf");
    let mut options = scene.options();
    options.servers = Servers::only(ServerName::QuestDb);
    let (report, taken) = std::thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let mut taken = None;
            eventually("the port was taken", || {
                let text = std::fs::read_to_string(&conf).unwrap_or_default();
                let address = text.lines().filter_map(|line| line.strip_prefix("http.net.bind.to=")).next_back();
                taken = address.and_then(|address| TcpListener::bind(address).ok());
                taken.is_some()
            });
            taken.unwrap()
        });
        (tripod_stack::up(&options).unwrap(), thief.join().unwrap())
    });
    let address = taken.local_addr().unwrap();
    assert_ne!(scene.configured("questdb", "http"), address.to_string());
    let said = |note: &String| note.contains(&address.port().to_string()) && note.contains("while it started");
    assert!(report.notes.iter().any(said), "{:?}", report.notes);
    assert_eq!(scene.questdb("select 1").0, 200);
}

/// Nobody could find the servers any more: they end with their directory.
#[test]
fn a_data_directory_that_is_deleted_takes_its_servers_with_it() {
    let scene = Scene::new();
    let report = scene.up();
    let mark = scene.mark();
    // While servers write, a directory may get a new file just before it is to go.
    eventually("it is deleted", || {
        let _ = std::fs::remove_dir_all(scene.data());
        !scene.data().exists()
    });
    eventually("the servers end", || processes_with(&mark).is_empty());
    eventually("the supervisor ends", || command_line(report.supervisor_pid).is_empty());
}

#[test]
fn a_moved_data_directory_is_taken_as_it_is() {
    let scene = Scene::below("one/data");
    scene.up();
    scene.psql("tripod_admin", "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    down(scene.data(), false).unwrap();
    let there = scene.root().join("two");
    std::fs::rename(scene.root().join("one"), &there).unwrap();
    std::fs::create_dir_all(scene.data().parent().unwrap()).unwrap();
    std::fs::rename(there.join("data"), scene.root().join("moved")).unwrap();
    let mut options = scene.options();
    options.data_dir = scene.root().join("moved");
    let report = tripod_stack::up(&options).unwrap();
    assert_eq!(report.servers.len(), 4);
    down(&options.data_dir, false).unwrap();
    std::fs::rename(&options.data_dir, scene.data()).unwrap();
    scene.up();
    assert_eq!(scene.psql("tripod_admin", "SELECT n FROM kept").unwrap(), "7");
}

#[test]
fn a_damaged_class_archive_is_made_anew() {
    let scene = Scene::new();
    let cache = scene.root().join("cache");
    let up = || {
        let mut process = scene.process("up");
        let output = process.env("TRIPOD_CACHE", &cache).env("TRIPOD_QUESTDB_JAR", questdb_jar()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let archive = || {
        let files = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.collect();
        assert!(files.len() <= 1, "nothing but the archive is left in the cache: {files:?}");
        files.pop().map(|path| (std::fs::metadata(&path).unwrap().len(), path))
    };
    up();
    assert_eq!(archive(), None, "it is made at the end of the first run");
    down(scene.data(), false).unwrap();
    let (size, path) = archive().unwrap();
    assert!(size > 10 << 20, "{size}");

    // The beginning of a right one: Java believes it and crashes.
    let whole = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &whole[..1_000_000]).unwrap();
    up();
    scene.await_all_running();
    let log = std::fs::read_to_string(scene.data().join("stack/logs/supervisor.log")).unwrap();
    assert!(log.contains("questdb ended after"), "it was damaged enough: {log}");
    down(scene.data(), false).unwrap();
    assert!(archive().unwrap().0 > 10 << 20, "it was made anew");
}
