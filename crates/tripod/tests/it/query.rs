//! Reading back, against a real QuestDB: every answer is compared with what was recorded, digit for digit.

mod candles;
mod executions;
mod failures;
mod rates;
mod rig;

use tripod::tape::tables::Execution;
use tripod::{Error, Uuid};

use rig::{Rig, full, now};

#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_keeps_every_digit_is_cut_where_asked_and_never_writes() {
    let rig = Rig::new("queryplain");
    let (_, execution) = full(now(), Uuid::from_u128(1));
    rig.record(|recorder| {
        recorder.record(&execution).unwrap();
        for n in 2..12 {
            recorder.record(&Execution { id: Uuid::from_u128(n), ..execution }).unwrap();
        }
    });
    let reader = rig.reader(|_| {});
    let exact = "SELECT at, amount_in, realised_price, profit_lamports, error FROM queryplain_executions";
    let table = reader.sql(exact, 3).await.unwrap();
    assert_eq!((table.rows.len(), table.truncated), (3, true));
    let types: Vec<_> = table.columns.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(types, ["TIMESTAMP_NS", "DECIMAL(20,0)", "DECIMAL(38,18)", "LONG", "VARCHAR"]);
    assert_eq!(table.rows[0][0], execution.at.to_string());
    assert_eq!(table.rows[0][1], u64::MAX.to_string());
    assert_eq!(table.rows[0][2], "0.000000000000000001");
    assert_eq!(table.rows[0][3], i64::MAX);
    assert_eq!(table.rows[0][4], execution.error.unwrap());
    let all = reader.sql(exact, 11).await.unwrap();
    assert_eq!((all.rows.len(), all.truncated), (11, false));

    for order in [
        "WITH x AS (SELECT 1) UPDATE queryplain_executions SET profit_lamports = 1",
        "INSERT INTO queryplain_executions(at) VALUES (now())",
        "DROP TABLE queryplain_executions",
    ] {
        assert!(matches!(reader.sql(order, 10).await, Err(Error::Invalid { .. })), "{order}");
    }
    let refused = reader.sql("SELECT 1; DROP TABLE queryplain_executions", 10).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused:?}");
    assert_eq!(reader.sql(exact, 100).await.unwrap(), all, "nothing has changed");
    let wrong = reader.sql("SELECT nothing FROM queryplain_executions", 10).await.unwrap_err();
    assert!(wrong.to_string().contains("nothing"), "not the server's words: {wrong}");
}
