//! Tokens and settings on a real PostgreSQL; what was written is asked of the server by the library.

use std::path::Path;

use serde_json::{Value, json};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, run, sample};

const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const PYUSD: &str = "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo";
const BERN: &str = "CKfatsPMUf8SkiURsDXs7eK6GWb4Jsd6UDbs7twMCWxo";
const MEGA: &str = "5gSwsLGzyCwgwPJSnxjsQCaFeE19ZFaibHMLky9TDFim";
const SAMPLES: usize = 8;

/// PostgreSQL alone, at the schema: `tripod migrate` wants all servers.
pub(crate) fn stack() -> TestStack {
    let stack = TestStack::start(Servers::only(ServerName::Postgres)).unwrap();
    let config = tripod::Config::local(stack.data_dir()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tripod::postgres::migrations::apply(&config.postgres)).unwrap();
    stack
}

pub(crate) fn tripod(stack: &TestStack, arguments: &[&str]) -> Said {
    let all: Vec<&str> = ["--data", "."].iter().chain(arguments).copied().collect();
    run(stack.data_dir(), &all)
}

pub(crate) fn done(stack: &TestStack, arguments: &[&str]) -> Value {
    let said = tripod(stack, arguments);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.json()
}

fn mints() -> Vec<String> {
    let mut files: Vec<String> = std::fs::read_dir(sample("mints"))
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert_eq!(files.len(), SAMPLES);
    files
}

fn import(stack: &TestStack, slot: &str) -> Value {
    let files = mints();
    let arguments: Vec<&str> =
        ["tokens", "import", "--json", "--slot", slot].into_iter().chain(files.iter().map(String::as_str)).collect();
    done(stack, &arguments)
}

fn total(report: &Value, count: &str) -> u64 {
    report["files"].as_array().unwrap().iter().map(|file| file[count].as_u64().unwrap()).sum()
}

fn codes(assessed: &Value) -> Vec<&str> {
    assessed["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

#[test]
fn what_is_imported_is_shown_whole_and_judged_by_epoch() {
    let stack = stack();
    assert_eq!(total(&import(&stack, "300000000"), "new"), SAMPLES as u64);
    assert_eq!(total(&import(&stack, "300000000"), "unchanged"), SAMPLES as u64);
    assert_eq!(total(&import(&stack, "299999999"), "older"), SAMPLES as u64);

    let shown = done(&stack, &["tokens", "show", PYUSD, "--json"]);
    let file: Value = serde_json::from_slice(&std::fs::read(sample(&format!("mints/{PYUSD}.json"))).unwrap()).unwrap();
    for (field, wanted) in [
        ("mint", json!(PYUSD)),
        ("program", file["account"]["owner"].clone()),
        ("decimals", json!(6)),
        ("supply", json!("45000301784205")),
        ("mint_authority", json!("5gUuDFHswKi2QMA1qJHf6FEVhNCrHnyAdfWniMaUUPE4")),
        ("freeze_authority", json!("2apBGMsS6ti9RyF5TwQTDswXBWskiJP2LD4cUEDqYJjk")),
        ("name", json!("PayPal USD")),
        ("symbol", json!("PYUSD")),
        ("slot", json!("300000000")),
    ] {
        assert_eq!(shown[field], wanted, "{field}");
    }
    let names: Vec<&str> =
        shown["extensions"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "MintCloseAuthority",
            "PermanentDelegate",
            "TransferFeeConfig",
            "ConfidentialTransferMint",
            "ConfidentialTransferFeeConfig",
            "TransferHook",
            "MetadataPointer",
            "TokenMetadata"
        ]
    );
    let fee = &shown["extensions"][2];
    assert_eq!((&fee["type"], &fee["decode_error"]), (&json!(1), &Value::Null));
    assert_eq!(
        fee["fields"]["newerTransferFee"],
        json!({"epoch": "605", "maximumFee": "0", "transferFeeBasisPoints": 0})
    );
    let words = tripod(&stack, &["tokens", "show", PYUSD]);
    assert!(words.out.contains("PermanentDelegate") && words.out.contains("newerTransferFee.epoch"), "{words:?}");

    let before = done(&stack, &["tokens", "assess", BERN, "--epoch", "697", "--at", "2024-12-01T00:00:00Z", "--json"]);
    assert_eq!((&before["epoch"], &before["verdict"]), (&json!("697"), &json!("costly")));
    assert_eq!(before["at"], "2024-12-01T00:00:00.000000000Z");
    assert_eq!(before["transfer_fee"]["bps"], 420);
    assert_eq!(before["transfer_fee"]["max"], "3906250000000000000");
    assert_eq!(codes(&before), ["transfer_fee", "transfer_fee_next", "transfer_fee_authority"]);
    let from = done(&stack, &["tokens", "assess", BERN, "--epoch", "698", "--json"]);
    assert_eq!(from["transfer_fee"]["bps"], 269);
    assert_eq!(done(&stack, &["tokens", "assess", USDC, "--json"])["transfer_fee"], Value::Null);
    let refused = tripod(&stack, &["tokens", "assess", MEGA, "--json"]);
    assert_eq!((refused.code, &refused.json()["verdict"]), (Some(1), &json!("refused")), "{refused:?}");
    assert!(codes(&refused.json()).contains(&"non_transferable"), "{refused:?}");
}

#[test]
fn lists_are_searched_changes_are_kept_and_the_policy_is_a_setting() {
    let stack = stack();
    import(&stack, "10");
    let list = sample("tokens/solana.tokenlist.sample.json").display().to_string();
    let listed = done(&stack, &["tokens", "import", &list, "--json"]);
    let file = &listed["files"][0];
    assert_eq!((&file["kind"], &file["other_chains"]), (&json!("token list"), &json!(20)));
    assert_eq!(file["refused"].as_array().unwrap().len(), 3, "20, 69 and 100 decimals");
    let found = done(&stack, &["tokens", "search", "pyusd", "--json"]);
    assert_eq!((&found["found"][0]["mint"], &found["found"][0]["matched"]), (&json!(PYUSD), &json!("symbol")));
    let by_name = done(&stack, &["tokens", "search", "paypal", "--json"]);
    assert_eq!((&by_name["found"][0]["mint"], &by_name["found"][0]["matched"]), (&json!(PYUSD), &json!("name")));
    let cut = done(&stack, &["tokens", "search", "s", "--limit", "2", "--json"]);
    assert_eq!((cut["found"].as_array().unwrap().len(), &cut["more"]), (2, &json!(true)));
    assert_eq!(tripod(&stack, &["tokens", "search", "no such thing"]).code, Some(1));

    // The same account later, without its extensions and with another authority.
    let answer = json!({"params": [PYUSD], "result": {"context": {"slot": 11}, "value": {
        "owner": "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb",
        "data": [usdc_data(), "base64"]}}});
    std::fs::write(stack.data_dir().join("answer.json"), answer.to_string()).unwrap();
    assert_eq!(total(&done(&stack, &["tokens", "import", "answer.json", "--json"]), "changed"), 1);
    let changes = done(&stack, &["tokens", "changes", PYUSD, "--json"]);
    let authority =
        changes["changes"].as_array().unwrap().iter().find(|change| change["field"] == "mint_authority").unwrap();
    assert_eq!(authority["before"], "5gUuDFHswKi2QMA1qJHf6FEVhNCrHnyAdfWniMaUUPE4");
    assert_eq!(authority["after"], "BJE5MMbqXjVwjAF7oxwPYXnTXDyspzZyt4vwenNw5ruG");
    assert_eq!(authority["slot"], "11");
    assert_eq!(done(&stack, &["tokens", "changes", USDC, "--json"])["changes"], json!([]));

    let unset = tripod(&stack, &["settings", "get", "tokens", "policy"]);
    assert_eq!((unset.code, unset.out.as_str()), (Some(1), ""), "{unset:?}");
    let set = |value: &str, more: &[&str]| {
        let base = ["settings", "set", "tokens", "policy", value, "--why", "a test", "--who", "ada", "--json"];
        tripod(&stack, &base.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let misspelt = set("{\"paused\": \"maybe\"}", &[]);
    assert_eq!(misspelt.code, Some(2), "{misspelt:?}");
    assert_eq!(set("not json", &[]).code, Some(2));
    assert_eq!(set("{\"mint_authority\": \"refused\"}", &[]).json()["revision"], 1);
    let assessed = tripod(&stack, &["tokens", "assess", USDC, "--json"]);
    assert_eq!((assessed.code, &assessed.json()["policy_revision"]), (Some(1), &json!(1)), "{assessed:?}");
    let conflict = set("{}", &["--revision", "7"]);
    assert_eq!(conflict.code, Some(1));
    assert!(conflict.err.contains("hint: read it again"), "{conflict:?}");
    assert_eq!(set("{}", &["--revision", "1"]).json()["revision"], 2);
    assert_eq!(done(&stack, &["tokens", "assess", USDC, "--json"])["verdict"], "tradable");
    let history = done(&stack, &["settings", "history", "tokens", "policy", "--json"]);
    assert_eq!(history["revisions"][0]["before"], json!({"mint_authority": "refused"}));
    assert_eq!(history["revisions"][1]["changed_by"], "ada");
    assert_eq!(done(&stack, &["settings", "get", "tokens", "--json"])["settings"][0]["revision"], 2);
}

fn usdc_data() -> Value {
    let file: Value = serde_json::from_slice(&std::fs::read(sample(&format!("mints/{USDC}.json"))).unwrap()).unwrap();
    file["account"]["data"][0].clone()
}

#[test]
fn what_cannot_be_imported_changes_nothing_and_says_why() {
    let stack = stack();
    let usdc = sample(&format!("mints/{USDC}.json")).display().to_string();
    for (name, text) in [("torn.json", "{\"pubkey\": \"x"), ("other.csv", "a,b\n1,2\n"), ("empty", "")] {
        std::fs::write(stack.data_dir().join(name), text).unwrap();
        let said = tripod(&stack, &["tokens", "import", &usdc, name]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{said:?}");
        assert!(said.err.contains(name) && said.err.contains("\nhint: "), "{said:?}");
    }
    assert_eq!(tripod(&stack, &["tokens", "import", &usdc, "missing.json"]).code, Some(2));
    let unknown = tripod(&stack, &["tokens", "show", USDC]);
    assert_eq!(
        (unknown.code, unknown.out.as_str()),
        (Some(1), ""),
        "a file beside a wrong one was stored: {unknown:?}"
    );
    for command in ["assess", "changes"] {
        assert_eq!(tripod(&stack, &["tokens", command, USDC]).code, Some(1));
    }
    // Nothing of it could be taken.
    std::fs::write(
        stack.data_dir().join("nameless.json"),
        "{\"result\": {\"value\": {\"owner\": \"x\", \"data\": 1}}}",
    )
    .unwrap();
    let nameless = tripod(&stack, &["tokens", "import", "nameless.json", "--json"]);
    assert_eq!(nameless.code, Some(1), "{nameless:?}");
    assert!(nameless.json()["files"][0]["refused"][0]["why"].as_str().unwrap().contains("which account"));
    stack.kill(ServerName::Postgres).unwrap();
    let away = tripod(&stack, &["tokens", "show", USDC]);
    assert_eq!(away.code, Some(3), "{away:?}");
}
