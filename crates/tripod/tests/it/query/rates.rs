//! How executions went: quality by strategy and venue, win rates by route.

use std::collections::BTreeMap;
use std::time::Duration;

use tripod::tape::tables::{Attempt, Execution, ExecutionStatus};
use tripod::{Decimal, Uuid};

use super::rig::{Rig, around, later, now, token};

#[tokio::test(flavor = "multi_thread")]
async fn execution_quality_adds_up_to_what_was_recorded() {
    let rig = Rig::new("queryquality");
    let base = now();
    let statuses = ["landed", "failed", "expired", "dropped", "simulated"];
    let rows: Vec<_> = (0..120_i64)
        .map(|n| {
            // Two hours, two strategies, two venues; a strategy without fees in the second hour.
            let at = later(base, Duration::from_secs(if n < 60 { 10 } else { 3_700 } + u64::try_from(n).unwrap()));
            let (strategy, venue) =
                (["arb", "snipe"][usize::from(n % 2 == 0)], ["orca", "raydium"][usize::from(n % 3 == 0)]);
            let attempt = Attempt::new(Uuid::from_u128(n.unsigned_abs().into()), at, strategy, venue, token("SOL"));
            let bare = n >= 60 && strategy == "arb";
            Execution {
                fee_lamports: (!bare).then_some(u64::MAX / 1_000 + n.unsigned_abs()),
                tip_lamports: (n % 5 == 0).then_some(n.unsigned_abs()),
                profit_lamports: (!bare).then_some(50 - n),
                slippage_bps: (!bare && n % 4 != 0).then_some(Decimal::new(n * 31 - 1_000, 4)),
                ..Execution::of(&attempt, at, statuses[usize::try_from(n % 5).unwrap()].parse().unwrap())
            }
        })
        .collect();
    rig.record(|recorder| {
        for row in &rows {
            recorder.record(row).unwrap();
        }
    });
    let mut expected: BTreeMap<(i64, &str, &str), Vec<&Execution<'_>>> = BTreeMap::new();
    for row in &rows {
        let hour = row.at.as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
        expected.entry((hour, row.strategy, row.venue)).or_default().push(row);
    }
    let answer = rig.reader(|_| {}).execution_quality(around(base)).await.unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (expected.len(), false));
    for (found, ((hour, strategy, venue), rows)) in answer.rows.iter().zip(&expected) {
        assert_eq!((found.hour.as_nanos(), found.strategy.as_str(), found.venue.as_str()), (*hour, *strategy, *venue));
        let count = |status: &str| {
            let status: ExecutionStatus = status.parse().unwrap();
            u64::try_from(rows.iter().filter(|row| row.status == status).count()).unwrap()
        };
        let counts = [found.landed, found.failed, found.expired, found.dropped, found.simulated];
        assert_eq!(counts, statuses.map(count));
        assert_eq!(found.executions, counts.iter().sum::<u64>());
        let sum = |of: fn(&Execution<'_>) -> Option<u64>| rows.iter().filter_map(|row| of(row)).reduce(|a, b| a + b);
        assert_eq!(found.fee_lamports, sum(|row| row.fee_lamports), "none is not zero");
        assert_eq!(found.tip_lamports, sum(|row| row.tip_lamports));
        let profits = rows.iter().filter_map(|row| row.profit_lamports).reduce(|a, b| a + b);
        assert_eq!(found.profit_lamports, profits);
        let slippages: Vec<_> = rows.iter().filter_map(|row| row.slippage_bps).collect();
        let slippage = found.slippage.map(|s| (s.executions, s.sum_bps, s.min_bps, s.max_bps));
        let wanted = (!slippages.is_empty()).then(|| {
            let (min, max) = (slippages.iter().min().unwrap(), slippages.iter().max().unwrap());
            (u64::try_from(slippages.len()).unwrap(), slippages.iter().sum(), *min, *max)
        });
        assert_eq!(slippage, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn win_rates_count_each_route_of_each_hour() {
    let rig = Rig::new("querywins");
    let base = now();
    let (statuses, routes) = (["landed", "failed", "simulated"], [Some("orca"), Some("raydium>orca"), None]);
    let rows: Vec<_> = (0..90_u64)
        .map(|n| {
            let at = later(base, Duration::from_secs(if n < 40 { 10 } else { 3_700 } + n));
            let [status, route, part] = [n % 7 % 3, n / 3 % 3, n % 2].map(|index| usize::try_from(index).unwrap());
            let attempt = Attempt {
                route: routes[route],
                ..Attempt::new(Uuid::from_u128(n.into()), at, ["arb", "snipe"][part], "orca", token("SOL"))
            };
            Execution {
                // A route without any profit, one with it in some rows only.
                profit_lamports: (routes[route].is_some() && n % 5 != 0).then(|| 40 - i64::try_from(n).unwrap()),
                ..Execution::of(&attempt, at, statuses[status].parse().unwrap())
            }
        })
        .collect();
    rig.record(|recorder| {
        for row in &rows {
            recorder.record(row).unwrap();
        }
    });
    type Counts = (u64, u64, u64, Option<i64>);
    let mut expected: BTreeMap<(i64, Option<String>), Counts> = BTreeMap::new();
    for row in &rows {
        let hour = row.at.as_nanos() / 3_600_000_000_000 * 3_600_000_000_000;
        let counts = expected.entry((hour, row.route.map(str::to_owned))).or_default();
        counts.0 += 1;
        counts.1 += u64::from(row.status == ExecutionStatus::Landed);
        counts.2 += u64::from(row.status == ExecutionStatus::Simulated);
        counts.3 = row.profit_lamports.map(|profit| profit + counts.3.unwrap_or(0)).or(counts.3);
    }
    let answer = rig.reader(|_| {}).win_rates(around(base)).await.unwrap();
    assert!(!answer.truncated && answer.rows.is_sorted_by_key(|rate| rate.hour), "{answer:?}");
    for rate in &answer.rows {
        let sent = rate.executions - rate.simulated;
        assert_eq!(rate.landed_share(), Decimal::from(rate.landed).checked_div(Decimal::from(sent)));
    }
    let found: BTreeMap<_, _> = answer
        .rows
        .into_iter()
        .map(|rate| {
            let counts: Counts = (rate.executions, rate.landed, rate.simulated, rate.profit_lamports);
            ((rate.hour.as_nanos(), rate.route), counts)
        })
        .collect();
    assert_eq!(found, expected);
    let cut = rig.reader(|limits| limits.rows_max = 2).win_rates(around(base)).await.unwrap();
    assert_eq!((cut.rows.len(), cut.truncated), (2, true));
}
