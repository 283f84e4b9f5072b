//! Candles.

use std::collections::BTreeMap;
use std::time::Duration;

use tripod::tape::query::Candle;
use tripod::tape::tables::{MarketTrade, Side};
use tripod::{Decimal, Error, Timestamp};

use super::rig::{Rig, around, later, now, token};

/// Time, venue, price, size.
type Trade = (Timestamp, &'static str, Decimal, Decimal);

/// Begin, open, high, low, close, volume, trades.
type Shown = (i64, Decimal, Decimal, Decimal, Decimal, Decimal, u64);

/// Five minutes of trades in order: a minute and a half without one, prices that go up and down, digits to the end.
fn trades(base: Timestamp) -> Vec<Trade> {
    (0..400_i64)
        .map(|n| {
            let at = later(base, Duration::from_millis(u64::try_from(n).unwrap() * 777));
            let at = if n > 200 { later(at, Duration::from_secs(90)) } else { at };
            let price = Decimal::from_i128_with_scale(i128::from((n * 7919) % 1009 + 1) * 1_000_000_000_001, 18);
            (at, ["orca", "raydium"][usize::try_from(n % 2).unwrap()], price, Decimal::new(n + 1, 18))
        })
        .collect()
}

fn record(rig: &Rig, trades: &[Trade]) {
    rig.record(|recorder| {
        for (n, (at, venue, price, size)) in trades.iter().enumerate() {
            for market in ["SOLUSDT", "OTHER"] {
                let trade = MarketTrade {
                    at: *at,
                    venue,
                    token: token(market),
                    trade_id: &n.to_string(),
                    side: Some(Side::Buy),
                    price: *price,
                    size: *size,
                    slot: None,
                    received_at: None,
                };
                recorder.record(&trade).unwrap();
            }
        }
    });
}

/// What the trades come to, by hand.
fn expected(trades: &[Trade], venue: Option<&str>, seconds: i64) -> Vec<Shown> {
    let mut buckets: BTreeMap<i64, Vec<(Decimal, Decimal)>> = BTreeMap::new();
    for (at, on, price, size) in trades {
        if venue.is_none_or(|venue| venue == *on) {
            let width = seconds * 1_000_000_000;
            buckets.entry(at.as_nanos() / width * width).or_default().push((*price, *size));
        }
    }
    let candle = |(at, trades): (i64, Vec<(Decimal, Decimal)>)| {
        let prices = || trades.iter().map(|(price, _)| *price);
        let volume: Decimal = trades.iter().map(|(_, size)| *size).sum();
        let (high, low) = (prices().max().unwrap(), prices().min().unwrap());
        let count = u64::try_from(trades.len()).unwrap();
        (at, prices().next().unwrap(), high, low, prices().next_back().unwrap(), volume, count)
    };
    buckets.into_iter().map(candle).collect()
}

fn shown(candles: &[Candle]) -> Vec<Shown> {
    candles.iter().map(|c| (c.at.as_nanos(), c.open, c.high, c.low, c.close, c.volume, c.trades)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn candles_are_what_the_trades_come_to() {
    let rig = Rig::new("querycandle");
    let base = now();
    let trades = trades(base);
    record(&rig, &trades);
    let reader = rig.reader(|_| {});
    for (venue, seconds) in [(None, 60), (Some("orca"), 60), (None, 1), (Some("raydium"), 3600), (Some("nowhere"), 60)]
    {
        let every = Duration::from_secs(u64::try_from(seconds).unwrap());
        let answer = reader.candles(token("SOLUSDT"), venue, around(base), every).await.unwrap();
        assert_eq!(shown(&answer.rows), expected(&trades, venue, seconds), "{venue:?} {seconds}");
    }
    let wrong = reader.candles(token("SOLUSDT"), None, around(base), Duration::from_millis(1500)).await.unwrap_err();
    assert!(matches!(wrong, Error::Invalid { .. }), "{wrong:?}");
    let quoted = reader.candles(token("SOLUSDT"), Some("x' OR '1'='1"), around(base), Duration::from_secs(60)).await;
    assert!(quoted.unwrap().rows.is_empty(), "a parameter is no SQL");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_has_the_first_candles_whole() {
    let rig = Rig::new("querycut");
    let base = now();
    let trades = trades(base);
    record(&rig, &trades);
    for (venue, seconds, rows_max) in [(None, 60, 3), (Some("orca"), 60, 4), (None, 1, 25), (Some("raydium"), 1, 100)] {
        let reader = rig.reader(|limits| limits.rows_max = rows_max);
        let every = Duration::from_secs(u64::try_from(seconds).unwrap());
        let answer = reader.candles(token("SOLUSDT"), venue, around(base), every).await.unwrap();
        let all = expected(&trades, venue, seconds);
        assert!(all.len() > rows_max, "nothing would be cut");
        assert_eq!((shown(&answer.rows), answer.truncated), (all[..rows_max].to_vec(), true), "{venue:?} {seconds}");
    }
}
