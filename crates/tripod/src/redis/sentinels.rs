//! Asks the sentinels who is the primary, and hears from them when that changes.
//!
//! Constraints: one sentinel that hangs or knows less does not mislead: all are asked at once, and the answer with the
//! greatest epoch is believed (it grows with each failover). Waiting is bounded by [`EACH_WITHIN`].
//!
//! Picture: one task a sentinel ── SUBSCRIBE +switch-master, and a question each second ──▶ views ──▶ `newest`

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, ConnectionAddr, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisError,
    RedisResult, cmd,
};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::link::backoff_up_to;
use super::target::{client, nobody_knows};

/// How long one sentinel may take to answer.
const EACH_WITHIN: Duration = Duration::from_millis(250);
/// How often each is asked though it has said nothing.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Longest pause before a sentinel that is away is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The channel on which a sentinel says that it has another primary.
const SWITCHED: &str = "+switch-master";

/// What a sentinel takes for the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// Grows with each failover; zero where the login may not ask for it.
    pub(super) epoch: u64,
    pub(super) host: String,
    pub(super) port: u16,
}

impl View {
    /// As connections name their address.
    pub(super) fn address(&self) -> String {
        ConnectionAddr::Tcp(self.host.clone(), self.port).to_string()
    }
}

/// What one sentinel answers to the question whether a failover could be agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentinelSaid {
    /// Where it is.
    pub address: String,
    /// It answered, if only to say no.
    pub answers: bool,
    /// Enough of them are there, as it sees them.
    pub quorum: bool,
    /// Its own words, or the driver's.
    pub words: String,
}

/// Where the sentinels are and how to log in there.
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    pub(super) addresses: Vec<ConnectionAddr>,
    pub(super) primary_name: String,
    pub(super) login: RedisConnectionInfo,
}

impl Sentinels {
    /// Asks all of them at once; the newest view. An error where none knows a primary.
    pub(super) async fn ask(&self) -> RedisResult<View> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(EACH_WITHIN))
            .set_response_timeout(Some(EACH_WITHIN));
        let config = &config;
        let answers = join_all(self.addresses.iter().map(|address| async move {
            let asked = async {
                let client = client(address.clone(), self.login.clone())?;
                let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
                self.question(&mut connection).await
            };
            timeout(EACH_WITHIN, asked).await.unwrap_or_else(|_| Err(late()))
        }))
        .await;
        let (mut newest, mut error) = (None::<View>, nobody_knows());
        for answer in answers {
            match answer {
                Ok(Some(view)) if newest.as_ref().is_none_or(|newest| newest.epoch < view.epoch) => newest = Some(view),
                Ok(_) => {}
                Err(said) => error = said,
            }
        }
        newest.ok_or(error)
    }

    /// Asks each of them whether they could agree on a failover.
    pub(super) async fn quorum(&self) -> Vec<SentinelSaid> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(EACH_WITHIN * 2))
            .set_response_timeout(Some(EACH_WITHIN * 2));
        let config = &config;
        join_all(self.addresses.iter().map(|address| async move {
            let asked = async {
                let client = client(address.clone(), self.login.clone())?;
                let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
                let mut question = cmd("SENTINEL");
                question.arg("CKQUORUM").arg(&self.primary_name);
                question.query_async::<String>(&mut connection).await
            };
            let answer = timeout(EACH_WITHIN * 3, asked).await.unwrap_or_else(|_| Err(late()));
            let (answers, quorum, words) = match answer {
                Ok(words) => (true, true, words),
                // An error with a code is an answer: NOQUORUM, NOGOODSLAVE, and a login that it refuses.
                Err(error) => (error.code().is_some(), false, error.to_string()),
            };
            SentinelSaid { address: address.to_string(), answers, quorum, words }
        }))
        .await
    }

    /// The epoch first: where a switch falls in between, the address is the newer one, and the next question tells.
    async fn question(&self, connection: &mut MultiplexedConnection) -> RedisResult<Option<View>> {
        let mut facts = cmd("SENTINEL");
        facts.arg("MASTER").arg(&self.primary_name);
        let facts = facts.query_async::<std::collections::HashMap<String, String>>(connection).await;
        let epoch = match facts {
            Ok(facts) => facts.get("config-epoch").and_then(|text| text.parse().ok()).unwrap_or(0),
            Err(error) if error.code().is_some() => 0,
            Err(error) => return Err(error),
        };
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.primary_name);
        let answer = question.query_async::<Option<(String, u16)>>(connection).await?;
        Ok(answer.map(|(host, port)| View { epoch, host, port }))
    }
}

fn late() -> RedisError {
    RedisError::from(std::io::Error::new(std::io::ErrorKind::TimedOut, "a sentinel did not answer in time"))
}

/// What each sentinel said last, while there is a connection to it.
#[derive(Debug)]
pub(super) struct Watch {
    views: Mutex<Vec<Option<View>>>,
}

impl Watch {
    pub(super) fn new(sentinels: usize) -> Self {
        Self { views: Mutex::new(vec![None; sentinels]) }
    }

    /// The newest of the views.
    pub(super) fn newest(&self) -> Option<View> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.iter().flatten().max_by_key(|view| view.epoch).cloned()
    }

    /// Notes what a sentinel said; whether that is something else than before.
    fn note(&self, number: usize, view: Option<View>) -> bool {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        match views.get_mut(number) {
            Some(noted) if *noted != view => {
                *noted = view;
                true
            }
            _ => false,
        }
    }

    /// Watches them until the future is dropped; wakes `changed` when one says something new.
    pub(super) async fn run(&self, sentinels: &Sentinels, changed: &Notify) {
        let each = sentinels.addresses.iter().enumerate();
        join_all(each.map(|(number, address)| self.run_one(number, address, sentinels, changed))).await;
    }

    async fn run_one(&self, number: usize, address: &ConnectionAddr, sentinels: &Sentinels, changed: &Notify) {
        let mut pauses = backoff_up_to(PAUSE_MAX);
        loop {
            let wake = Arc::new(Notify::new());
            if let Ok(mut connection) = Self::listen(address, sentinels, &wake).await {
                pauses = backoff_up_to(PAUSE_MAX);
                // Ends when the sentinel does not answer a question.
                while let Ok(Ok(view)) = timeout(EACH_WITHIN * 2, sentinels.question(&mut connection)).await {
                    if self.note(number, view) {
                        changed.notify_one();
                    }
                    let _ = timeout(ASK_EVERY, wake.notified()).await;
                }
            }
            self.note(number, None);
            tokio::time::sleep(pauses.next().unwrap_or(PAUSE_MAX)).await;
        }
    }

    async fn listen(
        address: &ConnectionAddr,
        sentinels: &Sentinels,
        wake: &Arc<Notify>,
    ) -> RedisResult<MultiplexedConnection> {
        let wake = Arc::clone(wake);
        let sender = move |push: PushInfo| -> Result<(), ::redis::aio::SendError> {
            if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
                wake.notify_one();
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(EACH_WITHIN * 2))
            .set_response_timeout(Some(EACH_WITHIN * 2))
            .set_push_sender(sender);
        let client = client(address.clone(), sentinels.login.clone().set_protocol(ProtocolVersion::RESP3))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        connection.subscribe(SWITCHED).await?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, port: u16) -> View {
        View { epoch, host: "127.0.0.1".into(), port }
    }

    #[test]
    fn the_newest_view_counts_and_one_of_a_lost_sentinel_does_not() {
        let watch = Watch::new(3);
        assert_eq!(watch.newest(), None);
        assert!(watch.note(0, Some(view(1, 7))));
        assert!(!watch.note(0, Some(view(1, 7))), "nothing new");
        assert!(watch.note(2, Some(view(2, 8))));
        assert!(watch.note(1, Some(view(1, 7))));
        assert_eq!(watch.newest(), Some(view(2, 8)));
        assert_eq!(watch.newest().unwrap().address(), "127.0.0.1:8");
        // The one that knew more is away: the others are believed again (they may have been made anew).
        assert!(watch.note(2, None));
        assert_eq!(watch.newest().unwrap().epoch, 1);
    }
}
