//! A namespace in this process's memory, as the bot's own type, kept fresh.
//!
//! Constraints: a read takes no lock and never waits. A value that does not parse is refused alone: its key keeps the
//! last good one, the other keys go on (a limit that is lowered must not wait for somebody else's typing mistake). Both
//! are said: here, in the log, and on the server, where `tripod status` shows which revision each bot runs. A notice only
//! hastens the next look; a listener that is cut or deaf costs time and never a change.
//!
//! ```text
//!  open ── whole namespace ──▶ T ──▶ get()
//!  notice ─┐                   ▲
//!  clock ──┴▶ look: revisions the same? ── no: values ─▶ parse ─ fails: key by key, the last good one stays
//!                                                           └─▶ settings_applied: bot, revisions, refused
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::Config;
use crate::config;
use crate::error::{Error, Result};
use crate::postgres::{Listener, Postgres};

/// The channel that the settings' trigger speaks on.
const CHANNEL: &str = "tripod_settings";
/// A bot says at least this often what it runs; who has said nothing for three times as long is taken for gone.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Characters of a reason for a refusal at most.
const WHY_CHARS_MAX: usize = 300;

const REVISIONS: &str = "SELECT key, revision FROM tripod.settings WHERE namespace = $1";
const VALUES: &str = "SELECT key, revision, value FROM tripod.settings WHERE namespace = $1";
const REPORT: &str = "
INSERT INTO tripod.settings_applied AS a (bot, namespace, revisions, refused, deadline_ms) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (bot, namespace) DO UPDATE SET
    revisions = excluded.revisions, refused = excluded.refused, deadline_ms = excluded.deadline_ms,
    seen_at = excluded.seen_at,
    applied_at = CASE WHEN a.revisions = excluded.revisions THEN a.applied_at ELSE excluded.applied_at END";

/// A value that this bot could not read. Its key keeps the value that it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefusedSetting {
    /// The key; `*` where the whole namespace makes no value of the bot's type.
    pub key: String,
    /// The revision that cannot be read; 0 with `*`, and where a key is gone that the type needs.
    pub revision: i64,
    /// Why not.
    pub why: String,
}

/// A key's revision and value.
type Values = BTreeMap<String, (i64, Value)>;

/// What this process runs.
#[derive(Debug, Clone, Default, PartialEq)]
struct Standing {
    good: Values,
    refused: Vec<RefusedSetting>,
}

#[derive(Debug)]
struct Shared<T> {
    value: ArcSwap<T>,
    standing: ArcSwap<Standing>,
    looked_at: ArcSwap<Instant>,
    listening: AtomicBool,
    changes: watch::Sender<u64>,
}

/// A namespace as a `T`; a cheap handle. The last one dropped ends the watching.
#[derive(Debug)]
pub struct SettingsWatch<T> {
    shared: Arc<Shared<T>>,
    _keeper: Arc<Guard>,
}

impl<T> Clone for SettingsWatch<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), _keeper: Arc::clone(&self._keeper) }
    }
}

#[derive(Debug)]
struct Guard(JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> SettingsWatch<T> {
    /// Reads the namespace, whose keys are `T`'s fields (`#[serde(default)]` makes one that nobody must set), then keeps
    /// it fresh in a task of the current runtime. `poll_interval` is how late a change may come while nobody listens;
    /// each look is one small query. `config.bot` is the name under which the bot says what it runs.
    ///
    /// # Errors
    /// [`Error::Invalid`] with serde's words where the namespace makes no `T`: there is no last good value yet; else as
    /// [`Postgres::call`]. A server that is away only later is no error: reads go on, [`SettingsWatch::age`] grows.
    pub async fn open(config: &Config, namespace: &str, poll_interval: Duration) -> Result<Self> {
        // Connections of its own: a bot that has used up its pool still hears of changes.
        let mut postgres = config.postgres.clone();
        postgres.pool_size = 1;
        let source = Source {
            postgres: Postgres::open(&postgres)?,
            config: postgres,
            bot: config.bot.clone(),
            namespace: namespace.to_owned(),
        };
        let began = Instant::now();
        let good = source.values().await?;
        let value: T = match parse(&good) {
            Ok(value) => value,
            Err(why) => {
                let refused = vec![RefusedSetting { key: "*".to_owned(), revision: 0, why: why.clone() }];
                // The operator sees it in `tripod status`; the bot sees the error itself.
                let _ = source.report(&Standing { good: Values::new(), refused }).await;
                return Err(Error::invalid(format!("the settings of namespace {namespace}"), why));
            }
        };
        let shared = Arc::new(Shared {
            value: ArcSwap::from_pointee(value),
            standing: ArcSwap::from_pointee(Standing { good, refused: Vec::new() }),
            looked_at: ArcSwap::from_pointee(began),
            listening: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        });
        let keeper = Keeper {
            source,
            poll_interval,
            shared: Arc::clone(&shared),
            heard: Arc::new(Notify::new()),
            listener: None,
            reported_at: None,
            in_trouble: false,
        };
        Ok(Self { shared, _keeper: Arc::new(Guard(tokio::spawn(keeper.run()))) })
    }
}

impl<T> SettingsWatch<T> {
    /// The settings that this bot runs.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        self.shared.value.load_full()
    }

    /// The revision of each key that this bot runs.
    #[must_use]
    pub fn revisions(&self) -> BTreeMap<String, i64> {
        self.shared.standing.load().good.iter().map(|(key, (revision, _))| (key.clone(), *revision)).collect()
    }

    /// Values that this bot could not read, and whose keys therefore keep what they had. Empty is well: put it into the
    /// bot's health.
    #[must_use]
    pub fn refused(&self) -> Vec<RefusedSetting> {
        self.shared.standing.load().refused.clone()
    }

    /// How old memory may be: the time since the last look that found the server began.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.shared.looked_at.load().elapsed()
    }

    /// True while notices come; false means that changes come by the clock alone.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.shared.listening.load(Ordering::Relaxed)
    }

    /// Changes whenever something was taken or refused, for whoever waits for that.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

/// The server's side of it.
struct Source {
    config: config::Postgres,
    postgres: Postgres,
    bot: String,
    namespace: String,
}

impl Source {
    async fn revisions(&self) -> Result<BTreeMap<String, i64>> {
        self.postgres
            .call("look for setting changes", async |client| {
                let statement = client.prepare_cached(REVISIONS).await?;
                let rows = client.query(&statement, &[&self.namespace]).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
            })
            .await
    }

    async fn values(&self) -> Result<Values> {
        self.postgres
            .call("read settings", async |client| {
                let statement = client.prepare_cached(VALUES).await?;
                let rows = client.query(&statement, &[&self.namespace]).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
            })
            .await
    }

    async fn report(&self, standing: &Standing) -> Result<()> {
        let revisions: BTreeMap<_, _> = standing.good.iter().map(|(key, (revision, _))| (key, revision)).collect();
        let json = |value: std::result::Result<Value, _>| value.map_err(|e| Error::invalid("settings", format!("{e}")));
        let revisions = json(serde_json::to_value(revisions))?;
        let refused = json(serde_json::to_value(&standing.refused))?;
        let deadline_ms = i64::try_from(REPORT_EVERY.as_millis() * 3).unwrap_or(i64::MAX);
        self.postgres
            .call("say which settings run", async |client| {
                let statement = client.prepare_cached(REPORT).await?;
                client.execute(&statement, &[&self.bot, &self.namespace, &revisions, &refused, &deadline_ms]).await?;
                Ok(())
            })
            .await
    }
}

/// The one task that writes.
struct Keeper<T> {
    source: Source,
    poll_interval: Duration,
    shared: Arc<Shared<T>>,
    heard: Arc<Notify>,
    listener: Option<Listener>,
    reported_at: Option<Instant>,
    in_trouble: bool,
}

impl<T: DeserializeOwned + Send + Sync> Keeper<T> {
    async fn run(mut self) {
        loop {
            self.listen().await;
            let looked = match self.look().await {
                Ok(()) => self.say().await,
                failed => failed,
            };
            match looked {
                Ok(()) => self.in_trouble = false,
                Err(error) if self.in_trouble => tracing::debug!(%error, "settings are still not refreshed"),
                Err(error) => {
                    self.in_trouble = true;
                    let namespace = &self.source.namespace;
                    tracing::warn!(%error, namespace, "settings are not refreshed; the last good ones stay");
                }
            }
            // Passing time is the other reason to look.
            let _ = tokio::time::timeout(self.poll_interval, self.heard.notified()).await;
        }
    }

    async fn listen(&mut self) {
        if self.listener.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return;
        }
        self.shared.listening.store(false, Ordering::Relaxed);
        self.listener = None;
        let Source { config, postgres, .. } = &self.source;
        match Listener::open(config, postgres.deadline(), CHANNEL, Arc::clone(&self.heard)).await {
            Ok(listener) => {
                self.listener = Some(listener);
                self.shared.listening.store(true, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "nobody listens for setting changes; they come by the clock"),
        }
    }

    async fn look(&mut self) -> Result<()> {
        let began = Instant::now();
        let revisions = self.source.revisions().await?;
        let standing = self.shared.standing.load_full();
        // Refused ones are seen, too: reading them again says nothing new.
        let mut seen: BTreeMap<String, i64> = standing.good.iter().map(|(key, (n, _))| (key.clone(), *n)).collect();
        for refused in &standing.refused {
            match refused.revision {
                0 => drop(seen.remove(&refused.key)),
                revision => drop(seen.insert(refused.key.clone(), revision)),
            }
        }
        if revisions != seen {
            let (value, next) = take::<T>(&standing.good, self.source.values().await?);
            for refused in next.refused.iter().filter(|new| !standing.refused.contains(new)) {
                let RefusedSetting { key, revision, why } = refused;
                let namespace = &self.source.namespace;
                tracing::warn!(namespace, key, revision, why, "a setting cannot be read; its last good value stays");
            }
            if let Some(value) = value {
                self.shared.value.store(Arc::new(value));
            }
            self.shared.standing.store(Arc::new(next));
            self.shared.changes.send_modify(|count| *count = count.wrapping_add(1));
            self.reported_at = None;
        }
        self.shared.looked_at.store(Arc::new(began));
        Ok(())
    }

    async fn say(&mut self) -> Result<()> {
        if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.source.report(&self.shared.standing.load_full()).await?;
            self.reported_at = Some(Instant::now());
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(values: &Values) -> std::result::Result<T, String> {
    let object = values.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(object)).map_err(|e| e.to_string().chars().take(WHY_CHARS_MAX).collect())
}

/// What to run next: all of `now` where it makes a `T`, else each change of it that does. Pure.
fn take<T: DeserializeOwned>(good: &Values, now: Values) -> (Option<T>, Standing) {
    if let Ok(value) = parse(&now) {
        return (Some(value), Standing { good: now, refused: Vec::new() });
    }
    let mut standing = Standing { good: good.clone(), refused: Vec::new() };
    let mut taken = None;
    let keys: std::collections::BTreeSet<&String> = good.keys().chain(now.keys()).collect();
    for key in keys {
        if good.get(key) == now.get(key) {
            continue;
        }
        let mut next = standing.good.clone();
        match now.get(key) {
            Some(value) => drop(next.insert(key.clone(), value.clone())),
            None => drop(next.remove(key)),
        }
        match parse(&next) {
            Ok(value) => {
                taken = Some(value);
                standing.good = next;
            }
            Err(why) => {
                let revision = now.get(key).map_or(0, |(revision, _)| *revision);
                standing.refused.push(RefusedSetting { key: key.clone(), revision, why });
            }
        }
    }
    (taken, standing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Limits {
        slippage_bps: u16,
        #[serde(default)]
        paused: bool,
    }

    fn values(list: &[(&str, i64, Value)]) -> Values {
        list.iter().map(|(key, revision, value)| ((*key).to_owned(), (*revision, value.clone()))).collect()
    }

    #[test]
    fn one_value_that_cannot_be_read_holds_no_other_back() {
        let good = values(&[("slippage_bps", 1, json!(50))]);
        let now = values(&[("paused", 1, json!(true)), ("slippage_bps", 2, json!("a lot"))]);
        let (value, standing) = take::<Limits>(&good, now);
        assert_eq!(value, Some(Limits { slippage_bps: 50, paused: true }));
        assert_eq!(standing.good["slippage_bps"], (1, json!(50)));
        assert_eq!((standing.refused.len(), standing.refused[0].revision), (1, 2));
        assert!(standing.refused[0].why.contains("a lot"), "{standing:?}");
        // Put right, nothing is refused any more.
        let now = values(&[("slippage_bps", 3, json!(30))]);
        let (value, standing) = take::<Limits>(&standing.good, now);
        assert_eq!(value, Some(Limits { slippage_bps: 30, paused: false }));
        assert!(standing.refused.is_empty());
    }

    #[test]
    fn a_key_that_is_gone_and_needed_keeps_its_value_and_is_said() {
        let good = values(&[("slippage_bps", 1, json!(50))]);
        let (value, standing) = take::<Limits>(&good, Values::new());
        assert_eq!(value, None);
        assert_eq!((standing.good, standing.refused[0].revision), (good, 0));
    }
}
