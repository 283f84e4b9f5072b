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
            raised.extend(alerts.into_iter().map(|alert| format!("{} {alert}", watch.at())));
        }
    }
    println!("{looks} looks, {} alerts", raised.len());
    assert!(looks > 50 && raised.is_empty(), "{}", raised.join("\n"));
    // What Prometheus itself has seen between the looks.
    let seen = watch.query("count(max_over_time(ALERTS[10m]))").unwrap();
    assert!(seen.is_empty(), "{seen:?}");
    assert!(watch.messages.names().is_empty(), "{:?}", watch.messages.names());
    assert!(watch.complaints().is_empty(), "{:?}", watch.complaints());
}
