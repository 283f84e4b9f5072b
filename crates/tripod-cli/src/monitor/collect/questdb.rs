//! Asks a QuestDB.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tripod::Error;
use tripod::config::QuestDb;
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::{TapeLook, TapeSurvey};

use super::{Asked, Asks};

#[derive(Debug)]
pub(super) struct Asker {
    /// It asks on a thread that may wait.
    survey: Arc<Mutex<TapeSurvey>>,
}

impl Asker {
    pub(super) fn new(server: &QuestDb, answer_within: Duration) -> tripod::Result<Self> {
        let http = QuestDbHttp::new(server, answer_within)?;
        Ok(Self { survey: Arc::new(Mutex::new(TapeSurvey::new(http))) })
    }
}

impl Asks for Asker {
    type Facts = TapeLook;

    async fn ask(&mut self) -> tripod::Result<Asked<TapeLook>> {
        let survey = Arc::clone(&self.survey);
        let looked = tokio::task::spawn_blocking(move || survey.lock().unwrap_or_else(PoisonError::into_inner).look());
        let look = looked.await.unwrap_or(Err(Error::Closed("the thread that asks QuestDB")))?;
        Ok(Asked {
            version: look.version.clone(),
            latency: look.took,
            clock_skew: look.clock_skew,
            wrong: wrong_with(&look),
            facts: look,
        })
    }
}

fn wrong_with(look: &TapeLook) -> Option<String> {
    let suspended: Vec<_> = look.tables.iter().filter(|one| one.suspended).map(|one| one.name.as_str()).collect();
    let invalid: Vec<_> = look.views.iter().filter(|one| one.invalid.is_some()).map(|one| one.name.as_str()).collect();
    let said = |what: &str, names: &[&str]| (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")));
    let all: Vec<_> =
        [said("suspended", &suspended), said("views that follow no more", &invalid)].into_iter().flatten().collect();
    (!all.is_empty()).then(|| all.join("; "))
}
