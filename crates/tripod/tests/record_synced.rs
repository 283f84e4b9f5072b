//! `record_synced`: many wait at once, each hears of its own row, and a row that is wrong is told as `record()` tells it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::Duration;

use tripod::config::Config;
use tripod::tape::tables::Attempt;
use tripod::tape::{Recorded, Tape};
use tripod::{Error, Timestamp, Token, Uuid};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_for_the_disk_are_all_kept_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.journal.dir = dir.path().to_owned();
    config.questdb.clear();
    let tape = Tape::open(&config).unwrap();
    let recorder = tape.recorder();
    let token = Token::new("SOLUSDT").unwrap();
    let row = |n: u128| Attempt::new(Uuid::from_u128(n), Timestamp::now(), "triangle", "raydium", token);
    let waiting: Vec<_> = (0..200).map(|n| tokio::spawn(recorder.record_synced(&row(n), LONG))).collect();
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap(), Recorded::Kept);
    }
    let wrong = Attempt { strategy: "", ..row(200) };
    assert!(matches!(recorder.record_synced(&wrong, LONG).await, Err(Error::Invalid { .. })));
    assert_eq!(tape.close(LONG).troubles, Vec::<String>::new());
    assert!(matches!(recorder.record_synced(&row(201), LONG).await, Err(Error::Closed(_))));
}
