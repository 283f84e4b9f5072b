//! Accounts from a node: what is asked, what is taken, what is asked again, and that no key is ever said.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tripod::tokens::fetch::{Answer, FetchError, Node, NodeOptions};
use tripod::tokens::{Address, Observation};

use super::node::{Reply, StandIn};
use super::samples::{BERN, PYUSD, USDC, account, file_of};

const SECRETS: [&str; 3] = ["LOGINSECRET", "PATHSECRET", "QUERYSECRET"];

fn options() -> NodeOptions {
    let mut options = NodeOptions::default();
    options.pause = Duration::from_millis(1);
    options.attempts = 3;
    options
}

/// As nodes answer: the recorded account of each address, null where there is none.
fn recorded(slot: u64, question: &Value) -> Reply {
    let accounts: Vec<Value> = question["params"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| file_of(address.as_str().unwrap()).map_or(Value::Null, |file| file["account"].clone()))
        .collect();
    let answer = json!({"jsonrpc": "2.0", "result": {"context": {"apiVersion": "2.3.6", "slot": slot}, "value": accounts}, "id": 1});
    ("200 OK", answer.to_string())
}

async fn ask(node: &StandIn, mints: &[Address], options: NodeOptions) -> Result<Answer, FetchError> {
    let asked = Node::new(node.url().into(), options).unwrap().accounts(mints, |why, _| no_secret(why)).await;
    if let Err(error) = &asked {
        no_secret(&format!("{error} {error:?}"));
    }
    asked
}

fn no_secret(text: &str) {
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "{text}");
}

fn mints(names: &[&str]) -> Vec<Address> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[tokio::test]
async fn what_a_node_has_is_taken_with_its_slot_and_what_it_has_not_is_named() {
    let node = StandIn::start(|_, question| recorded(312_247_832, question));
    let nobody = Address::new_from_array([5; 32]).to_string();
    let answer = ask(&node, &mints(&[PYUSD, &nobody, BERN]), options()).await.unwrap();
    let seen: Vec<Observation> = [PYUSD, BERN].map(|name| account(name).seen_at(312_247_832)).into();
    assert_eq!((answer.slot, answer.observations), (312_247_832, seen));
    assert_eq!((answer.refused.len(), answer.refused[0].place, &answer.refused[0].entry), (1, 1, &nobody));
    assert!(answer.refused[0].why.contains("no account"), "{:?}", answer.refused);
    let (path, question) = node.asked().pop().unwrap();
    assert_eq!(path, "/v2/PATHSECRET?api-key=QUERYSECRET");
    assert_eq!(question["method"], "getMultipleAccounts");
    assert_eq!(question["params"], json!([[PYUSD, nobody, BERN], {"encoding": "base64", "commitment": "confirmed"}]));
    assert_eq!(ask(&node, &[], options()).await.unwrap(), Answer::default());
    assert!(matches!(ask(&node, &vec![Address::default(); 101], options()).await, Err(FetchError::Answer { .. })));
    assert_eq!(node.asked().len(), 1, "neither of them was sent");
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
    let error = |code: i64| {
        json!({"jsonrpc": "2.0", "error": {"code": code, "message": "key PATHSECRET: no"}, "id": 1}).to_string()
    };
    for passing in [
        ("429 Too Many Requests\r\nRetry-After: 0", String::new()),
        ("503 Service Unavailable", "<html>".to_owned()),
        ("200 OK", error(-32005)),
        ("200 OK", error(-32016)),
    ] {
        let node =
            StandIn::start(move |number, question| if number < 2 { passing.clone() } else { recorded(7, question) });
        let answer = ask(&node, &mints(&[USDC]), options()).await.unwrap();
        assert_eq!((answer.observations.len(), node.asked().len()), (1, 3));
    }
    for (lasting, word) in [
        (("401 Unauthorized", "no such key QUERYSECRET".to_owned()), "401 no such key ***"),
        (("302 Found\r\nLocation: http://127.0.0.1:9/", String::new()), "302"),
        (("200 OK", error(-32602)), "key ***: no (-32602)"),
        (("200 OK", "<html>".to_owned()), "no JSON"),
        (("200 OK", json!({"result": {"value": []}}).to_string()), "no slot"),
        (("200 OK", json!({"result": {"context": {"slot": 1}, "value": []}}).to_string()), "0 accounts where 1"),
    ] {
        let node = StandIn::start(move |_, _| lasting.clone());
        let error = ask(&node, &mints(&[USDC]), options()).await.unwrap_err();
        assert!(error.to_string().contains(word) && error.to_string().contains(&node.shown()), "{error}");
        assert_eq!(node.asked().len(), 1, "{error}");
    }
    let node = StandIn::start(|_, _| ("500 Internal Server Error", String::new()));
    let error = ask(&node, &mints(&[USDC]), options()).await.unwrap_err();
    let (shown, why) = (node.shown(), "HTTP status 500".to_owned());
    assert_eq!((error, node.asked().len()), (FetchError::Away { node: shown, why, attempts: 3 }, 3));
}

#[tokio::test]
async fn a_node_that_never_answers_and_one_that_is_not_there_end_within_the_deadline() {
    let mut short = options();
    short.attempt_deadline = Duration::from_millis(200);
    let node = StandIn::start(|_, _| ("", String::new()));
    let started = Instant::now();
    let error = ask(&node, &mints(&[USDC]), short).await.unwrap_err();
    assert!(matches!(&error, FetchError::Away { why, .. } if why.contains("no answer within")), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
    let nobody = Node::new("http://127.0.0.1:9/KEYOFNOBODY".to_owned().into(), short).unwrap();
    let error = nobody.accounts(&mints(&[USDC]), |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, FetchError::Away { .. }) && !error.to_string().contains("KEYOFNOBODY"), "{error}");
}
