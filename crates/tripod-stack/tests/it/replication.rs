//! Events with high availability: which node is the primary, when a dead one comes back, and as what.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use tripod_stack::{RunState, ServerName, Servers, down, events_primary, up};

use crate::scene::{Scene, eventually, kill_9, processes_with};

fn role(scene: &Scene, server: ServerName) -> String {
    scene.check().into_iter().find(|found| found.name == server).and_then(|found| found.role).unwrap_or_default()
}

fn primary(scene: &Scene) -> Option<ServerName> {
    events_primary(scene.data()).unwrap()
}

fn await_primary_other_than(scene: &Scene, old: ServerName) -> ServerName {
    let mut new = None;
    eventually("another node is the primary", || {
        new = primary(scene).filter(|new| *new != old && role(scene, *new).starts_with("primary"));
        new.is_some()
    });
    new.unwrap()
}

/// Of its answer to the bot's user.
fn first_line_of_a_sentinel(scene: &Scene, command: &str) -> String {
    let mut stream = TcpStream::connect(scene.configured("redis.events", "addresses")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let password = scene.configured("redis.events", "sentinel_password");
    stream.write_all(format!("AUTH tripod_bot {password}\r\n{command}\r\n").as_bytes()).unwrap();
    BufReader::new(stream).lines().nth(1).unwrap().unwrap()
}

#[test]
fn a_single_redis_becomes_three_and_a_killed_primary_comes_back_as_a_replica() {
    let scene = Scene::new();
    let mut options = scene.options();
    options.servers = Servers::only(ServerName::RedisEvents);
    up(&options).unwrap();
    assert_eq!(scene.redis("redis.events", "tripod_bot", "XADD events:x 1-1 field value"), "$3 1-1");
    assert_eq!(scene.configured("redis.events", "mode"), "single");

    options.servers = Servers::EVENTS_HA;
    let report = up(&options).unwrap();
    assert_eq!(report.servers.len(), 6);
    assert!(report.servers.iter().all(|server| server.state == RunState::Running), "{:?}", report.servers);
    assert_eq!(scene.configured("redis.events", "mode"), "sentinel");
    assert_eq!(primary(&scene), Some(ServerName::RedisEvents));
    assert_eq!(role(&scene, ServerName::RedisEvents), "primary; 2 replicas");
    assert_eq!(role(&scene, ServerName::RedisEvents3), "replica of redis-events, connected");
    assert_eq!(role(&scene, ServerName::RedisSentinel2), "sentinel; primary: redis-events");
    // A bot may ask a sentinel who is the primary, and change nothing.
    let ask = |command: &str| first_line_of_a_sentinel(&scene, command);
    assert_eq!(ask("SENTINEL GET-MASTER-ADDR-BY-NAME tripod"), "*2");
    assert!(ask("SENTINEL FAILOVER tripod").starts_with("-NOPERM"));
    assert!(ask("SENTINEL SET tripod quorum 1").starts_with("-NOPERM"));
    assert!(ask("SHUTDOWN").starts_with("-"));

    let killed = scene.pid(ServerName::RedisEvents).unwrap();
    kill_9(killed);
    let new = await_primary_other_than(&scene, ServerName::RedisEvents);
    eventually("the killed one follows the new one", || {
        role(&scene, ServerName::RedisEvents) == format!("replica of {new}, connected")
    });
    let log = std::fs::read_to_string(scene.data().join("stack/logs/supervisor.log")).unwrap();
    assert!(log.contains(&format!("redis-events starts as a replica of {new}")), "{log}");
    let starts = log.matches("redis-events starts as").count();
    assert_eq!(starts, 2, "once at the start, once after the failover: {log}");

    // A killed replica and a killed sentinel are just started again.
    for other in [ServerName::RedisEvents, ServerName::RedisSentinel1] {
        let before = scene.pid(other).unwrap();
        kill_9(before);
        eventually("it was started again", || scene.pid(other).is_some_and(|pid| pid != before));
    }
    scene.await_all_running();
    assert_eq!(primary(&scene), Some(new));
    // What Redis has rewritten itself holds passwords.
    for server in ServerName::EVENTS.iter().chain(&ServerName::SENTINELS) {
        let conf = scene.data().join(format!("stack/{server}/redis.conf"));
        assert_eq!(std::fs::metadata(&conf).unwrap().permissions().mode() & 0o7777, 0o600, "{}", conf.display());
    }

    // After everything was down the last primary is the primary, and what it had is there.
    let mark = scene.mark();
    down(scene.data(), false).unwrap();
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    options.servers = Servers::NONE;
    let report = up(&options).unwrap();
    assert_eq!(report.servers.len(), 6, "an earlier `up` said so");
    assert_eq!(primary(&scene), Some(new));
    assert_eq!(role(&scene, new), "primary; 2 replicas");

    // Everything is killed at once, as when power fails.
    for pid in processes_with(&mark) {
        kill_9(pid);
    }
    up(&options).unwrap();
    assert_eq!(primary(&scene), Some(new));
    let report = down(scene.data(), true).unwrap();
    assert_eq!(report.stopped.len(), 6);
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
    assert!(!scene.data().exists());
}
