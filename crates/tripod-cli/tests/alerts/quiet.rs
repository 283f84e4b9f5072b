//! A healthy stack under load raises no alert, and none is pending either.

use std::time::{Duration, Instant};

use tripod::Config;
use tripod_stack::{Servers, TestStack};

use crate::bot::Bot;
use crate::command::done;
use crate::watch::{LOOK, Time, Watch, my_turn};

/// Of load, with the rules as they are.
const FOR: Duration = Duration::from_secs(600);
/// Servers and bot have begun, and every figure was asked for twice.
const BEGUN: Duration = Duration::from_secs(60);

/// How full the disk of the machine is, the stack cannot help.
const NOT_THE_STACKS: &str = "TripodDiskLow";

/// Of the machine: on one that has no time for anybody a healthy stack is late, too, and this is told with what was raised.
fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "takes eleven minutes; scripts/soak runs it"]
fn ten_minutes_of_load_on_a_healthy_stack_raise_no_alert() {
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let stack = TestStack::start_supervised(Servers { events_ha: true, ..Servers::ALL }).unwrap();
    done(stack.data_dir(), &["migrate", "-q"]);
    // What a healthy stack has: a proven backup, and a day whose retention ran.
    done(stack.data_dir(), &["tape", "retention", "run", "-q"]);
    done(stack.data_dir(), &["backup", "create", "-q"]);
    done(stack.data_dir(), &["backup", "verify", "-q"]);
    let bot = Bot::start(&Config::local(stack.data_dir()).unwrap());
    let watch = Watch::start(&stack, dir.path(), bot.address(), Time::AsItIs);
    let (mut looks, mut raised) = (0_u32, Vec::new());
    while watch.started.elapsed() < BEGUN + FOR {
        std::thread::park_timeout(Duration::from_secs(5));
        bot.assert_works();
        let looked = Instant::now();
        let alerts = watch.alerts().unwrap();
        assert!(looked.elapsed() < LOOK, "Prometheus hardly answers: nothing is proven");
        if watch.started.elapsed() > BEGUN {
            looks += 1;
            let ours = alerts.into_iter().filter(|alert| !alert.starts_with(NOT_THE_STACKS));
            raised.extend(ours.map(|alert| format!("{} load {} {alert}", watch.at(), load())));
        }
    }
    println!("{looks} looks, {} alerts", raised.len());
    assert!(looks > 50 && raised.is_empty(), "{}", raised.join("\n"));
    // What Prometheus itself has seen between the looks.
    let seen = watch.query(&format!("count(max_over_time(ALERTS{{alertname!=\"{NOT_THE_STACKS}\"}}[10m]))")).unwrap();
    assert!(seen.is_empty(), "{seen:?}");
    let messages: Vec<_> = watch.messages.names().into_iter().filter(|name| name != NOT_THE_STACKS).collect();
    assert!(messages.is_empty(), "{messages:?}");
    assert!(watch.complaints().is_empty(), "{:?}", watch.complaints());
}
