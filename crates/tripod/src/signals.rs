//! Signals: pub/sub messages for hints and switches. Fire and forget; what must arrive goes as an event.
//!
//! Constraints: a slow receiver holds up nobody: it loses the oldest signals and is told how many. After a lost connection
//! it is told to look for itself ([`Signal::Resync`]): what was published meanwhile is not coming.
//!
//! Picture: channel `signals:TOPIC` on the events instance, behind the events' key prefix.

use std::sync::Arc;

use ::redis::cmd;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{Error, Result, Server};
use crate::redis::{Delivery, Label, Link, Subscription, check_prefix};

/// Most bytes of a signal's payload: a signal points at something, it does not carry it.
pub const PAYLOAD_BYTES_MAX: usize = 8 * 1024;

/// The handle. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Signals {
    link: Link,
    prefix: Arc<str>,
}

/// What a receiver gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// A signal.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload, JSON as [`Signals::publish`] wrote it.
        payload: Vec<u8>,
    },
    /// This many signals were dropped, the oldest first, because this receiver did not take them in time.
    Missed(u64),
    /// The connection was lost and is back; signals of that time are gone. Look at the state that they are about.
    Resync,
}

impl Signal {
    /// The payload as a type.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is not such a value, or the signal is not a [`Signal::Message`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        match self {
            Self::Message { topic, payload } => serde_json::from_slice(payload)
                .map_err(|error| Error::invalid(format!("signal on {topic}"), error.to_string())),
            _ => Err(Error::invalid("signal", "is no message; match on it first")),
        }
    }
}

impl Signals {
    /// Connects to `[redis.events]`. The link reconnects by itself from then on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong address or prefix, [`Error::Refused`] for a wrong login, [`Error::Unreachable`] or
    /// [`Error::Deadline`] where nobody answers.
    pub async fn connect(config: &Config) -> Result<Self> {
        Self::over(Link::connect(&config.redis.events, Server::RedisEvents).await?, config)
    }

    /// Uses a link that is there already, e.g. the one of [`crate::events::Events::link`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for a wrong prefix.
    pub fn over(link: Link, config: &Config) -> Result<Self> {
        check_prefix("events.key_prefix", &config.events.key_prefix)?;
        Ok(Self { link, prefix: format!("{}signals:", config.events.key_prefix).into() })
    }

    /// Publishes a signal. When it returns Ok, the server has passed it to that many receivers (of this server; those of
    /// its replicas are not counted), which may be none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a topic that is no label or a payload above [`PAYLOAD_BYTES_MAX`]; otherwise as every call
    /// of [`Link`].
    pub async fn publish<T: Serialize + Sync>(&self, topic: &str, payload: &T) -> Result<u64> {
        let channel = self.channel(topic)?;
        let payload = serde_json::to_vec(payload)
            .map_err(|error| Error::invalid(format!("signal on {topic}"), error.to_string()))?;
        if payload.len() > PAYLOAD_BYTES_MAX {
            let why = format!("has {} bytes; at most {PAYLOAD_BYTES_MAX}; publish an event instead", payload.len());
            return Err(Error::invalid(format!("signal on {topic}"), why));
        }
        self.link.query("publish signal", cmd("PUBLISH").arg(channel).arg(payload)).await
    }

    /// Receives the signals of some topics. When it returns Ok, what is published from then on arrives. `waiting_max`
    /// signals may wait to be taken; beyond it the oldest are dropped and counted.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no topic or one that is no label; otherwise as [`Signals::connect`].
    pub async fn subscribe(&self, topics: &[&str], waiting_max: usize) -> Result<SignalReceiver> {
        if topics.is_empty() {
            return Err(Error::invalid("topics", "are none"));
        }
        let channels = topics.iter().map(|topic| self.channel(topic)).collect::<Result<Vec<_>>>()?;
        let subscription = Subscription::open(&self.link, channels, waiting_max).await?;
        Ok(SignalReceiver { subscription, prefix: Arc::clone(&self.prefix) })
    }

    fn channel(&self, topic: &str) -> Result<String> {
        Ok(format!("{}{}", self.prefix, Label::new("topic", topic)?))
    }
}

/// Receives signals; dropping it unsubscribes.
#[derive(Debug)]
pub struct SignalReceiver {
    subscription: Subscription,
    prefix: Arc<str>,
}

impl SignalReceiver {
    /// The next signal, or news of a loss. Waits for as long as there is none; reconnects by itself. Cancel-safe.
    pub async fn recv(&mut self) -> Signal {
        match self.subscription.next().await {
            Delivery::Message { channel, payload } => {
                let topic = channel.strip_prefix(&*self.prefix).unwrap_or(&channel).to_owned();
                Signal::Message { topic, payload }
            }
            Delivery::Missed(count) => Signal::Missed(count),
            Delivery::Resync => Signal::Resync,
        }
    }
}
