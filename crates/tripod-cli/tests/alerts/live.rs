//! Every metric of every rule is served by somebody: by the monitor, a bot, QuestDB or Debian's exporters, under the labels
//! that the rule asks for, and no rule holds on a healthy stack. A rule about a metric that nobody serves can never fire,
//! and nobody would notice.

use std::time::Duration;

use promql_parser::parser::{BinaryExpr, Expr};
use tripod::Config;
use tripod_stack::{ServerName, Servers, TestStack};

use crate::bot::Bot;
use crate::command::done;
use crate::directory::assert_the_login_can_do_no_more;
use crate::files::rules;
use crate::programs::{LONG, until, within};
use crate::watch::{Time, Watch, my_turn};

/// Parts of an expression that must give a series on a live stack, whatever their values: what is compared, not the
/// comparison; so that labels that do not meet are found, too.
fn operands(expr: &Expr, found: &mut Vec<String>) {
    match expr {
        Expr::Paren(paren) => operands(&paren.expr, found),
        Expr::Binary(BinaryExpr { op, lhs, rhs, .. }) if op.is_comparison_operator() => {
            assert!(matches!(**rhs, Expr::NumberLiteral(_)), "{expr}: is compared with something that may be missing");
            found.push(lhs.to_string());
        }
        Expr::Binary(BinaryExpr { op, lhs, rhs, .. }) if op.is_set_operator() => {
            operands(lhs, found);
            operands(rhs, found);
        }
        Expr::Call(call) if call.func.name == "absent" => {}
        other => found.push(other.to_string()),
    }
}

#[test]
fn what_is_compared_is_taken_apart_and_the_comparison_left_out() {
    let parts = |text: &str| {
        let mut found = Vec::new();
        operands(&promql_parser::parser::parse(text).unwrap(), &mut found);
        found
    };
    assert_eq!(parts("a / b < 0.1 or absent(c) or (d == 0 and on (x) e)"), ["a / b", "d", "e"]);
}

#[test]
fn every_metric_of_every_rule_is_served_and_no_rule_holds_on_a_healthy_stack() {
    let _turn = my_turn();
    let dir = tempfile::tempdir().unwrap();
    let stack = TestStack::start(Servers { events_ha: true, ..Servers::ALL }).unwrap();
    done(stack.data_dir(), &["migrate", "-q"]);
    done(stack.data_dir(), &["tape", "retention", "run", "-q"]);
    let _standby = stack.start_standby().unwrap();
    let bot = Bot::start(&Config::local(stack.data_dir()).unwrap());
    let watch = Watch::start(&stack, dir.path(), bot.address(), Time::Short);
    let mut missing = Vec::new();
    for rule in rules() {
        let mut wanted: Vec<_> = rule.selectors().iter().map(ToString::to_string).collect();
        operands(&rule.parsed(), &mut wanted);
        for expression in wanted {
            // What is known only after a while is waited for; once something is missing the rest is only listed.
            let time = if missing.is_empty() { LONG } else { Duration::from_secs(2) };
            let served = within(time, || match watch.query(&expression)?.len() {
                0 => Err("no series".to_owned()),
                _ => Ok(()),
            });
            missing.extend(served.err().map(|why| format!("{}: {expression}: {why}", rule.alert)));
        }
    }
    assert!(missing.is_empty(), "nobody serves:\n{}", missing.join("\n"));
    // Nothing is wrong with this stack, but that it has no backup; how full the disk of the machine is, it cannot help.
    let not_its_own = |alert: &str| alert.starts_with("TripodBackup") || alert == "TripodDiskLow";
    for rule in rules().iter().filter(|rule| !not_its_own(&rule.alert)) {
        let raised = within(LONG, || match watch.query(&rule.expr)? {
            found if found.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        });
        raised.unwrap_or_else(|why| panic!("{} is raised on a healthy stack: {why}", rule.alert));
    }
    assert_the_login_can_do_no_more(&stack, dir.path());
    // It is one for good: a server that starts again still knows it.
    stack.restart_server(ServerName::RedisPrices).unwrap();
    until(LONG, "the exporter is let in again", || {
        let again = "redis_up{server=\"redis-prices\"} == 1 and on (instance) resets(redis_uptime_in_seconds[1m]) > 0";
        let up = watch.query(again)?;
        if up.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    });
    bot.assert_works();
    assert!(watch.complaints().is_empty(), "{:?}", watch.complaints());
}
