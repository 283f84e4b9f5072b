//! What things take on the disk: fills the tables that no recorded file fills, and tokens; prints what each table takes.
//!
//! ```text
//! scripts/sizes                                                            # all of it, on a stack of its own
//! cargo run --release -p tripod --example measure_sizes DATA_DIR fill 100000 48   # from 48 hours ago
//! cargo run --release -p tripod --example measure_sizes DATA_DIR tokens 100000
//! cargo run --release -p tripod --example measure_sizes DATA_DIR print     # table, rows, bytes
//! ```
//!
//! Every column of a filled row is there, with values as wide as a bot's: ids, signatures and prices that differ from row to
//! row. The tokens are real mints under made addresses: of ten, one with eight extensions, four with three, five with none.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use tripod::postgres::{Login, Postgres};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::tables::{Attempt, Execution, ExecutionStatus, Performance, Sample};
use tripod::tape::{Recorder, Tape};
use tripod::tokens::{Address, Observation, Tokens, decode, import};
use tripod::{Config, Decimal, Timestamp, Token, Uuid};

type Done = Result<(), Box<dyn std::error::Error>>;

const LONG: Duration = Duration::from_secs(1800);
/// Tokens in one call.
const BATCH: usize = 1000;
const MINTS: [&str; 3] = [
    include_str!("../../../samples/mints/2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo.json"),
    include_str!("../../../samples/mints/susdabGDNbhrnCa6ncrYo81u4s9GM8ecK2UwMyZiq4X.json"),
    include_str!("../../../samples/mints/EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v.json"),
];

fn main() -> Done {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [dir, "fill", rows, hours] => fill(Config::local(dir)?, rows.parse()?, hours.parse()?),
        [dir, "tokens", count] => runtime()?.block_on(tokens(&Config::local(dir)?, count.parse()?)),
        [dir, "print"] => runtime()?.block_on(print(&Config::local(dir)?)),
        _ => Err("wanted: DATA_DIR fill ROWS HOURS_AGO, DATA_DIR tokens COUNT, or DATA_DIR print".into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The same number of rows into each of four tables.
fn fill(mut config: Config, rows: u64, hours_ago: u64) -> Done {
    config.bot = "sizes".into();
    let tape = Tape::open(&config)?;
    let recorder = tape.recorder();
    let begin = Timestamp::now().checked_sub(Duration::from_secs(hours_ago * 3600)).unwrap_or(Timestamp::EPOCH);
    for number in 0..rows {
        // A row each ten milliseconds, as one bot may have them.
        let at = begin.checked_add(Duration::from_millis(10 * number)).unwrap_or(begin);
        record(&recorder, at, number)?;
    }
    if !tape.wait_visible(LONG)? {
        return Err("not every row is visible".into());
    }
    let report = tape.close(Duration::from_secs(5));
    if !report.remaining.is_empty() {
        return Err("not every row was delivered".into());
    }
    Ok(())
}

fn record(recorder: &Recorder, at: Timestamp, number: u64) -> Done {
    let id = Uuid::new_v4();
    let signature = bs58_like(id, 88);
    let token = Token::new("So11111111111111111111111111111111111111112")?;
    let usdc = Token::new("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")?;
    let noise = id.as_u64_pair().1;
    let price = Decimal::new(i64::try_from(150_000_000 + noise % 1_000_000)?, 6);
    let (lamports, nanos) = (Some(5_000 + noise % 100_000), Some(20_000 + noise % 500_000));
    let slot = 298_417_223 + number / 40;
    let attempt = Attempt {
        route: Some("raydium>orca"),
        signature: Some(&signature),
        token_in: usdc,
        token_out: usdc,
        amount_in: 1_000_000_000 + noise % 1_000_000,
        expected_amount_out: Some(1_000_100_000 + noise % 1_000_000),
        minimum_amount_out: Some(1_000_000_000),
        expected_price: Some(price),
        expected_profit_lamports: Some(i64::try_from(noise % 1_000_000)?),
        slippage_limit_bps: Some(Decimal::new(50, 0)),
        compute_unit_limit: Some(400_000),
        priority_fee_lamports: lamports,
        tip_lamports: lamports,
        slot_seen: Some(slot),
        slot_sent: Some(slot + 1),
        last_valid_block_height: Some(slot + 150),
        decide_ns: nanos,
        build_ns: nanos,
        ..Attempt::new(id, at, "arbitrage", "raydium", token)
    };
    recorder.record(&attempt)?;
    let failed = number.is_multiple_of(4);
    let status = if failed { ExecutionStatus::Failed } else { ExecutionStatus::Landed };
    recorder.record(&Execution {
        amount_out: Some(1_000_100_000 + noise % 1_000_000),
        realised_price: Some(price),
        slippage_bps: Some(Decimal::new(i64::try_from(noise % 100)?, 1)),
        profit_lamports: Some(i64::try_from(noise % 1_000_000)?),
        fee_lamports: lamports,
        priority_fee_lamports: lamports,
        tip_lamports: lamports,
        compute_units: Some(180_000 + noise % 100_000),
        slot_landed: Some(slot + 2),
        error_code: failed.then_some(6_001),
        error: failed.then_some("SlippageToleranceExceeded"),
        send_ns: nanos,
        land_ns: nanos,
        ..Execution::of(&attempt, at, status)
    })?;
    recorder.record(&Performance {
        at,
        source: "sizes",
        seq: noise,
        strategy: "arbitrage",
        token,
        quote_token: usdc,
        inventory: price,
        exposure: Some(price),
        realised_pnl: Some(price),
        unrealised_pnl: Some(price),
        fees_lamports: lamports,
        attempts: Some(number),
        landed: Some(number / 4 * 3),
    })?;
    let value = f64::from(u32::try_from(noise % 1_000_000)?);
    recorder.record(&Sample { at, source: "sizes", seq: noise, name: "quote_age_ms", value, note: None })?;
    Ok(())
}

/// As long as a signature, and as different.
fn bs58_like(id: Uuid, length: usize) -> String {
    let text = id.simple().to_string();
    text.chars().cycle().take(length).collect()
}

async fn tokens(config: &Config, count: u32) -> Done {
    let mut mints = Vec::new();
    for file in MINTS {
        let file: serde_json::Value = serde_json::from_str(file)?;
        let text = |at: &str| file.pointer(at).and_then(|value| value.as_str()).ok_or("a sample without its account");
        let owner: Address = text("/account/owner")?.parse().map_err(|_| "a sample's owner")?;
        mints.push(decode(&owner, &import::from_base64(text("/account/data/0")?)?)?);
    }
    let observations: Vec<Observation> = (0..count)
        .map(|number| {
            let mint = match number % 10 {
                0 => &mints[0],
                1..=4 => &mints[1],
                _ => &mints[2],
            };
            let mut address = [0; 32];
            for half in address.chunks_exact_mut(16) {
                half.copy_from_slice(Uuid::new_v4().as_bytes());
            }
            Observation { address: Address::new_from_array(address), mint: mint.clone(), slot: 1, write_version: 0 }
        })
        .collect();
    let tokens = Tokens::new(Postgres::open_as(&config.postgres, Login::Bot, LONG)?);
    for batch in observations.chunks(BATCH) {
        tokens.store(batch, "sizes").await?;
    }
    Ok(())
}

async fn print(config: &Config) -> Done {
    let server = config.questdb.first().ok_or("the config names no QuestDB")?;
    let http = QuestDbHttp::new(server, Duration::from_secs(60))?;
    for row in http.exec("SELECT tableName, rowCount, diskSize FROM table_storage() ORDER BY 1")?.rows {
        let number = |at: usize| row.get(at).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let name = row.first().and_then(|name| name.as_str()).unwrap_or_default();
        println!("questdb.{name} {} {}", number(1), number(2));
    }
    let postgres = Postgres::open_as(&config.postgres, Login::Admin, Duration::from_secs(60))?;
    let sql = "SELECT (SELECT count(*) FROM tripod.tokens), sum(pg_total_relation_size(c.oid))::bigint
               FROM pg_catalog.pg_class AS c WHERE c.relnamespace = 'tripod'::regnamespace AND c.relkind = 'r'
                 AND c.relname LIKE 'token%'";
    let (count, bytes): (i64, i64) = postgres
        .call("measure", async |client| {
            let row = client.query_one(sql, &[]).await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        })
        .await?;
    println!("postgres.tokens {count} {bytes}");
    Ok(())
}
