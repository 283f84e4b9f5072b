//! `tripod config prometheus DIR`: a directory with which Prometheus, Alertmanager and the exporters watch these servers.
//!
//! Constraints: addresses and logins come from tripod.toml, so that it fits whatever runs. What an operator edits
//! (`alerts.yml`, `alertmanager.yml`) is written once and kept; what follows from tripod.toml is written anew. Passwords
//! stand in files of mode 0600 below `secrets/` and on no command line.
//!
//! ```text
//! DIR/prometheus.yml                   what is asked, made from tripod.toml
//! DIR/alerts.yml, alertmanager.yml     rules, routes: the operator's from then on
//! DIR/alerts.md                        what each alert means; the alerts link here
//! DIR/secrets/monitor, questdb-NAME    the monitor's token, QuestDB's password, for Prometheus
//! DIR/secrets/redis.json, redis.env    the exporter of Redis
//! DIR/secrets/postgres, postgres-N.env the exporter of each PostgreSQL
//! ```
//! Operation: nodes (asked of the primary behind sentinels) → logins on the servers → files → the lines that start it all.

mod logins;
mod nodes;
mod scrape;

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tripod::{Config, Server};

use crate::args::Global;
use crate::exit::{Exit, Stop};
use crate::output::Output;
use nodes::Nodes;

const ALERTS: &str = include_str!("../../../../../ops/prometheus/alerts.yml");
const ALERTMANAGER: &str = include_str!("../../../../../ops/alertmanager.yml");
const RUNBOOKS: &str = include_str!("../../../../../docs/alerts.md");
/// How the rules name the runbooks' file.
const RUNBOOKS_LINK: &str = "runbook_url: docs/alerts.md#";

const PUBLIC: u32 = 0o644;
const PRIVATE: u32 = 0o600;

#[derive(Debug, Args)]
pub(crate) struct Prometheus {
    /// Directory to write into; made where it is missing
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where a bot serves its own metrics; may stand several times
    #[arg(long = "bot", value_name = "HOST:PORT")]
    bots: Vec<String>,
    /// Where docs/alerts.md is read on the web, for the links in alerts [default: DIR/alerts.md]
    #[arg(long, value_name = "URL")]
    runbooks: Option<String>,
    /// Write rules and routes anew, though they may have been changed
    #[arg(long)]
    replace: bool,
    /// Ask no server and make no login: for exporters that have theirs
    #[arg(long)]
    files_only: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    dir: String,
    written: Vec<String>,
    /// They were there.
    kept: Vec<String>,
    /// Servers on which the exporters' login was made.
    logins: Vec<String>,
    notes: Vec<String>,
    /// The lines that start it all.
    start: Vec<String>,
}

pub(super) async fn run(arguments: &Prometheus, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    if let Some(wrong) = arguments.bots.iter().find(|bot| !is_host_port(bot)) {
        return Err(Stop::usage(format!("`{wrong}` is not HOST:PORT"), "--bot 127.0.0.1:9601").into());
    }
    if let Some(socket) = config.postgres.hosts.iter().find(|host| host.starts_with('/')) {
        let what = format!("the exporter is given addresses, and {socket} is a unix socket");
        return Err(Stop::usage(what, "name HOST:PORT in tripod.toml; a local stack listens there, too").into());
    }
    let nodes = if arguments.files_only { Nodes::of_config(&config)? } else { Nodes::of_servers(&config).await? };
    let mut dir = Directory::make(&arguments.dir)?;
    dir.put("prometheus.yml", &scrape::scrape(&config, &arguments.bots, &nodes), PUBLIC)?;
    dir.put("alerts.md", RUNBOOKS, PUBLIC)?;
    let runbooks = arguments.runbooks.clone().unwrap_or_else(|| format!("file://{}/alerts.md", dir.path.display()));
    let rules = ALERTS.replace(RUNBOOKS_LINK, &format!("runbook_url: {}#", runbooks.trim_end_matches('#')));
    dir.put_once("alerts.yml", &rules, arguments.replace)?;
    dir.put_once("alertmanager.yml", ALERTMANAGER, arguments.replace)?;
    for server in config.questdb.iter().filter(|server| !server.metrics.is_empty() && !server.user.is_empty()) {
        dir.put(&scrape::questdb_secret(server), server.password.expose_secret(), PRIVATE)?;
    }
    let token = config.monitor.token.expose_secret();
    if !token.is_empty() {
        dir.put(scrape::MONITOR_SECRET, token, PRIVATE)?;
    }
    let (mut made, mut notes) = (Vec::new(), Vec::new());
    if !arguments.files_only {
        (made, notes) = make_logins(&config, &nodes, &mut dir).await?;
    }
    environments(&config, &nodes, &mut dir)?;
    let start = start_lines(&config, &dir.path, &file_of(global)?);
    let Directory { path, written, kept } = dir;
    let report = Report { dir: path.display().to_string(), written, kept, logins: made, notes, start };
    output.result(&report, || words(&report))?;
    Ok(Exit::Done)
}

async fn make_logins(
    config: &Config,
    nodes: &Nodes,
    dir: &mut Directory,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let [postgres, prices, events] = [logins::password(), logins::password(), logins::password()];
    logins::on_postgres(config, &postgres).await?;
    let redis = &config.redis;
    let mut forgetful = logins::on_redis(&redis.prices, Server::RedisPrices, &nodes.prices, &prices).await?;
    forgetful.extend(logins::on_redis(&redis.events, Server::RedisEvents, &nodes.events, &events).await?);
    // After the servers know them: files that are there are of logins that work.
    dir.put("secrets/postgres", &postgres, PRIVATE)?;
    dir.put("secrets/redis.json", &logins::redis_secret(nodes, &prices, &events), PRIVATE)?;
    let note = |node| format!("{node} keeps its users in no file: after its next start, run this again");
    let made = ["postgres"].into_iter().map(str::to_owned).chain(nodes.prices.iter().chain(&nodes.events).cloned());
    Ok((made.collect(), forgetful.into_iter().map(note).collect()))
}

/// What each exporter reads from its environment: no password, but where it stands.
fn environments(config: &Config, nodes: &Nodes, dir: &mut Directory) -> anyhow::Result<()> {
    let secrets = dir.path.join("secrets");
    let secrets = secrets.display();
    // The exporter trusts one file for all nodes.
    let trust = config.redis.prices.ca_file.as_ref().or(config.redis.events.ca_file.as_ref());
    let trust = trust.map(|file| format!("REDIS_EXPORTER_TLS_CA_CERT_FILE='{}'\n", file.display()));
    let trust = trust.unwrap_or_default();
    if let Some(first) = nodes.prices.first().or(nodes.events.first()) {
        let text = format!(
            "REDIS_ADDR={first}\nREDIS_USER={}\nREDIS_PASSWORD_FILE='{secrets}/redis.json'\n\
             REDIS_EXPORTER_WEB_LISTEN_ADDRESS={}\n{trust}",
            logins::USER,
            scrape::REDIS_EXPORTER
        );
        dir.put("secrets/redis.env", &text, PRIVATE)?;
    }
    let mut tls = if config.postgres.tls { "verify-full" } else { "disable" }.to_owned();
    if let Some(file) = &config.postgres.ca_file {
        tls += &format!("&sslrootcert={}", file.display());
    }
    for (number, host) in config.postgres.hosts.iter().enumerate() {
        let text = format!(
            "DATA_SOURCE_URI='{host}/{}?sslmode={tls}'\nDATA_SOURCE_USER={}\nDATA_SOURCE_PASS_FILE='{secrets}/postgres'\n\
             PG_EXPORTER_WEB_LISTEN_ADDRESS={}\n",
            config.postgres.database,
            logins::USER,
            scrape::postgres_exporter(number)
        );
        dir.put(&format!("secrets/postgres-{number}.env"), &text, PRIVATE)?;
    }
    Ok(())
}

/// The config that was read, so that the monitor reads it from wherever it is started.
fn file_of(global: &Global) -> anyhow::Result<PathBuf> {
    let file = global.config.clone().unwrap_or_else(|| global.data.join(tripod::config::FILE_NAME));
    file.canonicalize().with_context(|| format!("cannot open {}", file.display()))
}

fn start_lines(config: &Config, dir: &Path, file: &Path) -> Vec<String> {
    let dir = dir.display();
    let with = |file: String, program: &str| format!("(set -a; . '{dir}/secrets/{file}'; exec {program})");
    let mut lines = vec![
        format!("tripod --config '{}' monitor", file.display()),
        with("redis.env".to_owned(), "prometheus-redis-exporter"),
    ];
    lines.extend(
        (0..config.postgres.hosts.len()).map(|n| with(format!("postgres-{n}.env"), "prometheus-postgres-exporter")),
    );
    lines.push(format!(
        "prometheus --config.file='{dir}/prometheus.yml' --storage.tsdb.path='{dir}/prometheus' --web.listen-address=127.0.0.1:9090"
    ));
    lines.push(format!(
        "prometheus-alertmanager --config.file='{dir}/alertmanager.yml' --storage.path='{dir}/alertmanager' \
         --web.listen-address={} --cluster.listen-address=",
        scrape::ALERTMANAGER
    ));
    lines
}

fn words(report: &Report) -> String {
    let mut text = format!("wrote {} to {}\n", report.written.join(", "), report.dir);
    if !report.kept.is_empty() {
        text += &format!("kept {} as they are (--replace writes them anew)\n", report.kept.join(", "));
    }
    if !report.logins.is_empty() {
        text += &format!("made the login {} on {}\n", logins::USER, report.logins.join(", "));
    }
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text += "\nStart, each in a terminal or a service of its own:\n";
    for line in &report.start {
        text += &format!("  {line}\n");
    }
    text + &format!("\nPut your pager into {}/alertmanager.yml.", report.dir)
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// What is written, and what was.
struct Directory {
    path: PathBuf,
    written: Vec<String>,
    kept: Vec<String>,
}

impl Directory {
    fn make(path: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let path = path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?;
        // It stands in lines of a shell and in YAML.
        if let Some(wrong) =
            path.to_str().and_then(|text| text.chars().find(|c| c.is_control() || "'\"\\".contains(*c)))
        {
            let what = format!("{} has {wrong:?} in its path", path.display());
            return Err(Stop::usage(what, "name a directory without quotes and control characters").into());
        }
        let secrets = path.join("secrets");
        let made = std::fs::DirBuilder::new().mode(0o700).create(&secrets);
        if let Err(error) = made.or_else(|e| if secrets.is_dir() { Ok(()) } else { Err(e) }) {
            return Err(error).with_context(|| format!("cannot make {}", secrets.display()));
        }
        Ok(Self { path, written: Vec::new(), kept: Vec::new() })
    }

    /// Replaces a file at once.
    fn put(&mut self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.new"));
        let write = || -> std::io::Result<()> {
            match std::fs::remove_file(&beside) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_data()?;
            std::fs::rename(&beside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        self.written.push(name.to_owned());
        Ok(())
    }

    /// The same where it is not there yet, or is to be replaced.
    fn put_once(&mut self, name: &str, text: &str, replace: bool) -> anyhow::Result<()> {
        if !replace && self.path.join(name).exists() {
            self.kept.push(name.to_owned());
            return Ok(());
        }
        self.put(name, text, PUBLIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_edited_is_kept_and_secrets_are_their_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let mut dir = Directory::make(&parent.path().join("a")).unwrap();
        dir.put_once("alerts.yml", "ours", false).unwrap();
        std::fs::write(dir.path.join("alerts.yml"), "theirs").unwrap();
        dir.put_once("alerts.yml", "ours", false).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path.join("alerts.yml")).unwrap(), "theirs");
        assert_eq!((dir.written.len(), dir.kept.as_slice()), (1, &["alerts.yml".to_owned()][..]));
        dir.put_once("alerts.yml", "ours", true).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path.join("alerts.yml")).unwrap(), "ours");
        for _ in 0..2 {
            dir.put("secrets/x", "s", PRIVATE).unwrap();
        }
        let mode = |name: &str| std::fs::metadata(dir.path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("secrets"), mode("secrets/x")), (0o700, 0o600));
        assert!(Directory::make(&parent.path().join("it's")).is_err());
    }

    #[test]
    fn every_rule_has_its_link_replaced() {
        assert_eq!(ALERTS.matches(RUNBOOKS_LINK).count(), ALERTS.matches("\n      - alert: ").count());
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert!(is_host_port("127.0.0.1:9601") && is_host_port("[::1]:9601") && is_host_port("bot-1.lan:80"));
        assert!(!is_host_port("9601") && !is_host_port(":9601") && !is_host_port("h:0") && !is_host_port("a'b:1"));
    }
}
