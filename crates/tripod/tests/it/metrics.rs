//! Every metric that is described is emitted in a run of a bot, with its labels and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tripod::config::{Config, Delivery};
use tripod::metrics::{ALL, describe, publish};
use tripod::tape::{Deliverer, Tape, schema, tables};
use tripod::tape::{questdb::QuestDbHttp, tables::Attempt};
use tripod::{Timestamp, Token, Uuid};
use tripod_stack::{Servers, TestStack};

#[derive(Debug, Default)]
struct Seen {
    values: Mutex<BTreeMap<String, f64>>,
    labels: Mutex<BTreeMap<String, BTreeSet<String>>>,
    described: Mutex<BTreeSet<String>>,
}

/// What an exporter would be told.
#[derive(Debug, Default, Clone)]
struct Told(Arc<Seen>);

struct One(Arc<Seen>, String);

impl One {
    fn put(&self, value: f64) {
        self.0.values.lock().unwrap().insert(self.1.clone(), value);
    }
}

impl GaugeFn for One {
    fn increment(&self, _: f64) {}
    fn decrement(&self, _: f64) {}
    fn set(&self, value: f64) {
        self.put(value);
    }
}

impl CounterFn for One {
    fn increment(&self, _: u64) {}
    fn absolute(&self, value: u64) {
        self.put(value.to_string().parse().unwrap());
    }
}

impl Told {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key.labels().map(|label| label.key().to_owned()).collect();
        self.0.labels.lock().unwrap().insert(key.name().to_owned(), labels);
        let mut name = key.name().to_owned();
        key.labels().for_each(|label| name += &format!(" {}={}", label.key(), label.value()));
        Arc::new(One(Arc::clone(&self.0), name))
    }

    fn value(&self, name: &str) -> Option<f64> {
        self.0.values.lock().unwrap().get(name).copied()
    }

    fn described(&self, name: &KeyName) {
        self.0.described.lock().unwrap().insert(name.as_str().to_owned());
    }
}

impl Recorder for Told {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.described(&name);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.described(&name);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.described(&name);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[test]
fn every_metric_is_described_and_emitted_in_a_run_and_says_what_is() {
    const LONG: Duration = Duration::from_secs(60);
    let stack = TestStack::start(Servers { questdb: true, ..Servers::NONE }).unwrap();
    let journals = tempfile::tempdir().unwrap();
    let mut config = Config::load_with(&stack.config_path(), []).unwrap();
    config.bot = "metrics".to_owned();
    config.journal.dir = journals.path().to_owned();
    config.tape.delivery = Delivery::Beside;
    let http = QuestDbHttp::new(&config.questdb[0], LONG).unwrap();
    schema::apply(&http, &schema::plan(&schema::read_live(&http).unwrap(), tables::builtin(), "")).unwrap();
    let tape = Tape::open(&config).unwrap();
    let token = Token::new("SOL").unwrap();
    let record = |numbers: std::ops::Range<u128>| {
        for n in numbers {
            tape.recorder().record(&Attempt::new(Uuid::from_u128(n), Timestamp::now(), "s", "v", token)).unwrap();
        }
    };
    record(0..10);
    let told = Told::default();
    metrics::with_local_recorder(&told, || {
        describe();
        tape.publish().unwrap();
    });
    assert_eq!(told.value("tripod_rows_pending bot=metrics table=attempts sink=main"), Some(10.0));
    assert_eq!(told.value("tripod_sink_state bot=metrics sink=main class=critical state=not_running"), Some(1.0));
    let deliverer = Deliverer::open(&config, &config.bot).unwrap();
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    // How long those took that were recorded before it ran it cannot know.
    record(10..20);
    assert!(tape.wait_visible(LONG).unwrap(), "{:?}", tape.sinks());
    // Its own words are a second old at most; the quantile of the rows comes with them.
    let end = std::time::Instant::now() + LONG;
    while tape.sinks().iter().all(|sink| sink.visible_p50.is_none()) {
        // Only rows that come after it has read everything tell it their time.
        assert!(std::time::Instant::now() < end, "{:?}", tape.sinks());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    metrics::with_local_recorder(&told, || tape.publish().unwrap());

    let (described, labels) = (told.0.described.lock().unwrap().clone(), told.0.labels.lock().unwrap().clone());
    for metric in ALL {
        assert!(described.contains(metric.name), "{} is not described", metric.name);
        let expected: BTreeSet<_> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(labels.get(metric.name), Some(&expected), "{} is not emitted so", metric.name);
    }
    assert_eq!(labels.len(), ALL.len(), "something is emitted that is not listed");
    assert_eq!(told.value("tripod_rows_visible bot=metrics table=attempts sink=main"), Some(20.0));
    assert_eq!(told.value("tripod_rows_recorded_total bot=metrics table=attempts sink=main"), Some(20.0));
    assert_eq!(told.value("tripod_ledger_adds_up bot=metrics table=attempts sink=main"), Some(1.0));
    assert_eq!(told.value("tripod_sink_state bot=metrics sink=main class=critical state=delivering"), Some(1.0));
    assert_eq!(told.value("tripod_sink_state bot=metrics sink=main class=critical state=not_running"), Some(0.0));
    assert_eq!(told.value("tripod_trading_allowed bot=metrics"), Some(1.0));

    // From the files alone, as a monitor would.
    let beside = Told::default();
    metrics::with_local_recorder(&beside, || publish(&config).unwrap());
    assert_eq!(beside.value("tripod_rows_visible bot=metrics table=attempts sink=main"), Some(20.0));
    assert_eq!(beside.value("tripod_trading_allowed bot=metrics"), None, "only the bot knows");
    drop(deliverer);
}
