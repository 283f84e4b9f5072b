//! `tokens fetch` against a stand-in for a node, and what `tokens show` makes of every sample.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Map, Value, json};

use crate::run::{Said, sample};
use crate::tokens::{done, import, stack, tripod};

const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const BERN: &str = "CKfatsPMUf8SkiURsDXs7eK6GWb4Jsd6UDbs7twMCWxo";
const PYUSD: &str = "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo";
const NOBODY: &str = "11111111111111111111111111111112";

/// A node that answers as recorded, but the question of number `away` and those behind it, which it answers with 429.
fn node(slot: u64, away: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            let mut reader = BufReader::new(&connection);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let (name, value) = line.trim().split_once(':').unwrap_or_default();
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let question: Value = serde_json::from_slice(&body).unwrap();
            let (head, body) = if number < away {
                ("200 OK", recorded(slot, &question).to_string())
            } else {
                ("429 Too Many Requests\r\nRetry-After: 0", String::new())
            };
            let text = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            connection.write_all(text.as_bytes()).unwrap();
        }
    });
    format!("http://ada:LOGINSECRET@{address}/v2/PATHSECRET?api-key=QUERYSECRET")
}

fn recorded(slot: u64, question: &Value) -> Value {
    let account = |address: &Value| -> Value {
        let file = std::fs::read(sample(&format!("mints/{}.json", address.as_str().unwrap())));
        file.map_or(Value::Null, |file| serde_json::from_slice::<Value>(&file).unwrap()["account"].clone())
    };
    let accounts: Vec<Value> = question["params"][0].as_array().unwrap().iter().map(account).collect();
    json!({"jsonrpc": "2.0", "result": {"context": {"apiVersion": "2.3.6", "slot": slot}, "value": accounts}, "id": 1})
}

fn fetch(data: &std::path::Path, url: &str, arguments: &[&str], stdin: &str) -> Said {
    let mut child = crate::run::tripod()
        .current_dir(data)
        .args(["--data", ".", "tokens", "fetch", "-vvv"])
        .args(arguments)
        .env("TRIPOD_RPC_URL", url)
        .env_remove("http_proxy")
        .env_remove("HTTP_PROXY")
        .env_remove("all_proxy")
        .env_remove("ALL_PROXY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let said: Said = child.wait_with_output().unwrap().into();
    for secret in ["LOGINSECRET", "PATHSECRET", "QUERYSECRET"] {
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{said:?}");
    }
    said
}

#[test]
fn accounts_come_from_a_node_and_the_summary_names_each() {
    let stack = stack();
    let data = stack.data_dir();
    let list = format!("# majors\n{BERN}   # with a fee\n\nnot an address\n{USDC}\n");
    std::fs::write(data.join("mints.txt"), &list).unwrap();
    let all = fetch(data, &node(300, usize::MAX), &["--json", PYUSD, NOBODY, "--from", "mints.txt"], "");
    let report = all.json();
    let counts = ["named", "new", "changed", "unchanged", "older", "repeated", "skipped"].map(|c| report[c].clone());
    assert_eq!((all.code, counts), (Some(1), [4, 3, 0, 0, 0, 0, 0].map(|n| json!(n))), "{all:?}");
    let refused: Vec<(u64, &str)> = report["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["place"].as_u64().unwrap(), r["entry"].as_str().unwrap()))
        .collect();
    assert_eq!(refused, [(3, "not an address"), (1, NOBODY)]);
    assert_eq!((&report["first_slot"], &report["stopped"]), (&json!("300"), &Value::Null));
    let shown = done(&stack, &["tokens", "show", BERN, "--json"]);
    assert_eq!((&shown["slot"], &shown["decimals"]), (&json!("300"), &json!(5)));
    assert!(shown["source"].as_str().unwrap().starts_with("rpc:http://127.0.0.1:"), "{shown}");

    // Again, from stdin; then a node that is behind; then nothing is left to ask.
    let again = fetch(data, &node(300, usize::MAX), &["--json", "--from", "-"], &format!("{BERN}\n{BERN}\n{USDC}"));
    assert_eq!((again.code, &again.json()["unchanged"], &again.json()["repeated"]), (Some(0), &json!(2), &json!(1)));
    let behind = fetch(data, &node(299, usize::MAX), &["--json", BERN], "");
    assert_eq!((behind.code, &behind.json()["older"]), (Some(0), &json!(1)), "{behind:?}");
    let words = fetch(data, &node(300, 0), &["--since", "300", BERN, USDC], "");
    assert!(words.code == Some(0) && words.out.contains("skipped"), "nobody was asked: {words:?}");
}

#[test]
fn a_fetch_that_was_cut_short_goes_on_where_it_was() {
    let stack = stack();
    let data = stack.data_dir();
    let mints = [PYUSD, BERN, USDC];
    let cut = fetch(data, &node(300, 2), &[&["--json", "--batch", "1"][..], &mints[..]].concat(), "");
    let report = cut.json();
    assert_eq!((cut.code, &report["new"], &report["first_slot"]), (Some(3), &json!(2), &json!("300")), "{cut:?}");
    assert!(report["stopped"].as_str().unwrap().contains("HTTP status 429"), "{cut:?}");
    assert!(cut.err.contains("--since 300"), "{cut:?}");
    let rest =
        fetch(data, &node(301, 1), &[&["--json", "--batch", "1", "--since", "300"][..], &mints[..]].concat(), "");
    let report = rest.json();
    assert_eq!((rest.code, &report["new"], &report["skipped"]), (Some(0), &json!(1), &json!(2)), "{rest:?}");
    // Nothing at all, and no node.
    let none = fetch(data, &node(302, 0), &["--json", USDC], "");
    assert_eq!((none.code, &none.json()["error"]["exit"]), (Some(3), &json!(3)), "{none:?}");
    let wrong = fetch(data, "mainnet.example.com/PATHSECRET", &[USDC], "");
    assert!(wrong.code == Some(2) && wrong.err.contains("TRIPOD_RPC_URL"), "{wrong:?}");
}

/// `decoded.json`: what the official decoder (spl-token-2022-interface 4.0.0) says of each sample, in the names that RPC
/// nodes use.
#[test]
fn every_sample_is_shown_as_the_official_decoder_reads_it() {
    let stack = stack();
    import(&stack, "10");
    let decoded: Map<String, Value> = serde_json::from_str(include_str!("decoded.json")).unwrap();
    assert_eq!(decoded.len(), 8);
    for (mint, wanted) in &decoded {
        let shown = done(&stack, &["tokens", "show", mint, "--json"]);
        for field in ["decimals", "supply", "mint_authority", "freeze_authority"] {
            assert_eq!(shown[field], wanted[field], "{mint} {field}");
        }
        let (have, want) = (shown["extensions"].as_array().unwrap(), wanted["extensions"].as_array().unwrap());
        assert_eq!(have.len(), want.len(), "{mint}");
        for (have, want) in have.iter().zip(want) {
            assert_eq!((&have["name"], &have["decode_error"]), (&want["name"], &Value::Null), "{mint}");
            for (field, value) in want["fields"].as_object().unwrap() {
                assert_eq!(have["fields"][field], *value, "{mint} {} {field}", want["name"]);
            }
        }
    }
}

#[test]
fn tokens_are_found_by_what_is_on_the_chain() {
    let stack = stack();
    import(&stack, "10");
    let found = |arguments: &[&str]| -> Vec<String> {
        let said = tripod(&stack, &[&["tokens", "search", "--json"][..], arguments].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        let hits = said.json()["found"].as_array().unwrap().clone();
        hits.iter().map(|hit| hit["mint"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found(&["--delegate", "2apBGMsS6ti9RyF5TwQTDswXBWskiJP2LD4cUEDqYJjk"]), [PYUSD]);
    assert_eq!(found(&["--fee-above", "300", "--epoch", "697"]), [BERN]);
    assert_eq!(found(&["--extension", "transferhook"]), found(&["--extension", "14"]));
    let all = found(&["--extension", "14"]);
    assert_eq!(found(&["--extension", "14", "--after", &all[0]]), all[1..]);
    assert_eq!(tripod(&stack, &["tokens", "search", "--paused"]).code, Some(1));
    for wrong in
        [&["tokens", "search"][..], &["tokens", "search", "x", "--paused"], &["tokens", "search", "--hook", "x"]]
    {
        assert_eq!(tripod(&stack, wrong).code, Some(2), "{wrong:?}");
    }
}
