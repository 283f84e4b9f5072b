//! What the questions answer, on real mints and hand-made ones.

use tripod::Error;
use tripod::tokens::{Address, Hit, Observation, Question, TOKEN_2022_PROGRAM, Tokens, decode};

use super::samples::{BERN, MEGA, PYUSD, USDC, account, accounts};
use crate::postgres_server::Database;

const PAXOS: &str = "2apBGMsS6ti9RyF5TwQTDswXBWskiJP2LD4cUEDqYJjk";
const MSTRX: &str = "XsP7xzNPvEHS1m6qfanPUGjNmdnmsLKEoNAnHjdxxyZ";

fn mints(hits: &[Hit]) -> Vec<String> {
    let mut mints: Vec<String> = hits.iter().map(|hit| hit.mint.to_string()).collect();
    mints.sort();
    mints
}

fn sorted(mints: &[&str]) -> Vec<String> {
    let mut mints: Vec<String> = mints.iter().map(|mint| (*mint).to_owned()).collect();
    mints.sort();
    mints
}

/// Hand-made: USDC's base with these entries.
fn made(address: u8, entries: &[(u16, Vec<u8>)]) -> Observation {
    let mut data = account(USDC).data;
    data.resize(165, 0);
    data.push(1);
    for (number, value) in entries {
        data.extend(number.to_le_bytes());
        data.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        data.extend(value);
    }
    let mint = decode(&TOKEN_2022_PROGRAM, &data).unwrap();
    Observation { address: Address::new_from_array([address; 32]), mint, slot: 1, write_version: 0 }
}

#[tokio::test]
async fn who_has_power_over_what_and_what_it_costs() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    let mut seen: Vec<Observation> = accounts().iter().map(|account| account.seen_at(10)).collect();
    let member = [vec![1; 32], vec![77; 32], vec![0; 8]].concat();
    seen.push(made(1, &[(26, [vec![8; 32], vec![1]].concat()), (99, vec![1])]));
    seen.push(made(2, &[(23, member), (14, [vec![0; 32], vec![9; 32]].concat())]));
    tokens.store(&seen, "rpc").await.unwrap();
    let ask = async |question| tokens.find(question, None, 100).await.unwrap();
    let key = |text: &str| -> Address { text.parse().unwrap() };
    let of = |byte: u8| Address::new_from_array([byte; 32]);

    assert_eq!(mints(&ask(Question::Authority(key(PAXOS))).await), [PYUSD]);
    let usdc_freezer = account(USDC).mint().freeze_authority.unwrap();
    let frozen_by = sorted(&[USDC, &of(1).to_string(), &of(2).to_string()]);
    assert_eq!(mints(&ask(Question::Authority(usdc_freezer)).await), frozen_by, "the two that were made from it, too");
    assert_eq!(mints(&ask(Question::Authority(of(8))).await), [of(1).to_string()], "who may pause");
    assert_eq!(mints(&ask(Question::PermanentDelegate(key(PAXOS))).await), [PYUSD]);
    assert_eq!(mints(&ask(Question::HookProgram(key(PAXOS))).await), [""; 0], "its authority is not its program");
    assert_eq!(mints(&ask(Question::HookProgram(of(9))).await), [of(2).to_string()]);
    assert_eq!(mints(&ask(Question::HookProgram(key(MEGA))).await), [MEGA]);
    assert_eq!(mints(&ask(Question::Paused).await), [of(1).to_string()], "MSTRx could be, and is not");
    assert_eq!(mints(&ask(Question::MembersOf(of(77))).await), [of(2).to_string()]);
    assert_eq!(mints(&ask(Question::Unread).await), [of(1).to_string()]);
    assert_eq!(mints(&ask(Question::Extension(99)).await), [of(1).to_string()]);
    assert_eq!(mints(&ask(Question::Extension(26)).await), sorted(&[MSTRX, &of(1).to_string()]));
    let fee = async |bps, epoch| mints(&ask(Question::FeeAbove { bps, epoch }).await);
    assert_eq!(fee(419, 697).await, [BERN]);
    assert_eq!(fee(420, 697).await, [""; 0], "above, not from");
    assert_eq!(fee(269, 698).await, [""; 0], "269 from epoch 698 on");
    assert_eq!(fee(268, u64::MAX).await, [BERN]);
    assert_eq!(fee(9, 700).await, sorted(&[BERN, MEGA]));
    let error = tokens.find(Question::FeeAbove { bps: 10_000, epoch: 1 }, None, 1).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");

    // Page by page it is the same.
    for question in [Question::Extension(18), Question::Authority(usdc_freezer)] {
        let whole = ask(question).await;
        assert!(whole.len() >= 3 && whole.is_sorted_by(|a, b| a.mint < b.mint));
        let mut paged = Vec::new();
        while let [hit] = &tokens.find(question, paged.last().map(|hit: &Hit| &hit.mint), 1).await.unwrap()[..] {
            paged.push(hit.clone());
        }
        assert_eq!(paged, whole);
    }
}

#[tokio::test]
async fn a_name_is_found_by_a_part_whatever_stands_in_it() {
    let database = Database::migrated().await;
    let tokens = Tokens::new(database.bot());
    assert!(tokens.names_are_indexed().await.unwrap());
    let list = |name: &str, symbol: &str, byte: u8| tripod::tokens::Listing {
        mint: Address::new_from_array([byte; 32]),
        decimals: 6,
        name: Some(name.to_owned()),
        symbol: Some(symbol.to_owned()),
    };
    let listings = [
        list("100% Dog_e", "DOGE", 1),
        list("1000 Dogs Eat", "DOGS", 2),
        list("back\\slash", "BS", 3),
        list("The Very Long Dog Coin", "X", 4),
        list("Zebra", "dog", 5),
        list("Ünïcode dog", "Ü", 6),
    ];
    tokens.store_listings(&listings, "list:x").await.unwrap();
    let found = async |text: &str| -> Vec<(u8, String)> {
        let hits = tokens.search(text, 100).await.unwrap();
        hits.iter().map(|hit| (hit.mint.to_bytes()[0], hit.matched.clone())).collect()
    };
    let of = |hits: &[(u8, &str)]| -> Vec<(u8, String)> { hits.iter().map(|(m, w)| (*m, (*w).to_owned())).collect() };
    let all = of(&[(5, "symbol"), (1, "prefix"), (2, "prefix"), (6, "name"), (4, "name")]);
    assert_eq!(found("DOG").await, all, "the symbol, what begins with it, then names, the shorter first");
    assert_eq!(found("0% D").await, of(&[(1, "name")]), "% is a letter here");
    assert_eq!(found("g_e").await, of(&[(1, "name")]), "and so is _");
    assert_eq!(found("k\\s").await, of(&[(3, "name")]));
    assert_eq!(found("ü").await, of(&[(6, "symbol")]));
    assert_eq!(
        found("do").await,
        of(&[(5, "prefix"), (1, "prefix"), (2, "prefix")]),
        "two letters are no part of a name"
    );
    assert!(tokens.search("  ", 5).await.is_err());
    assert_eq!(tokens.search("dog", 2).await.unwrap().len(), 2);
}

/// A server whose administrator may not make the extension.
#[tokio::test]
async fn without_pg_trgm_names_are_still_found_and_the_migration_says_nothing_is_left() {
    let database = Database::migrated().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("DROP EXTENSION pg_trgm CASCADE").await.unwrap();
    let tokens = Tokens::new(database.bot());
    assert!(!tokens.names_are_indexed().await.unwrap());
    tokens.store(&[account(PYUSD).seen_at(1)], "rpc").await.unwrap();
    assert_eq!(mints(&tokens.search("aypal", 5).await.unwrap()), [PYUSD]);
    // It may: then it is planned, and made, with its index.
    let plan = tripod::postgres::migrations::plan(&database.config).await.unwrap();
    let objects: Vec<&str> = plan.iter().map(|step| step.object.as_str()).collect();
    assert_eq!(objects, ["extension pg_trgm", "index tokens_by_name"]);
    // It may not: nothing fails, nothing is planned.
    let name = &database.config.database;
    superuser
        .batch_execute(&format!(
            "ALTER DATABASE {name} OWNER TO CURRENT_USER; REVOKE CREATE ON DATABASE {name} FROM PUBLIC"
        ))
        .await
        .unwrap();
    assert_eq!(tripod::postgres::migrations::plan(&database.config).await.unwrap(), []);
    assert_eq!(tripod::postgres::migrations::apply(&database.config).await.unwrap(), []);
    // Somebody else makes it: the index follows.
    superuser.batch_execute("CREATE EXTENSION pg_trgm").await.unwrap();
    assert_eq!(tripod::postgres::migrations::apply(&database.config).await.unwrap().len(), 1);
    assert!(tokens.names_are_indexed().await.unwrap());
    assert_eq!(mints(&tokens.search("aypal", 5).await.unwrap()), [PYUSD]);
}
