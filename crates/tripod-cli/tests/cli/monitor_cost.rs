//! `tripod bench monitor`: it tells every figure, about a monitor that had something to see, and leaves nothing behind.

use serde_json::Value;

use crate::run::run;

#[test]
fn the_bench_of_the_monitor_tells_every_figure_and_leaves_no_server_behind() {
    let dir = tempfile::tempdir().unwrap();
    let said = run(dir.path(), &["--data", ".", "bench", "monitor", "--seconds", "4", "--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = said.json();
    let figure = |name: &str| -> Value {
        let figures = report["results"].as_array().unwrap();
        figures.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
    };
    let value = |name: &str| figure(name)["value"].as_u64().unwrap();
    for bar in ["cpu_ten_readers", "rss_ten_readers", "frames_skipped"] {
        let figure = figure(bar);
        assert!(figure["bar"].is_string() && figure["ok"].is_boolean(), "{figure}");
    }
    // A process that answers for seconds uses some time and some memory.
    assert!(value("cpu_ten_readers") > 0 && value("rss_ten_readers") > value("rss_anon_ten_readers"), "{report}");
    // Ten readers and four seconds: frames of a stack that has servers, tables and streams are no empty ones.
    assert!(value("sent_to_a_reader") > 1_000 && value("frame_gap_max") > 0, "{report}");
    for name in ["metrics", "snapshot"] {
        let (p50, p99) = (value(&format!("{name}_p50")), value(&format!("{name}_p99")));
        assert!(p50 > 10 && p99 >= p50, "no answer by TCP is that quick: {p50} us, {p99} us");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
