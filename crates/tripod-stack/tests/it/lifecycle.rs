//! From nothing to running, to stopped, to nothing.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use tripod_stack::{RunState, ServerName, down, up};

use crate::scene::{Scene, command_line, eventually, is_root, processes_with, questdb_jar};

#[test]
fn up_again_changes_nothing_down_ends_all_and_data_are_kept() {
    let scene = Scene::new();
    let first = scene.up();
    assert_eq!(first.started.len(), 4, "{first:?}");
    let states = scene.check();
    assert!(states.iter().all(|server| server.state == RunState::Running), "{states:?}");
    assert!(command_line(first.supervisor_pid).contains("helper_process"));
    let mark = scene.mark();

    let (pids, config) = (scene.pids(), std::fs::read_to_string(&first.config).unwrap());
    let second = scene.up();
    assert_eq!(second.started, [], "nothing was started the second time");
    assert_eq!((second.supervisor_pid, scene.pids()), (first.supervisor_pid, pids));
    assert_eq!(std::fs::read_to_string(&second.config).unwrap(), config);

    // Each server's own content, to be found again after a stop.
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XADD stream 1-1 field value"), "$3 1-1");
    assert_eq!(scene.redis("redis.prices", "tripod_bot", "SET price:a 1"), "+OK");
    scene.psql("tripod_admin", "CREATE TABLE kept AS SELECT 7 AS n").unwrap();
    assert_eq!(scene.questdb("create table kept (n long)").0, 200);
    assert_eq!(scene.questdb("insert into kept values (7)").0, 200);

    let report = down(scene.data(), false).unwrap();
    assert_eq!((report.stopped.len(), report.killed.len()), (4, 0), "{report:?}");
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert_eq!(command_line(first.supervisor_pid), "");
    assert!(scene.check().iter().all(|server| server.state == RunState::Stopped));
    assert_eq!(down(scene.data(), false).unwrap().stopped, [], "a second time there is nothing to stop");

    let third = scene.up();
    assert_eq!(third.notes, Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(&third.config).unwrap(), config, "ports and passwords are kept");
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XLEN stream"), ":1");
    assert_eq!(scene.redis("redis.prices", "tripod_bot", "EXISTS price:a"), ":0", "prices are kept nowhere");
    assert_eq!(scene.psql("tripod_admin", "SELECT n FROM kept").unwrap(), "7");
    assert!(scene.questdb("select n from kept").1.contains("[[7]]"));

    let report = down(scene.data(), true).unwrap();
    assert!(report.wiped);
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert!(!scene.data().exists(), "up made the directory, and nothing else is in it");
    assert!(!down(scene.data(), true).unwrap().wiped, "a second time there is nothing to wipe");
}

#[test]
fn the_logins_can_do_what_they_must_and_no_more() {
    let scene = Scene::new();
    scene.up();
    for (command, may) in [
        ("SET key value PX 1000", true),
        ("EVAL \"return redis.call('TIME')[1]\" 0", true),
        ("XADD stream * field value", true),
        ("XGROUP CREATE stream group 0", true),
        ("XAUTOCLAIM stream group me 0 0", true),
        ("PUBLISH channel text", true),
        ("WAIT 0 1", true),
        ("INFO server", true),
        ("ROLE", true),
        ("CONFIG GET maxmemory", false),
        ("FLUSHALL", false),
        ("KEYS *", false),
        ("SCRIPT FLUSH", false),
        ("FUNCTION FLUSH", false),
        ("ACL LIST", false),
        ("SHUTDOWN NOSAVE", false),
        ("REPLICAOF NO ONE", false),
        ("CLIENT KILL TYPE normal", false),
    ] {
        let answer = scene.redis("redis.events", "tripod_bot", command);
        assert_eq!(!answer.starts_with("-NOPERM"), may, "{command}: {answer}");
    }
    let memory = scene.redis("redis.prices", "tripod_admin", "CONFIG GET maxmemory*");
    assert!(memory.contains("67108864") && memory.contains("volatile-ttl"), "{memory}");
    let memory = scene.redis("redis.events", "tripod_admin", "CONFIG GET maxmemory-policy");
    assert!(memory.contains("noeviction"), "{memory}");

    let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
                    ('fsync', 'data_checksums', 'listen_addresses', 'wal_segment_size', 'dynamic_shared_memory_type')";
    assert_eq!(
        scene.psql("tripod_admin", settings).unwrap(),
        "data_checksums=on dynamic_shared_memory_type=mmap fsync=on listen_addresses=127.0.0.1 wal_segment_size=1048576"
    );
    assert_eq!(scene.psql("tripod_bot", "SELECT rolsuper FROM pg_roles WHERE rolname = current_user").unwrap(), "f");
    assert!(scene.psql("tripod_bot", "CREATE TABLE public.mine (n int)").is_err());

    // Tables are made by `migrate` alone.
    let (address, password) = (scene.configured("questdb", "http"), scene.configured("questdb", "password"));
    let write = |login: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.post(format!("http://{login}{address}/write")).send("nope n=1i 1000000000\n").unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    assert_eq!(write("").0, 401);
    let (status, text) = write(&format!("tripod:{password}@"));
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("creating new tables is disabled"), "{text}");
}

#[test]
fn two_stacks_live_side_by_side() {
    // The name of the second has everything that a config file could stumble over.
    let (one, two) = (Scene::new(), Scene::below("it's a \"name\", with = # \\ %p"));
    one.up();
    two.up();
    assert_ne!(one.configured("questdb", "http"), two.configured("questdb", "http"));
    assert_ne!(one.configured("postgres", "password"), two.configured("postgres", "password"));
    let pids = two.pids();
    assert_eq!(down(one.data(), true).unwrap().stopped.len(), 4);
    assert_eq!(two.pids(), pids);
    two.await_all_running();
}

#[test]
fn a_name_beyond_ascii_is_a_name() {
    let scene = Scene::below("uü");
    scene.up();
    scene.await_all_running();
    assert_eq!(scene.questdb("create table kept (n long)").0, 200);
    down(scene.data(), false).unwrap();
    scene.up();
    assert_eq!(scene.questdb("select n from kept").0, 200);
}

#[test]
fn two_at_once_make_one_stack() {
    let scene = Scene::new();
    let reports = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| scene.up()));
        both.map(|one| one.join().unwrap())
    });
    let started: Vec<usize> = reports.iter().map(|report| report.started.len()).collect();
    assert_eq!(started.iter().sum::<usize>(), 4, "{started:?}");
    assert_eq!(reports[0].supervisor_pid, reports[1].supervisor_pid);
    let pids = |index: usize| reports[index].servers.iter().map(|server| server.pid).collect::<Vec<_>>();
    assert_eq!(pids(0), pids(1));
}

#[test]
fn a_wipe_leaves_what_is_not_ours() {
    let scene = Scene::new();
    std::fs::create_dir_all(scene.data().join("journals")).unwrap();
    let (config, theirs) = (scene.data().join("tripod.toml"), scene.root().join("theirs"));
    std::fs::write(&config, "# mine\nbot = \"mine\"\n\n[redis.events]\ndeadline_ms = 7 # mine too\n").unwrap();
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("file"), "theirs").unwrap();

    let mut options = scene.options();
    options.servers = tripod_stack::Servers::only(ServerName::RedisEvents);
    up(&options).unwrap();
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o7777, 0o600);
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("# mine\nbot = \"mine\"") && text.contains("deadline_ms = 7 # mine too"), "{text}");
    assert!(text.contains("admin_password"), "{text}");
    std::os::unix::fs::symlink(&theirs, scene.data().join("stack/redis-events/link")).unwrap();

    down(scene.data(), true).unwrap();
    assert_eq!(std::fs::read_to_string(theirs.join("file")).unwrap(), "theirs");
    let text = std::fs::read_to_string(&config).unwrap();
    assert_eq!(text, "# mine\nbot = \"mine\"\n\n[redis.events]\ndeadline_ms = 7 # mine too\n");
    let mut left: Vec<_> = std::fs::read_dir(scene.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["journals", "tripod.toml"]);
}

/// PostgreSQL's account cannot enter a directory that only root may enter; a socket's path has at most 107 bytes.
#[test]
fn a_private_and_deep_data_directory_works() {
    let scene = Scene::below(&format!("private/{}/data", "deep".repeat(20)));
    let private = scene.root().join("private");
    std::fs::create_dir(&private).unwrap();
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).unwrap();
    let report = scene.up();
    scene.await_all_running();
    let places = scene.state()["places"].clone();
    let outside: Vec<PathBuf> = ["sockets", "postgres"]
        .map(|name| PathBuf::from(places[name].as_str().unwrap()))
        .into_iter()
        .filter(|place| !place.starts_with(scene.data()))
        .collect();
    assert_eq!(outside.len(), if is_root() { 2 } else { 1 }, "{outside:?}");
    assert_eq!(report.notes.len(), outside.len(), "{:?}", report.notes);
    for place in &outside {
        assert!(place.is_dir());
        assert!(report.notes.iter().any(|note| note.contains(place.to_str().unwrap())), "{:?}", report.notes);
    }
    down(scene.data(), true).unwrap();
    assert!(outside.iter().all(|place| !place.exists()));
    assert!(!scene.data().exists());
}

/// As root the whole suite runs as root; this once, everything runs as somebody without rights.
#[test]
fn a_normal_user_needs_no_rights() {
    if !is_root() {
        // Then every other test is this one.
        return;
    }
    let scene = Scene::below("home/data");
    let home = scene.root().join("home");
    let program = scene.root().join("program");
    std::fs::create_dir(&home).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let jar = scene.root().join("questdb.jar");
    std::fs::copy(questdb_jar(), &jar).unwrap();
    std::fs::set_permissions(&jar, std::fs::Permissions::from_mode(0o644)).unwrap();
    let nobody = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody: u32 =
        nobody.lines().find_map(|l| l.strip_prefix("nobody:x:")).unwrap().split(':').next().unwrap().parse().unwrap();
    std::os::unix::fs::chown(&home, Some(nobody), Some(nobody)).unwrap();

    let run = |what: &str| {
        use std::os::unix::process::CommandExt as _;
        let output = std::process::Command::new(&program)
            .args(["helper_process", "--exact", "--nocapture"])
            .arg(scene.data())
            .env("TRIPOD_STACK_TEST_DO", what)
            .env("TRIPOD_QUESTDB_JAR", &jar)
            .env("TRIPOD_CACHE", home.join("cache"))
            .env("HOME", &home)
            .current_dir("/")
            .uid(nobody)
            .gid(nobody)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{what}: {text}");
        text
    };
    run("up");
    let mark = scene.mark();
    let running = processes_with(&mark);
    assert!(running.len() > 4, "{running:?}");
    for pid in &running {
        // A helper process of PostgreSQL may have ended meanwhile.
        let owner = std::fs::metadata(format!("/proc/{pid}")).map_or(nobody, |found| found.uid());
        assert_eq!(owner, nobody, "{}", command_line(*pid));
    }
    let text = run("check");
    assert_eq!(text.matches("\"state\":\"running\"").count(), 4, "{text}");

    // Root works on it: it stays the user's, who can go on with it.
    let theirs = || {
        let found = std::process::Command::new("find").arg(scene.data()).args(["-not", "-user", "nobody"]).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    down(scene.data(), false).unwrap();
    assert_eq!(theirs(), "");
    for made_by_root in [false, true] {
        if made_by_root {
            // Also what root has to make anew.
            std::fs::remove_file(scene.data().join("tripod.toml")).unwrap();
            std::fs::remove_file(scene.data().join("stack/supervisor.lock")).unwrap();
            std::fs::remove_dir_all(scene.data().join("stack/logs")).unwrap();
            std::fs::remove_dir_all(scene.data().join("stack/redis-events")).unwrap();
        }
        let mut options = scene.options();
        options.supervisor.1[1] = program.clone().into();
        let report = up(&options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.started.len(), 4);
        for pid in processes_with(&mark) {
            let owner = std::fs::metadata(format!("/proc/{pid}")).map_or(nobody, |found| found.uid());
            assert_eq!(owner, nobody, "{}", command_line(pid));
        }
        assert_eq!(theirs(), "");
        let text = run("check");
        assert_eq!(text.matches("\"state\":\"running\"").count(), 4, "{text}");
        down(scene.data(), false).unwrap();
    }
    run("up");
    run("wipe");
    eventually("nothing is left", || processes_with(&mark).is_empty() && !scene.data().exists());
}
