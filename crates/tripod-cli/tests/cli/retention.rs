//! Retention on a real QuestDB: what is archived is read by a Parquet reader and compared with what the server was given.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Value, json};
use tripod::tape::questdb::QuestDbHttp;
use tripod::tape::retention::Day;
use tripod::tape::{schema, tables::builtin};
use tripod::{Config, Timestamp};
use tripod_stack::{ServerName, Servers, TestStack};

use crate::run::{Said, tripod};
use crate::servers::ask;

const LONG: Duration = Duration::from_secs(90);
/// What the tests keep; the tables themselves say 30, so that nothing vanishes before `run` says so.
const KEPT_DAYS: &str = "10";

/// A QuestDB with the schema, and nothing else.
struct Scene(TestStack);

impl Scene {
    fn new() -> Self {
        let scene = Self(TestStack::start(Servers::only(ServerName::QuestDb)).unwrap());
        let http = scene.http();
        let (live, views) = (schema::read_live(&http).unwrap(), schema::read_views(&http).unwrap());
        let mut plan = schema::plan(&live, builtin(), "");
        plan.extend(schema::plan_rollups(&live, &views, builtin(), "", 3650));
        schema::apply(&http, &plan).unwrap();
        scene
    }

    fn data(&self) -> &Path {
        self.0.data_dir()
    }

    fn http(&self) -> QuestDbHttp {
        QuestDbHttp::new(&Config::load(self.0.config_path()).unwrap().questdb[0], LONG).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = tripod();
        command.current_dir(self.data()).args(["--data", ".", "--json"]).args(arguments);
        command.env("TRIPOD__RETENTION__CRITICAL_DAYS", KEPT_DAYS);
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// `rows` executions of one day, the first three with everything, nothing, and zeros in them.
    fn insert(&self, day: Day, from: u64, rows: u64) {
        let begin = day.begin().as_nanos();
        let http = self.http();
        let statement = format!(
            "INSERT INTO executions (at, id, strategy, venue, token, status, signature, amount_in, expected_price, \
             slippage_bps, profit_lamports, fee_lamports, attempted_at) SELECT ({begin} + x * 1000001)::timestamp_ns, \
             rnd_uuid4(), 's', 'orca', 'SOL', 'landed', \
             CASE WHEN x % 3 = 0 THEN NULL WHEN x % 3 = 1 THEN '' ELSE 'Grüße, 世界' END, \
             18446744073709551615m, CASE WHEN x % 3 = 0 THEN NULL::DECIMAL(38,18) ELSE \
             -99999999999999999999.999999999999999999m END, \
             0m, CASE WHEN x % 3 = 0 THEN NULL ELSE -x END, 5000m, CASE WHEN x % 3 = 0 THEN NULL ELSE \
             ({begin} + x)::timestamp_ns END FROM (SELECT x + {from} x FROM long_sequence({rows}))"
        );
        http.exec(&statement).unwrap();
        schema::wait_table(&http, "executions", &|| "the rows".into()).unwrap();
    }

    fn rows_of(&self, day: Day) -> Value {
        ask(
            self.data(),
            &format!("SELECT count() FROM executions WHERE at >= '{}' AND at < '{}'", day.begin(), day.end()),
        )
    }

    /// In days; QuestDB says 14 of them as two weeks.
    fn ttl(&self) -> u64 {
        schema::read_live(&self.http()).unwrap().0["executions"].ttl_hours.unwrap() / 24
    }

    fn place(&self, day: Day) -> PathBuf {
        self.data().join(format!("archive/table=executions/day={day}"))
    }

    fn part(&self, day: Day) -> PathBuf {
        self.place(day).join("part-0.parquet")
    }
}

fn days_ago(days: u64) -> Day {
    Day::of(Timestamp::now().checked_sub(Duration::from_hours(24 * days)).unwrap())
}

fn day_of(report: &Value, day: Day) -> &Value {
    let days = report["days"].as_array().unwrap();
    days.iter().find(|one| one["table"] == "executions" && one["day"] == day.to_string()).unwrap()
}

/// Rows of a file, and the sum of one of its columns, by the row reader, which the archive itself does not use.
fn read(path: &Path) -> (i64, i64) {
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let profit = |row: parquet::record::Row| {
        let found = row.get_column_iter().find(|(name, _)| *name == "profit_lamports").map(|(_, value)| value.clone());
        if let Some(Field::Long(profit)) = found { profit } else { 0 }
    };
    let sum = reader.get_row_iter(None).unwrap().map(|row| profit(row.unwrap())).sum();
    (reader.metadata().file_metadata().num_rows(), sum)
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {LONG:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_damaged_archive_holds_the_day_and_a_proven_one_lets_it_go() {
    let scene = Scene::new();
    let (old, young, today) = (days_ago(13), days_ago(5), days_ago(0));
    scene.insert(old, 0, 3000);
    scene.insert(young, 0, 20);
    scene.insert(today, 0, 1);

    let plan = scene.run(&["tape", "retention", "plan"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    let plan = plan.json();
    assert_eq!((&day_of(&plan, old)["archive"], &day_of(&plan, old)["covered"]), (&json!("due"), &json!(false)));
    assert_eq!(day_of(&plan, today)["archive"], "not yet");
    assert_eq!(scene.ttl(), 30);
    assert!(!scene.place(old).exists());

    // Written, and equal to the server by count and by a sum that the server gives.
    let export = scene.run(&["tape", "export", "executions", "--day", &old.to_string()]);
    assert_eq!(export.code, Some(0), "{export:?}");
    assert_eq!((&export.json()["rows"], &export.json()["written"]), (&json!(3000), &json!(true)));
    let on_server =
        ask(scene.data(), &format!("SELECT sum(profit_lamports) FROM executions WHERE at < '{}'", old.end()));
    assert_eq!(read(&scene.part(old)), (3000, on_server.as_i64().unwrap()));
    let again = scene.run(&["tape", "export", "executions", "--day", &old.to_string()]);
    assert_eq!((again.code, &again.json()["written"]), (Some(0), &json!(false)), "{again:?}");

    // One bit.
    let mut bytes = std::fs::read(scene.part(old)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(scene.part(old), &bytes).unwrap();
    let run = scene.run(&["tape", "retention", "run"]);
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = run.json();
    assert_eq!(report["ok"], false);
    let said = day_of(&report, old);
    assert!(said["detail"].as_str().unwrap().contains("SHA-256"), "{said}");
    assert_eq!((&said["archive"], &said["rollup"]), (&json!("uncovered"), &json!("verified")));
    assert_eq!(day_of(&report, young)["covered"], true);
    assert_eq!(std::fs::read(scene.part(old)).unwrap(), bytes, "the damaged file was touched");
    let held = scene.ttl();
    assert!(held > 10, "the TTL is {held}");
    assert!(old.expires_at(u16::try_from(held).unwrap()).since(Timestamp::now()) >= Duration::from_hours(23));
    assert_eq!(scene.rows_of(old), 3000);
    let status = scene.run(&["status"]).json();
    let alarms = status["alarms"].to_string();
    assert!(alarms.contains("executions (main)") && alarms.contains("instead of 10"), "{status}");

    // The way out works as it is said, and the day goes; what it was stays.
    let replace = scene.run(&["tape", "export", "executions", "--day", &old.to_string(), "--replace"]);
    assert_eq!(replace.code, Some(0), "{replace:?}");
    let run = scene.run(&["tape", "retention", "run"]);
    assert_eq!((run.code, &run.json()["ok"]), (Some(0), &json!(true)), "{run:?}");
    assert_eq!(scene.ttl(), 10);
    scene.insert(today, 1, 1);
    until("the server drops the day", || scene.rows_of(old) == 0);
    assert_eq!(read(&scene.part(old)), (3000, on_server.as_i64().unwrap()));
    let kept = format!("SELECT sum(executions) FROM quality_1h_kept WHERE at < '{}'", old.end());
    assert_eq!(ask(scene.data(), &kept), 3000);

    // Late rows of a day that was archived: it is archived anew. Nothing new: nothing is written.
    scene.insert(young, 20, 5);
    assert_eq!(scene.run(&["tape", "retention", "run"]).code, Some(0));
    assert_eq!(read(&scene.part(young)).0, 25);
    let manifest = std::fs::read(scene.place(young).join("manifest.json")).unwrap();
    assert_eq!(scene.run(&["tape", "retention", "run"]).code, Some(0));
    assert_eq!(std::fs::read(scene.place(young).join("manifest.json")).unwrap(), manifest);
    assert_eq!(read(&scene.part(old)).0, 3000, "the archive of a day that is gone was touched");
}

fn started(scene: &Scene) -> Child {
    let mut command = scene.command(&["tape", "retention", "run"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// In its place a day is whole or is not: after the run was killed, and after the server was.
#[test]
fn killed_in_the_middle_nothing_is_half_there() {
    let scene = Scene::new();
    let day = days_ago(5);
    scene.insert(day, 0, 60_000);
    let aside = scene.data().join("archive/.aside");
    let being_written = |part: &str| {
        let writing = aside.join(format!("executions-{day}")).join(part);
        until("the day is being written", || writing.exists());
    };

    let mut run = started(&scene);
    being_written("part-0.parquet");
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!scene.place(day).exists() || read(&scene.part(day)).0 == 60_000);

    let mut run = started(&scene);
    being_written("part-0.parquet");
    scene.0.kill(ServerName::QuestDb).unwrap();
    assert!(!run.wait().unwrap().success());
    assert!(!scene.place(day).exists() || read(&scene.part(day)).0 == 60_000);

    scene.0.start_server(ServerName::QuestDb).unwrap();
    let run = scene.run(&["tape", "retention", "run"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(read(&scene.part(day)).0, 60_000);
    assert_eq!(std::fs::read_dir(&aside).map_or(0, Iterator::count), 0, "something was left aside");
}
