//! What stands in scripts and in people's fingers: help, usage errors, refusals, exit codes. No server.

use std::io::Read as _;
use std::process::Stdio;

use crate::run::{run, tripod};

#[test]
fn help_lists_what_works_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("help", run(dir.path(), &["--help"]).golden(dir.path()));
    for command in [
        "up", "down", "status", "monitor", "migrate", "replay", "tape", "journal", "deliver", "drill", "bench", "tokens",
        "events", "settings", "prices", "signals", "config",
    ] {
        insta::assert_snapshot!(format!("help-{command}"), run(dir.path(), &[command, "--help"]).golden(dir.path()));
    }
    for command in [
        &["tape", "ls"][..],
        &["tape", "query"],
        &["tape", "export"],
        &["tape", "retention"],
        &["journal", "ls"],
        &["journal", "verify"],
        &["journal", "quarantine"],
        &["journal", "quarantine", "drop"],
        &["tokens", "show"],
        &["tokens", "assess"],
        &["tokens", "search"],
        &["tokens", "import"],
        &["tokens", "fetch"],
        &["tokens", "changes"],
        &["events", "tail"],
        &["events", "groups"],
        &["events", "redrive"],
        &["events", "publish"],
        &["settings", "get"],
        &["settings", "set"],
        &["settings", "history"],
        &["prices", "get"],
        &["prices", "watch"],
        &["signals", "watch"],
        &["settings", "diff"],
        &["settings", "rollback"],
        &["settings", "watch"],
        &["settings", "bots"],
    ] {
        let name = format!("help-{}", command.join("-"));
        insta::assert_snapshot!(name, run(dir.path(), &[command, &["--help"]].concat()).golden(dir.path()));
    }
}

#[test]
fn wrong_usage_says_what_and_exits_2() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 8] = [
        ("usage-unknown-command", &["fly"]),
        ("usage-no-file", &["replay"]),
        ("usage-rate", &["replay", "x.csv", "--rate", "fast"]),
        ("usage-time", &["replay", "x.csv", "--start-at", "yesterday"]),
        ("usage-drill-name", &["drill", "run", "earthquake"]),
        ("usage-drill-rounds", &["drill", "run", "kill-bot", "--rounds", "0"]),
        ("usage-mint", &["tokens", "show", "USDC"]),
        ("usage-up-with-config", &["up", "--config", "x.toml"]),
    ];
    for (name, arguments) in cases {
        let said = run(dir.path(), arguments);
        assert_eq!(said.code, Some(2), "{said:?}");
        insta::assert_snapshot!(name, said.golden(dir.path()));
    }
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "wrong usage left something behind");
}

#[test]
fn every_command_says_what_to_do_where_there_is_no_stack() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &["status"][..],
        &["migrate"],
        &["tape", "ls"],
        &["journal", "verify"],
        &["deliver"],
        &["monitor"],
        &["drill", "run", "kill-bot"],
        &["bench", "tape"],
        &["bench", "prices"],
        &["drill", "run", "slow-network"],
        &["prices", "get", "SOL"],
        &["signals", "watch", "x"],
        &["settings", "get", "x"],
        &["config", "check"],
    ] {
        let said = run(dir.path(), arguments);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}: {said:?}");
        insta::assert_snapshot!("no-stack", said.golden(dir.path()));
    }
    let said = run(dir.path(), &["config", "show", "--json"]);
    assert_eq!((said.code, &said.json()["error"]["exit"]), (Some(2), &serde_json::json!(2)), "{said:?}");
    let down = run(dir.path(), &["down", "--json"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(down.json(), serde_json::json!({"stopped": [], "wiped": false}));
}

#[test]
fn an_error_is_one_json_document_too_and_its_words_stay_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["--json", "status"][..], &["replay", "no.csv", "--json"], &["fly", "--json"]] {
        let said = run(dir.path(), arguments);
        let error = &said.json()["error"];
        assert_eq!((said.code, &error["exit"]), (Some(2), &serde_json::json!(2)), "{said:?}");
        for words in ["message", "hint"] {
            let words = error[words].as_str().unwrap();
            assert!(!words.is_empty() && said.err.contains(words), "{words}: {said:?}");
        }
    }
}

#[test]
fn the_drills_are_listed_with_what_each_promises() {
    let dir = tempfile::tempdir().unwrap();
    insta::assert_snapshot!("drill-ls", run(dir.path(), &["drill", "ls"]).golden(dir.path()));
    let listed = run(dir.path(), &["drill", "ls", "--json"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|drill| drill["drill"].as_str().unwrap()).collect();
    let all = [
        "kill-bot",
        "kill-questdb",
        "kill-both",
        "poison-row",
        "suspend-table",
        "fill-disk",
        "outage",
        "kill-redis-primary",
        "trim-unread",
        "slow-network",
        "stall-postgres",
    ];
    assert_eq!(names, all);
}

#[test]
fn a_wipe_needs_a_yes() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["down", "--wipe"]);
    assert_eq!(said.code, Some(4));
    insta::assert_snapshot!("wipe-without-yes", said.golden(dir.path()));
}

#[test]
fn the_reference_is_the_librarys_and_is_a_config() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["config", "reference"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), tripod::config::reference().as_str()));
    let document = run(dir.path(), &["config", "reference", "--json"]).json();
    assert_eq!(document, serde_json::json!({"reference": said.out}));
    let file = dir.path().join("tripod.toml");
    std::fs::write(&file, &said.out).unwrap();
    let said = run(dir.path(), &["config", "check", "--config", "tripod.toml", "--json"]);
    assert_eq!(said.json()["ok"], true, "{said:?}");
}

#[test]
fn a_shown_config_has_no_secret_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[postgres]\npassword = \"hunter2\"\n[redis.events]\nadmin_password = \"hunter2\"\n[[questdb]]\npassword = \"hunter2\"\n";
    std::fs::write(dir.path().join("c.toml"), text).unwrap();
    for arguments in
        [&["config", "show", "--config", "c.toml"][..], &["config", "show", "--config", "c.toml", "--json"]]
    {
        let said = run(dir.path(), arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
        assert_eq!(said.out.matches("***").count(), 3, "{said:?}");
    }
}

#[test]
fn a_misspelt_key_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[prices]\nttl_s = 2\n").unwrap();
    let said = run(dir.path(), &["config", "check", "--config", "c.toml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("ttl_s") && said.err.contains("\nhint: "), "{said:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let mut child =
        tripod().args(["config", "reference"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}
