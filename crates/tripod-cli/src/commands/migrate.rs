//! `tripod migrate`: all servers to the schema that this version needs.
//!
//! Constraints: everything is planned before anything is changed, so that a server that does not answer or a conflict
//! leaves all of them as they were. Redis has no schema; its settings are looked at and belong to its own config file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tripod::audit::{self, Severity};
use tripod::postgres::migrations;
use tripod::redis::Link;
use tripod::tape::schema::{self, Action, ActionKind};
use tripod::tape::spec::{Importance, TableSpec};
use tripod::tape::tables::builtin;
use tripod::{Config, Server};
use tripod_journal::Catalog;

use super::{ask_questdb, questdb_name};
use crate::args::{Global, Migrate};
use crate::exit::{Exit, Stop};
use crate::output::{self, Output};

/// One statement on a large table may take a while.
const QUESTDB_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Serialize)]
struct Item {
    server: String,
    object: String,
    action: String,
    detail: String,
}

#[derive(Debug, Serialize)]
struct Migrated {
    plan: Vec<Item>,
    applied: usize,
}

pub(super) async fn run(arguments: &Migrate, global: &Global, output: Output) -> anyhow::Result<Exit> {
    let config = global.load()?;
    let specs = specs(&config)?;
    let mut plan = Vec::new();
    let mut questdb = Vec::new();
    for number in 0..config.questdb.len() {
        let actions = plan_questdb(&config, number, specs.clone()).await?;
        let name = questdb_name(&config, number);
        plan.extend(actions.iter().filter(|action| action.action != ActionKind::None).map(|action| Item {
            server: name.clone(),
            object: action.object.clone(),
            action: action.action.to_string(),
            detail: action.detail.clone(),
        }));
        questdb.push(actions);
    }
    let steps = migrations::plan(&config.postgres).await?;
    plan.extend(steps.into_iter().map(|step| Item {
        server: "postgres".to_owned(),
        object: step.object,
        action: step.action.to_owned(),
        detail: step.detail,
    }));
    let settings = look_at_redis(&config).await?;
    let unfit = settings.iter().any(|item| item.action == "change");
    plan.extend(settings);
    refuse_conflicts(&plan)?;

    let mut applied = 0;
    if !arguments.plan {
        for (number, actions) in questdb.into_iter().enumerate() {
            if let Some(server) = config.questdb.get(number) {
                applied += ask_questdb(server, QUESTDB_TIMEOUT, move |http| schema::apply(http, &actions)).await?;
            }
        }
        applied += migrations::apply(&config.postgres).await?.len();
    }
    let migrated = Migrated { plan, applied };
    output.result(&migrated, || words(&migrated, arguments.plan))?;
    Ok(if unfit { Exit::False } else { Exit::Done })
}

/// The built-in tables, and those that bots on this machine have registered: their specs stand beside the journals. Each
/// with the days that the config keeps it.
pub(super) fn specs(config: &Config) -> anyhow::Result<Vec<TableSpec>> {
    let mut specs: BTreeMap<String, TableSpec> = BTreeMap::new();
    for journals in journal_dirs(config)? {
        for class in Importance::ALL {
            let dir = journals.join(class.as_str());
            if dir.is_dir() {
                read_catalog(&dir, &mut specs)
                    .with_context(|| format!("cannot read the tables of {}", dir.display()))?;
            }
        }
    }
    // This version's own word on its own tables is the last.
    for spec in builtin() {
        specs.insert(spec.name.to_string(), spec.clone());
    }
    Ok(specs.values().map(|spec| config.retention.applied_to(spec)).collect())
}

/// Every bot's journals; those of the config's bot last, because its word on a table that several have is the one that
/// counts here.
pub(super) fn journal_dirs(config: &Config) -> anyhow::Result<Vec<PathBuf>> {
    let (all, own) = (&config.journal.dir, config.journal_dir());
    let mut dirs = Vec::new();
    match std::fs::read_dir(all) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.with_context(|| format!("cannot list {}", all.display()))?.path();
                dirs.extend(Some(path).filter(|path| path.is_dir() && *path != own));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", all.display())),
    }
    dirs.sort();
    dirs.push(own);
    Ok(dirs)
}

fn read_catalog(dir: &Path, specs: &mut BTreeMap<String, TableSpec>) -> tripod::Result<()> {
    let catalog = match Catalog::read(dir) {
        Err(tripod_journal::Error::Missing { .. }) => return Ok(()),
        catalog => catalog?,
    };
    // Entries are in the order of their registration: the newest form of a table wins.
    for entry in catalog.entries() {
        let spec = TableSpec::from_json(&entry.text)?;
        specs.insert(spec.name.to_string(), spec);
    }
    Ok(())
}

async fn plan_questdb(config: &Config, number: usize, specs: Vec<TableSpec>) -> tripod::Result<Vec<Action>> {
    let Some(server) = config.questdb.get(number) else { return Ok(Vec::new()) };
    let (prefix, rollup_days) = (config.tape.table_prefix.clone(), config.retention.rollup_days);
    ask_questdb(server, QUESTDB_TIMEOUT, move |http| {
        let (live, views) = (schema::read_live(http)?, schema::read_views(http)?);
        let mut actions = schema::plan(&live, &specs, &prefix);
        actions.extend(schema::plan_rollups(&live, &views, &specs, &prefix, rollup_days));
        Ok(actions)
    })
    .await
}

async fn look_at_redis(config: &Config) -> tripod::Result<Vec<Item>> {
    let mut items = Vec::new();
    let instances = [
        ("redis-prices", &config.redis.prices, Server::RedisPrices),
        ("redis-events", &config.redis.events, Server::RedisEvents),
    ];
    for (name, redis, server) in instances {
        let link = Link::connect_admin(redis, server).await?;
        for departure in audit::redis::look_at_settings(&link, redis).await? {
            let object = departure.id.strip_prefix("redis.").unwrap_or(departure.id);
            let action = match departure.severity {
                _ if object == "unknown" => "unknown",
                Severity::Wrong => "change",
                Severity::Advice => "consider",
            };
            items.push(Item {
                server: name.to_owned(),
                object: object.to_owned(),
                action: action.to_owned(),
                detail: format!("{}; {}", departure.what, departure.remedy),
            });
        }
    }
    Ok(items)
}

fn refuse_conflicts(plan: &[Item]) -> Result<(), Stop> {
    let conflicts: Vec<_> = plan
        .iter()
        .filter(|item| item.action == ActionKind::Conflict.to_string())
        .map(|item| format!("{} {}: {}", item.server, item.object, item.detail))
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Stop::untrue(
        format!("nothing was changed, because {}", conflicts.join("; and ")),
        "solve each conflict by hand as it says, then run `tripod migrate` again",
    ))
}

fn words(migrated: &Migrated, planned_only: bool) -> String {
    if migrated.plan.is_empty() {
        return "nothing to do: every server has this version's schema".to_owned();
    }
    let mut table = output::table(&["server", "object", "action", "detail"]);
    for item in &migrated.plan {
        table.add_row([&item.server, &item.object, &item.action, &item.detail]);
    }
    let end = match planned_only {
        true => "nothing was changed; `tripod migrate` does it".to_owned(),
        false => format!("{} made", output::counted(migrated.applied, "change")),
    };
    format!("{}\n{end}", output::table_text(&table))
}
