//! The proof on a real QuestDB with rows that are wrong on purpose: a proof that cannot fail proves nothing.

use std::time::Duration;

use tripod::Config;
use tripod::tape::questdb::QuestDbHttp;
use tripod_stack::{Servers, TestStack};

use super::super::survey::survey;
use super::*;

struct Server(QuestDbHttp);

impl Ask for Server {
    fn ask(&self, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
        Ok(self.0.exec(sql)?.rows)
    }
}

/// Three trades of one market; the table is made by hand and has no keys, so that it can hold what must not be.
const TABLE: &str = "CREATE TABLE market_trades (at TIMESTAMP_NS, venue SYMBOL, token SYMBOL, trade_id VARCHAR, \
                     side SYMBOL, price DECIMAL(38,18), size DECIMAL(38,18), slot DECIMAL(20,0), \
                     received_at TIMESTAMP_NS) TIMESTAMP(at) PARTITION BY DAY BYPASS WAL";

fn insert(server: &Server, at: &str, id: &str, price: &str) {
    let millis = at.parse::<Timestamp>().unwrap().as_millis();
    server
        .ask(&format!(
            "INSERT INTO market_trades VALUES ('{at}', 'v', 'SOL', '{id}', 'buy', {price}m, 1.5m, {millis}m, NULL)"
        ))
        .unwrap();
}

#[test]
fn what_is_lost_doubled_changed_or_foreign_on_the_server_is_found() {
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let config = Config::load(stack.config_path()).unwrap();
    let server = Server(QuestDbHttp::new(&config.questdb[0], Duration::from_secs(10)).unwrap());
    server.ask(TABLE).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trades.csv");
    let text = "time_exchange,time_received,exchange,symbol,trade_id,price,amount,side\n\
                2025-01-01T00:00:00.000000001Z,x,v,SOL,a,143.50,1.5,Buy\n\
                2025-01-01T00:00:01Z,x,v,SOL,b,0.000000000000000001,1.50,Buy\n\
                2025-01-01T00:00:02Z,x,v,SOL,c,9999999999.9,1.5,Buy\n";
    std::fs::write(&path, text).unwrap();
    let script = Script::new(vec![path], "2026-11-23T10:00:00.000000001Z".parse().unwrap(), None).unwrap();
    let survey = survey(&script, false).unwrap();
    let look = || {
        let proof = prove(&server, "", &script, &survey).unwrap().remove(0);
        let v = &proof.verdict;
        (proof.is_true(), [v.visible, v.lost, v.doubled, v.different, v.foreign], proof.adds_up())
    };

    assert_eq!(look(), (false, [0, 3, 0, 0, 0], true), "nothing is there");
    insert(&server, "2026-11-23T10:00:00.000000001Z", "a", "143.5");
    insert(&server, "2026-11-23T10:00:01.000000000Z", "b", "0.000000000000000001");
    assert_eq!(look(), (false, [2, 1, 0, 0, 0], true), "one is missing");
    insert(&server, "2026-11-23T10:00:02.000000000Z", "c", "9999999999.9");
    assert_eq!(look(), (true, [3, 0, 0, 0, 0], true));
    insert(&server, "2026-11-23T10:00:01.500000000Z", "z", "7");
    assert_eq!(look(), (true, [3, 0, 0, 0, 1], true), "another's row is no fault");
    server.ask("UPDATE market_trades SET price = 0.000000000000000002m WHERE trade_id = 'b'").unwrap();
    assert_eq!(look(), (false, [3, 0, 0, 1, 1], true), "the eighteenth digit is another");
    server.ask("UPDATE market_trades SET price = 0.000000000000000001m WHERE trade_id = 'b'").unwrap();
    insert(&server, "2026-11-23T10:00:02.000000000Z", "c", "9999999999.9");
    assert_eq!(look(), (false, [3, 0, 1, 0, 1], true), "one is there twice");
}
