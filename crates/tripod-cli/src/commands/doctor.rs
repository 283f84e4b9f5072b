//! `tripod doctor`: what live servers, this machine and the journals have that Tripod cannot do with.
//!
//! Constraints: everything is asked at once, each question with a deadline; what does not answer is a finding and hides
//! nothing of the rest. It changes nothing. Each finding says what is there, what it costs, and how to mend it.
//! `wrong` breaks a promise and makes the exit code 1; `advice` costs something and does not.
//!
//! Picture:
//! ```text
//! tripod::audit  questdb, postgres ─┐
//!                redis, sentinels  ─┼─▶ findings ─▶ sorted, the grave ones first ─▶ table or JSON
//!                network (config)  ─┤
//! machine, journals ────────────────┘
//! ```

mod backups;
mod journals;
mod machine;

use std::time::Duration;

use serde::Serialize;
use tripod::audit::{self, Departure, Finding, Severity};
use tripod::postgres::{Login, Postgres};
use tripod::redis::Link;
use tripod::{Config, Error, Server};

use super::{ask_questdb, migrate, questdb_name};
use crate::args::Global;
use crate::exit::Exit;
use crate::output::{self, Output};

/// One server's questions together.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Doctor {
    findings: Vec<Departure>,
    ok: bool,
}

pub(super) async fn run(global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let file = global.config.clone().unwrap_or_else(|| global.data.join("tripod.toml"));
    let specs = migrate::specs(&config)?;
    let tape = async {
        let mut all = Vec::new();
        for (number, server) in config.questdb.iter().enumerate() {
            let (specs, prefix) = (specs.clone(), config.tape.table_prefix.clone());
            let rollup_days = config.retention.rollup_days;
            let found = ask_questdb(server, ANSWER_WITHIN, move |http| {
                let mut found = audit::questdb::look(http, &specs, &prefix)?;
                found.extend(audit::questdb::look_at_rollups(http, &specs, &prefix, rollup_days)?);
                Ok(found)
            })
            .await;
            all.push(named(Finding::QuestDbUnreachable, &questdb_name(&config, number), found));
        }
        all
    };
    let (prices, events) = (&config.prices.key_prefix, &config.events.key_prefix);
    let (tape, postgres, prices, events, prices_ha, events_ha) = tokio::join!(
        tape,
        postgres(&config),
        redis(&config.redis.prices, prices, Server::RedisPrices),
        redis(&config.redis.events, events, Server::RedisEvents),
        audit::redis::sentinels(&config.redis.prices, Server::RedisPrices),
        audit::redis::sentinels(&config.redis.events, Server::RedisEvents),
    );
    let mut looked = tape;
    looked.extend([
        named(Finding::PostgresUnreachable, "PostgreSQL", postgres),
        named(Finding::RedisUnreachable, &Server::RedisPrices.to_string(), prices),
        named(Finding::RedisUnreachable, &Server::RedisEvents.to_string(), events),
    ]);
    let nothing_answers = looked.iter().all(|(_, answered)| !answered);
    let mut findings: Vec<_> = looked.into_iter().flat_map(|(found, _)| found).collect();
    findings.extend(prices_ha?);
    findings.extend(events_ha?);
    findings.extend(audit::network::look(&config));
    findings.extend(machine::look(&config, &file));
    findings.extend(journals::look(&config)?);
    findings.extend(backups::look(&config)?);
    findings.sort_by(|a, b| (a.severity, a.id).cmp(&(b.severity, b.id)));
    let ok = findings.iter().all(|finding| finding.severity != Severity::Wrong);
    let doctor = Doctor { findings, ok };
    output.result(&doctor, || words(&doctor))?;
    Ok(match (ok, nothing_answers) {
        (true, _) => Exit::Done,
        (false, true) => Exit::Unreachable,
        (false, false) => Exit::False,
    })
}

async fn postgres(config: &Config) -> tripod::Result<Vec<Departure>> {
    let postgres = Postgres::open_as(&config.postgres, Login::Admin, ANSWER_WITHIN)?;
    audit::postgres::look(&postgres, &config.postgres).await
}

async fn redis(redis: &tripod::config::Redis, prefix: &str, server: Server) -> tripod::Result<Vec<Departure>> {
    let look = async {
        let link = Link::connect_admin(redis, server).await?;
        let mut found = audit::redis::look(&link, redis, prefix).await?;
        found.extend(audit::redis::replicas(&link, redis).await?);
        Ok(found)
    };
    let late = |_| Error::Deadline { server, what: "doctor".to_owned(), after: ANSWER_WITHIN };
    tokio::time::timeout(ANSWER_WITHIN, look).await.map_err(late)?
}

/// The findings of one server, and whether it answered.
fn named(id: Finding, name: &str, found: tripod::Result<Vec<Departure>>) -> (Vec<Departure>, bool) {
    match found {
        Ok(found) => (found, true),
        Err(error) => {
            let what = output::one_line(&error.to_string(), 300);
            let what = if what.contains(name) { what } else { format!("{name}: {what}") };
            let why = "nothing of it could be looked at";
            (
                vec![Departure::wrong(id, what, why, "`tripod status` says more; `tripod up` starts a local stack")],
                false,
            )
        }
    }
}

fn words(doctor: &Doctor) -> String {
    if doctor.findings.is_empty() {
        return "nothing found: servers, machine and journals are as Tripod needs them".to_owned();
    }
    let mut text = String::new();
    for finding in &doctor.findings {
        let severity = match finding.severity {
            Severity::Wrong => "wrong ",
            Severity::Advice => "advice",
        };
        let lines = format!(
            "{severity}  {}\n        {}\n  why   {}\n  mend  {}\n\n",
            finding.id, finding.what, finding.why, finding.remedy
        );
        text.push_str(&lines);
    }
    let wrong = doctor.findings.iter().filter(|finding| finding.severity == Severity::Wrong).count();
    text.push_str(&match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        more => format!("{more} things are wrong"),
    });
    text
}
