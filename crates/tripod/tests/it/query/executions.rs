//! Executions and attempts: one by its id, those of a span, of a token, those without an end.

use std::time::Duration;

use tripod::tape::query::{Answer, Span, StoredExecution};
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus};
use tripod::{Timestamp, Uuid};

use super::rig::{DAY, Rig, around, full, later, now, token};

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_comes_back_as_it_was_recorded_in_every_column() {
    let rig = Rig::new("queryround");
    let at = now();
    // One id tells its time, one does not, and one tells a time at which nothing is.
    let ids = [Uuid::now_v7(), Uuid::from_u128(5), Uuid::now_v7(), Uuid::from_u128(6)];
    let (attempt, full) = full(Timestamp::now(), ids[0]);
    let bare = Execution::of(&Attempt::new(ids[1], at, "s", "v", token("BONK")), at, ExecutionStatus::Simulated);
    let displaced = Execution { id: ids[2], at: at.checked_sub(DAY * 3).unwrap(), ..full };
    let empty_text = Execution { id: ids[3], error: Some(""), fee_lamports: None, ..full };
    let recorded = [full, bare, displaced, empty_text];
    rig.record(|recorder| {
        recorder.record(&attempt).unwrap();
        for execution in &recorded {
            recorder.record(execution).unwrap();
        }
    });
    let reader = rig.reader(|_| {});
    for execution in &recorded {
        let found = reader.execution(execution.id).await.unwrap().unwrap();
        assert_eq!(found.as_row(), *execution);
    }
    assert_eq!(reader.execution(Uuid::now_v7()).await.unwrap(), None);
    assert_eq!(reader.execution(Uuid::from_u128(99)).await.unwrap(), None);

    let exactly = |from, until| Span::new(from, until).unwrap();
    let next = |at| later(at, Duration::from_nanos(1));
    let one = reader.executions_in(exactly(bare.at, next(bare.at))).await.unwrap();
    assert_eq!(one.rows.iter().map(|row| row.as_row()).collect::<Vec<_>>(), [bare], "a span of one nanosecond");
    assert!(
        reader
            .executions_in(exactly(next(bare.at), later(bare.at, Duration::from_secs(1))))
            .await
            .unwrap()
            .rows
            .is_empty()
    );
    let all = reader.executions_in(Span::last(DAY * 5)).await.unwrap();
    assert_eq!(all.rows.iter().map(|row| row.id).take(2).collect::<Vec<_>>(), [displaced.id, bare.id], "oldest first");
    assert_eq!((all.rows.len(), all.truncated), (4, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_executions_of_a_token_are_the_newest_and_the_cut_is_said() {
    let rig = Rig::new("querylast");
    let base = now();
    rig.record(|recorder| {
        for n in 0..50_u32 {
            let name = if n % 2 == 0 { "SOL" } else { "JUP" };
            let at = later(base, Duration::from_nanos(u64::from(n)));
            let attempt = Attempt::new(Uuid::from_u128(n.into()), at, "s", "v", token(name));
            recorder.record(&Execution::of(&attempt, at, ExecutionStatus::Landed)).unwrap();
        }
    });
    let reader = rig.reader(|limits| limits.rows_max = 20);
    let ids = |answer: &Answer<StoredExecution>| answer.rows.iter().map(|row| row.id.as_u128()).collect::<Vec<_>>();
    let last = reader.executions_of(token("SOL"), 3).await.unwrap();
    assert_eq!((ids(&last), last.truncated), (vec![48, 46, 44], true));
    let limited = reader.executions_of(token("JUP"), 1_000).await.unwrap();
    assert_eq!((ids(&limited)[19], limited.rows.len(), limited.truncated), (11, 20, true), "the reader's own limit");
    let span = reader.executions_in(around(base)).await.unwrap();
    assert_eq!((ids(&span), span.truncated), ((0..20).collect(), true));
    let all = rig.reader(|limits| limits.rows_max = 50).executions_in(around(base)).await.unwrap();
    assert_eq!((all.rows.len(), all.truncated), (50, false), "exactly the limit is not cut");
    assert!(reader.executions_of(token("none"), 5).await.unwrap().rows.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_without_an_end_are_those_whose_execution_is_missing() {
    let rig = Rig::new("queryopen");
    let base = now();
    let (with_all, _) = full(later(base, Duration::from_secs(7)), Uuid::from_u128(7));
    rig.record(|recorder| {
        for n in 0..20_u64 {
            let at = later(base, Duration::from_secs(n));
            let attempt = match n {
                7 => with_all,
                _ => Attempt::new(Uuid::from_u128(n.into()), at, "s", "v", token("SOL")),
            };
            recorder.record(&attempt).unwrap();
            if n % 3 != 1 {
                // Long after, and even before by a clock that was set back.
                let end = if n == 3 { at.checked_sub(Duration::from_secs(30)).unwrap() } else { later(at, DAY / 2) };
                recorder.record(&Execution::of(&attempt, end, ExecutionStatus::Landed)).unwrap();
            }
        }
    });
    let reader = rig.reader(|_| {});
    let open = reader.attempts_without_end(around(base)).await.unwrap();
    let ids: Vec<_> = open.rows.iter().map(|row| row.id.as_u128()).collect();
    assert_eq!((ids, open.truncated), (vec![1, 4, 7, 10, 13, 16, 19], false));
    assert_eq!(open.rows[2].as_row(), with_all);
    let part = Span::new(later(base, Duration::from_secs(4)), later(base, Duration::from_secs(10))).unwrap();
    let ids: Vec<_> =
        reader.attempts_without_end(part).await.unwrap().rows.iter().map(|row| row.id.as_u128()).collect();
    assert_eq!(ids, [4, 7], "from is included, until is not");
}
