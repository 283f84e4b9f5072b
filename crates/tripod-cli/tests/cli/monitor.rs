//! `tripod monitor` as a browser, Prometheus and an operator meet it, on servers that are killed, frozen and started again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run, sample, tripod};
use crate::servers::ask;

const TRADES: &str = "trades/binance_spot_trades_20250325.csv.gz";
const TOKEN: &str = "a-token-of-twenty-two";
/// Generous: the machine may be busy.
const LONG: Duration = Duration::from_secs(90);

/// A running monitor; killed when a test fails.
pub(crate) struct Monitor {
    child: Child,
    address: String,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Monitor {
    pub(crate) fn start(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = tripod();
        command.envs(variables.iter().copied()).arg("--data").arg(data).args(["--json", "-q", "monitor"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let address = listening["address"].as_str().unwrap().replace("0.0.0.0", "127.0.0.1");
        Self { child, address }
    }

    /// On a port that nobody has.
    fn of(stack: &TestStack) -> Self {
        Self::start(stack.data_dir(), &["--listen", "127.0.0.1:0"], &[])
    }

    /// The connection of a request; HTTP/1.0 has bodies as they are.
    fn request(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut text = format!("{method} {target} HTTP/1.0\r\n");
        if headers.iter().all(|(name, _)| *name != "host") {
            text += &format!("host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all((text + "\r\n").as_bytes()).unwrap();
        stream
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        let mut text = String::new();
        self.request(method, target, headers).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {target}: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[])
    }

    pub(crate) fn snapshot(&self) -> Value {
        self.get("/api/snapshot").json()
    }

    /// The value of a series in `/metrics`.
    fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").body;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Follows the events.
    fn events(&self) -> Events {
        Events(BufReader::new(self.request("GET", "/api/events", &[])))
    }

    /// Ends it as an init system does.
    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

struct Events(BufReader<TcpStream>);

impl Events {
    /// The next one: its id and its data; none when the stream has ended.
    fn next(&mut self) -> Option<(u64, Value)> {
        let (mut id, mut line) = (None, String::new());
        loop {
            line.clear();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.trim().parse().ok();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((id.unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
    }
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

fn migrated(servers: Servers) -> TestStack {
    let stack = TestStack::start(servers).unwrap();
    let said = run(stack.data_dir(), &["--data", ".", "migrate", "-q"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    stack
}

/// A bot's work in a process of its own.
fn replay(stack: &TestStack, arguments: &[&str]) -> Child {
    let mut command = tripod();
    command.arg("--data").arg(stack.data_dir()).args(["replay", "--json"]).arg(sample(TRADES)).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

pub(crate) fn server<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let servers = snapshot["servers"].as_array().unwrap();
    servers.iter().find(|server| server["name"] == name).unwrap_or_else(|| panic!("no {name} in {snapshot}"))
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

fn has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(fields(value).contains(name), "`{name}` is missing in {value}");
    }
}

/// The contract with the page.
fn is_whole(snapshot: &Value) {
    has(
        snapshot,
        &[
            "seq",
            "at",
            "ok",
            "version",
            "servers",
            "ledger",
            "sinks",
            "rates",
            "visible_ms",
            "prices",
            "streams",
            "tokens",
            "health",
            "backup",
            "drills",
            "journal",
            "alerts",
        ],
    );
    let server = ["name", "kind", "state", "version", "address", "detail", "since", "replicas"];
    has(&snapshot["servers"][0], &server);
    has(
        &snapshot["ledger"][0],
        &[
            "bot",
            "table",
            "sink",
            "recorded",
            "pending",
            "delivered",
            "visible",
            "quarantined",
            "missed",
            "dropped",
            "adds_up",
        ],
    );
    has(&snapshot["sinks"][0], &["name", "state", "detail", "backlog_rows", "backlog_bytes", "oldest_pending_ms"]);
    has(&snapshot["rates"], &["recorded_per_s", "visible_per_s"]);
    has(&snapshot["visible_ms"], &["p50", "p99"]);
    has(&snapshot["prices"], &["tokens", "fresh", "stale", "list"]);
    has(&snapshot["prices"]["list"][0], &["token", "value", "slot", "age_ms", "fresh"]);
    has(&snapshot["streams"][0], &["topic", "length", "cap", "groups"]);
    has(&snapshot["streams"][0]["groups"][0], &["name", "lag", "pending", "trimmed_unread", "trimmed_pending"]);
    has(&snapshot["tokens"], &["total", "tradable", "costly", "refused", "recent_changes"]);
    has(&snapshot["health"][0], &["component", "status", "at", "age_ms", "detail"]);
    has(&snapshot["backup"], &["last_id", "last_at", "last_proven_at", "running"]);
    has(&snapshot["journal"][0], &["bot", "class", "used_bytes", "budget_bytes", "oldest"]);
}

#[test]
fn every_route_says_what_the_servers_say() {
    let stack = migrated(Servers::ALL);
    let said: Said = replay(&stack, &["--rows", "3000"]).wait_with_output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let monitor = Monitor::of(&stack);

    until("it sends heartbeats", || monitor.snapshot()["health"].to_string().contains("\"monitor\""));
    let snapshot = monitor.snapshot();
    is_whole(&snapshot);
    let states: Vec<_> = snapshot["servers"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, [json!("up"), json!("up"), json!("up"), json!("up")], "{snapshot}");
    let count = ask(stack.data_dir(), "SELECT count() FROM market_trades");
    let trades = snapshot["ledger"].as_array().unwrap().iter().find(|row| row["table"] == "market_trades").unwrap();
    assert_eq!((&trades["visible"], &trades["adds_up"], &trades["bot"]), (&count, &json!(true), &json!("bot")));
    assert_eq!(snapshot["streams"][0]["length"], 3000, "{snapshot}");
    let price = &snapshot["prices"]["list"][0];
    assert!(price["value"].is_string() && price["age_ms"].is_u64(), "{price}");
    assert_eq!(snapshot["tokens"]["total"], 0, "{snapshot}");

    let text = monitor.get("/metrics");
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let visible = monitor.metric("tripod_rows_visible{bot=\"bot\",table=\"market_trades\",sink=\"main\"}");
    assert_eq!(visible.map(|rows| format!("{rows:.0}")), Some(count.to_string()));
    assert_eq!(monitor.metric("tripod_server_up{server=\"postgres\"}"), Some(1.0));
    assert_eq!(monitor.metric("tripod_events_length{topic=\"trades\"}"), Some(3000.0));

    let health = monitor.get("/health");
    assert_eq!((health.status, &health.json()["ok"]), (200, &json!(true)), "{health:?}");

    let mut events = monitor.events();
    let ids: Vec<u64> = (0..3).map(|_| events.next().unwrap().0).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    has(&events.next().unwrap().1, &["seq", "servers", "ledger"]);

    let history = monitor.get("/api/history").json();
    let length = history["at"].as_array().unwrap().len();
    assert!(length >= 4, "{history}");
    assert_eq!(history["step_ms"], 1000);
    let series = history["series"].as_object().unwrap();
    let names = ["recorded_per_s", "visible_per_s", "pending_rows", "visible_p99_ms", "price_oldest_ms", "stream_lag"];
    for list in names.map(|name| &series[name]).into_iter().chain(series["server_up"].as_object().unwrap().values()) {
        assert_eq!(list.as_array().unwrap().len(), length, "{history}");
    }
    assert_eq!(fields(&series["server_up"]), BTreeSet::from(["questdb", "postgres", "redis-prices", "redis-events"]));

    let page = monitor.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{page:?}");
    for policy in ["content-security-policy", "x-content-type-options", "referrer-policy", "x-frame-options"] {
        assert!(page.header(policy).is_some(), "{policy}: {page:?}");
    }

    // A client that never reads hinders nobody, and neither does one that breaks off.
    let deaf = monitor.request("GET", "/api/events", &[]);
    drop(monitor.request("GET", "/api/events", &[]));
    let begin = events.next().unwrap().0;
    until("the others get theirs", || events.next().unwrap().0 >= begin + 3);

    assert_eq!(monitor.end(Signal::TERM), Some(0));
    while events.next().is_some() {}
    drop(deaf);
    let status = run(stack.data_dir(), &["--data", ".", "status", "--json"]).json();
    let component = status["components"].as_array().unwrap().iter().find(|one| one["name"] == "monitor").unwrap();
    assert_eq!(component["status"], "stopped", "{status}");
    assert_eq!(status["ok"], true, "{status}");
}

#[test]
fn a_server_that_is_killed_or_frozen_is_down_in_everything_and_up_again_and_the_rest_goes_on() {
    let stack = migrated(Servers::ALL);
    let monitor = Monitor::of(&stack);
    let state = |name: &str| server(&monitor.snapshot(), name)["state"].clone();
    let up = |name: &str| monitor.metric(&format!("tripod_server_up{{server=\"{name}\"}}"));
    until("all is well", || monitor.get("/health").status == 200);
    for (name, killed) in [("questdb", ServerName::QuestDb), ("redis-events", ServerName::RedisEvents)] {
        stack.kill(killed).unwrap();
        until("it is down", || state(name) == "down");
        let snapshot = monitor.snapshot();
        let away = server(&snapshot, name);
        assert!(away["detail"].as_str().unwrap().contains("not reachable"), "{away}");
        assert!(away["version"].is_null() && away["latency_ms"].is_null(), "it repeats what was: {away}");
        let others = snapshot["servers"].as_array().unwrap().iter().filter(|one| one["name"] != name);
        assert!(others.clone().all(|one| one["state"] == "up"), "{snapshot}");
        assert!(snapshot["alerts"].to_string().contains("server-down"), "{snapshot}");
        assert_eq!((up(name), up("postgres")), (Some(0.0), Some(1.0)));
        assert_eq!(monitor.get("/health").status, 503);
        stack.start_server(killed).unwrap();
        until("it is up again", || state(name) == "up" && up(name) == Some(1.0));
        until("all is well again", || monitor.get("/health").status == 200);
    }
    // Frozen, it takes connections and answers nothing: samples go on all the same.
    stack.freeze(ServerName::Postgres);
    until("it is down", || state("postgres") == "down");
    let seq = monitor.snapshot()["seq"].as_u64().unwrap();
    until("samples go on", || monitor.snapshot()["seq"].as_u64().unwrap() > seq + 2);
    assert_eq!(state("questdb"), "up");
    assert!(
        monitor.snapshot()["health"].as_array().unwrap().is_empty(),
        "what it said before is shown as if it still did"
    );
    assert!(
        monitor.metric("tripod_monitor_collect_failures_total{server=\"postgres\"}").is_some_and(|count| count >= 2.0)
    );
    stack.thaw(ServerName::Postgres);
    until("it is up again", || state("postgres") == "up");
    assert_eq!(monitor.end(Signal::INT), Some(0));
}

#[test]
fn every_metric_of_the_list_is_served_on_a_live_stack() {
    let stack = migrated(Servers { events_ha: true, ..Servers::ALL });
    let _standby = stack.start_standby().unwrap();
    let monitor = Monitor::of(&stack);
    let mut bot = replay(&stack, &["--rate", "100/s"]);
    // Of the process that records alone.
    let own = [
        "tripod_trading_allowed",
        "tripod_journal_full",
        "tripod_journal_undelivered_bytes",
        "tripod_journal_stalls_total",
        "tripod_journal_lanes",
    ];
    let all = tripod::metrics::ALL.iter().chain(tripod::metrics::servers::ALL);
    let mut missing: BTreeSet<&str> = all.map(|metric| metric.name).filter(|name| !own.contains(name)).collect();
    let end = Instant::now() + LONG;
    while !missing.is_empty() {
        let text = monitor.get("/metrics").body;
        let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        missing.retain(|name| !names.contains(name));
        assert!(Instant::now() < end, "not served: {missing:?}\n{text}");
        std::thread::park_timeout(Duration::from_millis(300));
    }
    bot.kill().unwrap();
    bot.wait().unwrap();
    let snapshot = monitor.snapshot();
    let roles = |name: &str| {
        let replicas = server(&snapshot, name)["replicas"].as_array().unwrap().clone();
        replicas.iter().map(|one| one["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles("postgres"), ["standby"], "{snapshot}");
    assert_eq!(roles("redis-events"), ["replica", "replica", "sentinel", "sentinel", "sentinel"], "{snapshot}");
    until("the sentinels know one another", || monitor.metric("tripod_sentinel_quorum_ok") == Some(1.0));
    // Two of three sentinels gone: nobody could agree on a failover.
    for sentinel in [ServerName::RedisSentinel1, ServerName::RedisSentinel2] {
        stack.kill(sentinel).unwrap();
    }
    until("it is said", || monitor.metric("tripod_sentinel_quorum_ok") == Some(0.0));
    let alert = |id: &str| monitor.snapshot()["alerts"].to_string().contains(&format!("\"{id}\""));
    assert!(alert("quorum-lost"), "{}", monitor.snapshot()["alerts"]);
    for sentinel in [ServerName::RedisSentinel1, ServerName::RedisSentinel2] {
        stack.start_server(sentinel).unwrap();
    }
    until("they agree again", || monitor.metric("tripod_sentinel_quorum_ok") == Some(1.0) && !alert("quorum-lost"));
    // Both replicas gone: what is published now is in one place alone.
    let primary = stack.events_primary().unwrap();
    let nodes = [ServerName::RedisEvents, ServerName::RedisEvents2, ServerName::RedisEvents3];
    let replicas: Vec<_> = nodes.into_iter().filter(|node| *node != primary).collect();
    replicas.iter().for_each(|node| stack.kill(*node).unwrap());
    until("it is said that no replica is there", || alert("replica-missing"));
    replicas.iter().for_each(|node| stack.start_server(*node).unwrap());
    until("the replicas are there again", || !alert("replica-missing"));
}

/// Addresses at which nobody is.
fn nowhere(dir: &Path) {
    let text = "[journal]\ndir = \"j\"\n[[questdb]]\nhttp = \"127.0.0.1:1\"\npg = \"127.0.0.1:1\"\n[postgres]\n\
                hosts = [\"127.0.0.1:1\"]\n[redis.prices]\naddresses = [\"127.0.0.1:1\"]\n[redis.events]\naddresses = [\"127.0.0.1:1\"]\n";
    std::fs::write(dir.join("tripod.toml"), text).unwrap();
}

#[test]
fn a_token_is_asked_for_by_everything_and_shown_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    nowhere(dir.path());
    let everywhere = ["--listen", "0.0.0.0:0"];
    let monitor = Monitor::start(dir.path(), &everywhere, &[("TRIPOD__MONITOR__TOKEN", TOKEN)]);
    let paths = ["/", "/assets/page.js", "/metrics", "/health", "/api/snapshot", "/api/history", "/api/events", "/no"];
    for path in paths {
        for headers in [&[][..], &[("authorization", "Bearer wrong")], &[("cookie", "tripod_monitor=wrong")]] {
            let refused = monitor.ask("GET", path, headers);
            assert_eq!(
                (refused.status, refused.header("www-authenticate")),
                (401, Some("Bearer")),
                "{path}: {refused:?}"
            );
            assert!(!refused.body.contains("questdb"), "{refused:?}");
        }
    }
    let bearer = format!("Bearer {TOKEN}");
    let snapshot = monitor.ask("GET", "/api/snapshot", &[("authorization", &bearer), ("host", "monitor.example")]);
    assert_eq!(snapshot.status, 200);
    let states: Vec<_> =
        snapshot.json()["servers"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states, vec![json!("down"); 4], "nothing answers, and that is what it says");
    assert_eq!(monitor.ask("GET", "/health", &[("authorization", &bearer)]).status, 503);
    assert_eq!(monitor.ask("POST", "/health", &[("authorization", &bearer)]).status, 405);
    assert_eq!(monitor.get(&format!("/metrics?token={TOKEN}")).status, 401, "only the page takes it from its address");
    let welcome = monitor.get(&format!("/?token={TOKEN}"));
    assert_eq!((welcome.status, welcome.header("location")), (303, Some("/")), "{welcome:?}");
    let cookie = welcome.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    for path in ["/", "/api/history"] {
        assert_eq!(monitor.ask("GET", path, &[("cookie", pair)]).status, 200, "{path}");
    }
    // Not in its arguments, and neither in the config that is shown.
    let arguments = std::fs::read(format!("/proc/{}/cmdline", monitor.child.id())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(TOKEN));
    let mut show = tripod();
    show.env("TRIPOD__MONITOR__TOKEN", TOKEN).arg("--data").arg(dir.path()).args(["config", "show"]);
    let shown: Said = show.output().unwrap().into();
    assert!(shown.code == Some(0) && !shown.out.contains(TOKEN), "{shown:?}");

    let refused = run(dir.path(), &["--data", ".", "monitor", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.err.contains("no token") && refused.err.contains("\nhint: "), "{refused:?}");
    std::fs::write(dir.path().join("short"), "short\n").unwrap();
    let mut short = tripod();
    short.env("TRIPOD__MONITOR__TOKEN_FILE", "short").arg("--data").arg(dir.path()).arg("monitor");
    let short: Said = short.output().unwrap().into();
    assert!(short.code == Some(2) && short.err.contains("monitor.token"), "{short:?}");
}

#[test]
fn without_a_token_it_answers_to_this_machine_alone_and_to_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    nowhere(dir.path());
    let monitor = Monitor::start(dir.path(), &["--listen", "127.0.0.1:0"], &[]);
    for host in ["evil.example", "evil.example:80", "10.0.0.1", "localhost.evil.example"] {
        let refused = monitor.ask("GET", "/api/snapshot", &[("host", host)]);
        assert_eq!(refused.status, 421, "{host}: {refused:?}");
        assert!(!refused.body.contains("questdb"), "{refused:?}");
    }
    for host in ["localhost", "localhost:9600", "127.0.0.1:1", "[::1]:80"] {
        assert_eq!(monitor.ask("GET", "/api/snapshot", &[("host", host)]).status, 200, "{host}");
    }
    for path in
        ["/no", "/api", "/api/", "/api/snapshot/", "/assets/../Cargo.toml", "/..%2f..%2fetc/passwd", "//etc/passwd"]
    {
        assert_eq!(monitor.get(path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let refused = monitor.ask(method, "/api/snapshot", &[]);
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    assert_eq!(monitor.ask("HEAD", "/api/snapshot", &[]).body, "");
    // What is no HTTP, and a head without an end, leave the others alone.
    let mut garbage = TcpStream::connect(&monitor.address).unwrap();
    garbage.write_all(b"\x16\x03\x01\x00\xff\x00nonsense\r\n\r\n").unwrap();
    let mut endless = TcpStream::connect(&monitor.address).unwrap();
    endless.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ").unwrap();
    assert_eq!(monitor.get("/api/snapshot").status, 200);

    let port = monitor.address.clone();
    let second = run(dir.path(), &["--data", ".", "monitor", "--listen", &port]);
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.err.contains("is taken, perhaps by another `tripod monitor`"), "{second:?}");
    // On another port it shows the same, and leaves the schedule to the first.
    let beside = Monitor::start(dir.path(), &["--listen", "127.0.0.1:0"], &[]);
    let next = |monitor: &Monitor| monitor.snapshot()["jobs"][1]["next_at"].clone();
    until("the first plans", || next(&monitor).is_string());
    assert!(next(&beside).is_null(), "{}", beside.snapshot()["jobs"]);
    assert_eq!(monitor.end(Signal::TERM), Some(0));
}

#[test]
fn a_schedule_runs_what_is_due_and_says_how_it_ended() {
    let stack = migrated(Servers::ALL);
    // It ran last long ago, so its time of yesterday was missed.
    let archive = stack.data_dir().join("archive");
    std::fs::create_dir_all(&archive).unwrap();
    std::fs::write(archive.join("retention.json"), r#"{"last_run_at": "2026-01-01T00:00:00Z"}"#).unwrap();
    let monitor = Monitor::of(&stack);
    let job = || monitor.snapshot()["jobs"][1].clone();
    until("it has run", || job()["ok"].is_boolean());
    let ended = job();
    assert_eq!((&ended["name"], &ended["ok"], &ended["detail"]), (&json!("retention"), &json!(true), &json!("")));
    until("its time is seen", || !job()["last_at"].as_str().unwrap().starts_with("2026-01-01"));
    assert!(monitor.metric("tripod_retention_last_seconds").is_some_and(|at| at > 1_767_300_000.0));
    until("it has a next time", || job()["next_at"].is_string() && job()["running"] == false);
    let state = std::fs::read_to_string(archive.join("retention.json")).unwrap();
    assert!(!state.contains("2026-01-01T00:00:00Z"), "the run wrote nothing: {state}");
}
