//! Components and what they said last, and the settings that bots run.

use tripod::Config;
use tripod::health::{Component, Health, Status};
use tripod::postgres::{Login, Postgres};
use tripod::settings::{AppliedSettings, Settings};

use super::rows::Found;
use super::servers::ANSWER_WITHIN;
use crate::commands::settings::state;
use crate::output;

/// Silent for so long, a component may well be one that nobody starts any more.
const FORGOTTEN: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// Both; empty where PostgreSQL does not answer or has no tables yet: its own line says so.
pub(super) async fn look(config: &Config) -> (Vec<Component>, Vec<AppliedSettings>) {
    let Ok(postgres) = Postgres::open_as(&config.postgres, Login::Bot, ANSWER_WITHIN) else {
        return (Vec::new(), Vec::new());
    };
    let (health, settings) = (Health::new(postgres.clone()), Settings::new(postgres));
    let (components, bots) = tokio::join!(health.list(), settings.applied());
    (components.unwrap_or_default(), bots.unwrap_or_default())
}

pub(super) fn judge(components: &[Component], bots: &[AppliedSettings]) -> Found {
    let mut found = Found::default();
    for one in components {
        let name = &one.name;
        if one.is_stale() {
            let gone_for_good = match one.age > FORGOTTEN {
                true => format!(
                    "; where it is gone for good: UPDATE tripod.health SET status = 'stopped' WHERE component = '{name}'"
                ),
                false => String::new(),
            };
            let (age, deadline, ahead) = (secs(one.age), secs(one.deadline), secs(one.ahead));
            found.alarms.push(match one.ahead.is_zero() {
                true => format!("{name}: no heartbeat for {age} s, it promised one every {deadline} s{gone_for_good}"),
                false => format!("{name}: its heartbeat is {ahead} s in the future; the server's clock went back"),
            });
        } else if one.status == Status::Failed {
            found.alarms.push(format!("{name} says that it failed: {}", details(one)));
        } else if one.status == Status::Degraded {
            found.notes.push(format!("{name} says that it is degraded: {}", details(one)));
        }
    }
    for bot in bots.iter().filter(|bot| !bot.is_gone()) {
        if !bot.refused.is_empty() {
            found.alarms.push(format!("bot {} runs an older {}: {}", bot.bot, bot.namespace, state(bot)));
        } else if !bot.behind.is_empty() {
            found.notes.push(format!("bot {} runs another revision of {}: {}", bot.bot, bot.namespace, state(bot)));
        }
    }
    found
}

fn secs(time: std::time::Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

fn details(one: &Component) -> String {
    output::one_line(&one.details.to_string(), 200)
}

pub(super) fn words(components: &[Component]) -> String {
    let mut table = output::table(&["component", "status", "heartbeat", "since", "details"]);
    for one in components {
        let status =
            if one.is_stale() { format!("STALE (was {})", one.status.as_str()) } else { one.status.as_str().into() };
        let age = format!("{} s ago", secs(one.age));
        table.add_row([one.name.as_str(), &status, &age, &one.since.to_string(), &details(one)]);
    }
    output::table_text(&table)
}
