//! Prometheus and Alertmanager at work on a stack, with the files that an operator gets, on ports of their own.
//!
//! What is changed in those files: addresses, and intervals where a test says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tripod_stack::TestStack;

use crate::command::tripod_bound;
use crate::files::text;
use crate::http::{Server, get, get_json};
use crate::programs::{LONG, Program, bound, free, tool, until};

/// What an Alertmanager has sent.
pub(crate) struct Messages {
    server: Server,
    all: Arc<Mutex<Vec<Value>>>,
}

impl Messages {
    pub(crate) fn listen() -> Self {
        let all = Arc::<Mutex<Vec<Value>>>::default();
        let put = Arc::clone(&all);
        let server = Server::start(move |_, body| {
            put.lock().unwrap().extend(serde_json::from_str::<Value>(body));
            String::new()
        });
        Self { server, all }
    }

    /// The first message that is one.
    pub(crate) fn find(&self, is_one: impl Fn(&Value) -> bool) -> Option<Value> {
        self.all.lock().unwrap().iter().find(|message| is_one(message)).cloned()
    }

    /// Names of the alerts in all of them.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = self.all.lock().unwrap();
        let names = all.iter().map(|message| message["groupLabels"]["alertname"].as_str().unwrap_or("?").to_owned());
        names.collect()
    }
}

/// A running Alertmanager with the routes of `ops/alertmanager.yml`; everything it has to say goes to one place.
pub(crate) struct Alertmanager {
    address: SocketAddr,
    _program: Program,
}

impl Alertmanager {
    /// On the file of `ops/`.
    pub(crate) fn start(dir: &Path, messages: &Messages) -> Self {
        Self::start_on(&text("ops/alertmanager.yml"), dir, messages)
    }

    pub(crate) fn start_on(config: &str, dir: &Path, messages: &Messages) -> Self {
        let [address] = free();
        let mut config: Value = serde_saphyr::from_str(config).unwrap();
        for receiver in config["receivers"].as_array_mut().unwrap() {
            let url = format!("http://{}/{}", messages.server.address, receiver["name"].as_str().unwrap());
            *receiver = serde_json::json!({
                "name": receiver["name"], "webhook_configs": [{"url": url, "send_resolved": true}]
            });
        }
        shorten_waits(&mut config["route"]);
        // JSON is YAML.
        let file = dir.join("alertmanager-test.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        tool("amtool", &["check-config", file.to_str().unwrap()]);
        let mut command = bound("prometheus-alertmanager");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
        let mut program = Program::start("alertmanager", dir, command);
        until(LONG, "Alertmanager is ready", || {
            program.assert_runs();
            get(&format!("http://{address}/-/ready"))
        });
        Self { address, _program: program }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A second instead of ten of them, and of a quarter of an hour.
fn shorten_waits(route: &mut Value) {
    for wait in ["group_wait", "group_interval"] {
        if route.get(wait).is_some() {
            route[wait] = "1s".into();
        }
    }
    for child in route.get_mut("routes").and_then(Value::as_array_mut).into_iter().flatten() {
        shorten_waits(child);
    }
}

/// Labels of a series, and its value.
pub(crate) type Series = (BTreeMap<String, String>, String);

/// What a minute of `for:` is with [`Time::Short`].
const SECONDS_A_MINUTE: u32 = 5;

/// How time goes in the rules under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// As in the files.
    AsItIs,
    /// A minute of `for:` is five seconds; everything is asked each second.
    Short,
}

/// One of them at a time: each has a stack, and five programs more.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Holds the turn of a test that starts a stack and everything that watches it.
pub(crate) fn my_turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that watches one stack.
pub(crate) struct Watch {
    pub(crate) messages: Messages,
    pub(crate) started: Instant,
    dir: PathBuf,
    monitor: SocketAddr,
    prometheus: SocketAddr,
    alertmanager: Alertmanager,
    programs: Vec<Program>,
}

impl Watch {
    /// Starts the monitor, the exporters, Alertmanager and Prometheus, with what `tripod config prometheus` writes; waits
    /// until each of them has been asked once.
    pub(crate) fn start(stack: &TestStack, dir: &Path, bot: SocketAddr, time: Time) -> Self {
        let [monitor, redis, postgres, prometheus] = free();
        let listen = ("TRIPOD__MONITOR__LISTEN", monitor.to_string());
        let mut make = tripod_bound(stack.data_dir());
        make.env(listen.0, &listen.1).args(["config", "prometheus", "--bot", &bot.to_string(), "--json"]).arg(dir);
        let made = make.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        assert_no_secret_in(stack, &String::from_utf8(made.stdout).unwrap());

        let mut command = tripod_bound(stack.data_dir());
        command.env(listen.0, &listen.1).arg("monitor");
        let mut programs = vec![Program::start("monitor", dir, command)];
        for (name, file, address) in [
            ("prometheus-redis-exporter", "redis.env", redis),
            ("prometheus-postgres-exporter", "postgres-0.env", postgres),
        ] {
            let mut command = bound(name);
            command.env_clear().envs(environment(&dir.join("secrets").join(file)));
            // The port of this test's own: the usual one may be taken.
            for variable in ["REDIS_EXPORTER_WEB_LISTEN_ADDRESS", "PG_EXPORTER_WEB_LISTEN_ADDRESS"] {
                command.env(variable, address.to_string());
            }
            programs.push(Program::start(name, dir, command));
        }

        let messages = Messages::listen();
        let routes = std::fs::read_to_string(dir.join("alertmanager.yml")).unwrap();
        let alertmanager = Alertmanager::start_on(&routes, dir, &messages);
        let replacements = [
            ("127.0.0.1:9093", alertmanager.address.to_string()),
            ("127.0.0.1:9121", redis.to_string()),
            ("127.0.0.1:9187", postgres.to_string()),
        ];
        change(&dir.join("prometheus.yml"), |text| {
            let text = replacements.iter().fold(text, |text, (from, to)| text.replace(from, to));
            // A scrape each second, so that a test sees two of them soon.
            if time == Time::Short {
                text.replace("_interval: 15s", "_interval: 1s").replace("10s", "1s")
            } else {
                text
            }
        });
        if time == Time::Short {
            change(&dir.join("alerts.yml"), |text| text.lines().map(shortened).collect::<Vec<_>>().join("\n"));
        }
        tool("promtool", &["check", "config", dir.join("prometheus.yml").to_str().unwrap()]);
        let mut command = bound("prometheus");
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
        command.arg(format!("--web.listen-address={prometheus}"));
        programs.push(Program::start("prometheus", dir, command));
        let mut watch = Self {
            messages,
            started: Instant::now(),
            dir: dir.to_owned(),
            monitor,
            prometheus,
            alertmanager,
            programs,
        };
        until(LONG, "Prometheus is ready", || {
            watch.assert_runs();
            get(&watch.url("/-/ready"))
        });
        until(LONG, "everything was asked", || watch.all_up());
        watch
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.prometheus)
    }

    /// What the monitor itself answers.
    pub(crate) fn monitor(&self, path: &str) -> Result<String, String> {
        get(&format!("http://{}{path}", self.monitor))
    }

    /// What the monitor has logged.
    pub(crate) fn monitor_said(&self) -> String {
        std::fs::read_to_string(self.dir.join("monitor.log")).unwrap_or_default()
    }

    fn assert_runs(&mut self) {
        self.programs.iter_mut().for_each(Program::assert_runs);
    }

    fn all_up(&self) -> Result<(), String> {
        let targets = get_json(&self.url("/api/v1/targets?state=active"))?;
        let targets = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let bad = targets.iter().find(|target| target["health"] != "up");
        match bad {
            None if targets.len() >= 6 => Ok(()),
            None => Err(format!("{} targets", targets.len())),
            Some(bad) => Err(format!("{}: {} {}", bad["scrapeUrl"], bad["health"], bad["lastError"])),
        }
    }

    /// What an expression gives now: the labels of each series, and its value.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Series>, String> {
        let url = format!("{}?query={}", self.url("/api/v1/query"), encoded(expression));
        let answer = get_json(&url).map_err(|error| format!("{expression}: {error}"))?;
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let one = |one: &Value| {
            let labels = serde_json::from_value(one["metric"].clone()).unwrap_or_default();
            (labels, one["value"][1].as_str().unwrap_or_default().to_owned())
        };
        Ok(result.iter().map(one).collect())
    }

    /// Alerts that are pending or firing, by name and with their state.
    pub(crate) fn alerts(&self) -> Result<Vec<String>, String> {
        let shown = |(labels, _): &Series| {
            let mut rest = labels.clone();
            let mut take = |name: &str| rest.remove(name).unwrap_or_default();
            let (name, state) = (take("alertname"), take("alertstate"));
            drop((take("__name__"), take("severity"), take("instance"), take("job")));
            format!("{name} {state} {rest:?}")
        };
        Ok(self.query("ALERTS")?.iter().map(shown).collect())
    }

    /// Names of the alerts that Alertmanager holds back because of a worse one.
    pub(crate) fn silenced(&self) -> Result<Vec<String>, String> {
        let all = get_json(&self.alertmanager.url("/api/v2/alerts?inhibited=true&active=false"))?;
        let all = all.as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|one| one["labels"]["alertname"].as_str().map(str::to_owned)).collect())
    }

    /// The lines of Prometheus' own log that complain about a rule.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.dir.join("prometheus.log")).unwrap_or_default();
        let bad = |line: &&str| line.contains("level=error") || line.contains("Evaluating rule failed");
        log.lines().filter(bad).map(str::to_owned).collect()
    }

    /// Since the start, in words.
    pub(crate) fn at(&self) -> String {
        format!("{:6.1} s", self.started.elapsed().as_secs_f64())
    }
}

fn change(file: &Path, edit: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    let edited = edit(text.clone());
    assert_ne!(edited, text, "{} is not as it was", file.display());
    std::fs::write(file, edited).unwrap();
}

/// `for: 2m` becomes `for: 10s`. Not less: what follows from a server's end must not be faster than the server's own alert.
fn shortened(line: &str) -> String {
    let minutes = |time: &str| match time.split_at(time.len() - 1) {
        (count, "m") => count.parse::<u32>().ok(),
        (count, "h") => count.parse::<u32>().ok().map(|hours| hours * 60),
        _ => None,
    };
    match line.split_once("for: ").and_then(|(indent, time)| Some((indent, minutes(time)?))) {
        Some((indent, minutes)) => format!("{indent}for: {}s", minutes * SECONDS_A_MINUTE),
        None => line.to_owned(),
    }
}

/// What a shell would take from the file.
fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap();
    let line =
        |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()));
    text.lines().filter_map(line).collect()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn assert_no_secret_in(stack: &TestStack, said: &str) {
    let config = std::fs::read_to_string(stack.config_path()).unwrap();
    for secret in config.lines().filter_map(|line| line.split_once("password = \"")?.1.split('"').next()) {
        assert!(!said.contains(secret), "a password was printed");
    }
}

/// How long a look takes at most, for those who poll.
pub(crate) const LOOK: Duration = Duration::from_secs(60);
