//! A server is killed and held down: the pager rings, once, for what matters; and is told when it is over.

use std::time::Instant;

use serde_json::Value;
use tripod::Config;
use tripod_stack::{ServerName, Servers, TestStack};

use crate::bot::Bot;
use crate::command::done;
use crate::programs::{LONG, until};
use crate::watch::{Time, Watch, my_turn};

pub(crate) fn is_about<'a>(name: &'a str, server: &'a str, status: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |message| {
        let alerts = message["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
        alerts.iter().any(|alert| {
            alert["labels"]["alertname"] == name && alert["labels"]["server"] == server && alert["status"] == status
        })
    }
}

#[test]
fn a_questdb_that_is_killed_and_held_down_rings_once_and_its_return_is_said() {
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let stack = TestStack::start(Servers::ALL).unwrap();
    done(stack.data_dir(), &["migrate", "-q"]);
    let bot = Bot::start(&Config::local(stack.data_dir()).unwrap());
    let watch = Watch::start(&stack, dir.path(), bot.address(), Time::Short);
    until(LONG, "the bot is watched", || match watch.query("tripod_sink_state{state=\"delivering\"} == 1")?.len() {
        0 => Err("no sink delivers".to_owned()),
        _ => Ok(()),
    });
    until(LONG, "no server is said to be down", || {
        let alerts = watch.alerts()?;
        if alerts.iter().any(|alert| alert.starts_with("TripodServerDown")) {
            Err(format!("{alerts:?}"))
        } else {
            Ok(())
        }
    });
    println!("{} everything answers (a minute of `for:` is five seconds here)", watch.at());

    let killed = Instant::now();
    stack.kill(ServerName::QuestDb).unwrap();
    println!("{} QuestDB is killed", watch.at());
    let message = until(LONG, "the pager rings", || {
        watch
            .messages
            .find(is_about("TripodServerDown", "questdb", "firing"))
            .ok_or_else(|| format!("{:?}", watch.alerts()))
    });
    println!("{} the pager rings, {:.1} s later", watch.at(), killed.elapsed().as_secs_f64());
    assert_eq!((&message["receiver"], &message["status"]), (&"page".into(), &"firing".into()), "{message}");
    let alert = &message["alerts"][0];
    assert_eq!(alert["labels"]["severity"], "critical", "{message}");
    assert_eq!(alert["annotations"]["summary"], "questdb has not answered for a minute", "{message}");
    let page = alert["annotations"]["runbook_url"].as_str().unwrap();
    let (file, anchor) = page.strip_prefix("file://").and_then(|page| page.split_once('#')).unwrap();
    assert_eq!(anchor, "tripodserverdown");
    assert!(std::fs::read_to_string(file).unwrap().contains("\n## TripodServerDown\n"), "{page}");

    // What follows from it fires, and rings nobody.
    until(LONG, "the sink that cannot deliver is silenced", || {
        let silenced = watch.silenced()?;
        silenced.iter().any(|name| name == "TripodSinkStuck").then_some(()).ok_or(format!("{silenced:?}"))
    });

    let back = Instant::now();
    stack.start_server(ServerName::QuestDb).unwrap();
    println!("{} QuestDB answers again", watch.at());
    until(LONG, "the pager is told that it is over", || {
        watch
            .messages
            .find(is_about("TripodServerDown", "questdb", "resolved"))
            .ok_or_else(|| format!("{:?}", watch.alerts()))
    });
    println!("{} the pager is told that it is over, {:.1} s after the start", watch.at(), back.elapsed().as_secs_f64());
    assert!(!watch.messages.names().contains(&"TripodSinkStuck".to_owned()), "{:?}", watch.messages.names());
    bot.assert_works();
}
