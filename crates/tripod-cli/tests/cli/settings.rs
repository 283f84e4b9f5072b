//! The past of a setting, its changes as they come, and who runs what.

use serde_json::json;

use crate::tokens::{done, stack, tripod};

#[test]
fn a_setting_is_compared_brought_back_watched_and_measured() {
    let stack = stack();
    let set = |value: &str, revision: Option<&str>| {
        let base = ["settings", "set", "bot", "limits", value, "--why", "a test", "--who", "ada", "--json"];
        let revision = revision.map(|n| ["--revision", n]);
        done(&stack, &[&base[..], revision.as_ref().map_or(&[][..], |words| &words[..])].concat())
    };
    set(r#"{"size": 1, "fee": {"bps": 5}}"#, None);
    set(r#"{"size": 2, "fee": {"bps": 5}, "note": "x"}"#, Some("1"));

    let diff = done(&stack, &["settings", "diff", "bot", "limits", "--json"]);
    assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &json!(2)));
    assert_eq!(
        diff["differences"],
        json!([{"place": "/note", "before": null, "after": "x"}, {"place": "/size", "before": 1, "after": 2}])
    );
    let never = tripod(&stack, &["settings", "diff", "bot", "limits", "--from", "7"]);
    assert!(never.code == Some(2) && never.err.contains("no revision 7"), "{never:?}");

    let back = ["settings", "rollback", "bot", "limits", "--to", "1", "--why", "as it was", "--who", "ada", "--json"];
    let restored = done(&stack, &back);
    assert_eq!((&restored["revision"], &restored["value"]["size"]), (&json!(3), &json!(1)));
    let late = tripod(&stack, &[&back[..], &["--revision", "1"]].concat());
    assert!(late.code != Some(0) && late.err.contains("revision 3"), "{late:?}");
    let same = tripod(&stack, &["settings", "rollback", "bot", "limits", "--to", "3", "--why", "x"]);
    assert_eq!(same.code, Some(2), "{same:?}");

    assert_eq!(done(&stack, &["settings", "bots", "--json"]), json!({"bots": []}));
    // Another process applies each change, and says so to the server.
    let measured = done(&stack, &["bench", "settings", "--changes", "20", "--json"]);
    let p99 = &measured["results"][1];
    assert!(p99["name"] == "setting_applied_p99" && p99["value"].as_u64() > Some(0), "{measured}");
    let bots = done(&stack, &["settings", "bots", "--json"]);
    assert_eq!((&bots["bots"][0]["bot"], &bots["bots"][0]["namespace"]), (&json!("bench-settings"), &json!("bench")));
}
