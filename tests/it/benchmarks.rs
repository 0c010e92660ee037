//! The scripts of the benchmarks, as far as they decide what the documents say.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::process::has;

/// Three workloads: with every tool, without Unison, and with the bare act and more than the chart has room for.
const RESULTS: &str = r#"{
    "small": {"rsync": {"wall": 2.0, "cpu": 3, "wire": 5000}, "rsync-z": {"wall": 4.0, "cpu": 5, "wire": 4000},
              "syncfiles": {"wall": 1.0, "cpu": 1, "wire": 1000}, "unison": {"wall": 3.0, "cpu": 4, "wire": 8000}},
    "a<b":   {"rsync": {"wall": 1.0, "cpu": 1, "wire": 9000000}, "syncfiles": {"wall": 0.2, "cpu": 1, "wire": 90}},
    "big":   {"rsync": {"wall": 1.0, "cpu": 1, "wire": 1000}, "syncfiles": {"wall": 70.0, "cpu": 1, "wire": 1500},
              "floor": {"wall": 0.75, "cpu": 1, "wire": 900}}
}"#;

/// What `plot.py` prints with these arguments, which must please it.
fn plot(arguments: &[&Path]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/benches/plot.py");
    let ended = Command::new("python3").arg(script).args(arguments).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

fn chart(results: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (json, svg) = (folder.path().join("results.json"), folder.path().join("chart.svg"));
    fs::write(&json, results).unwrap();
    plot(&[&json, &svg]);
    fs::read_to_string(svg).unwrap()
}

/// Fails unless `python3`'s own parser takes it for XML.
fn assert_well_formed(xml: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chart.svg");
    fs::write(&file, xml).unwrap();
    let parse = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    let ended = Command::new("python3").args(["-c", parse]).arg(file).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn the_chart_has_two_bars_a_workload_and_tool_and_a_figure_at_each() {
    if !has("python3") {
        return;
    }
    let svg = chart(RESULTS);
    assert_well_formed(&svg);
    let count = |text: &str| svg.matches(text).count();
    assert_eq!((count(r#"class="bar syncfiles""#), count(r#"class="bar unison""#)), (6, 2));
    assert_eq!((count(r#"class="one""#), count(r#"class="floor""#), count("</text>")), (2, 3, 28));
    assert!(svg.contains("<title>big, the bare act, wall time: 0.75</title>"));
    for figure in [">0.50<", ">1.50<", ">0.20<", ">70.00↑<", ">0.25<", ">2.00↑<", ">&lt;0.0001<", ">a&lt;b<"]
    {
        assert!(svg.contains(figure), "{figure} in {svg}");
    }
    assert_eq!(chart(RESULTS), svg);
}

#[test]
fn the_table_says_what_was_measured_and_what_was_not() {
    if !has("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("results.json");
    fs::write(&json, RESULTS).unwrap();
    let table = plot(&[Path::new("--table"), &json]);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[2], "| small | 2.00 | 1.00 | 0.50 | – | 1.50 | 0.004 | 0.001 | 0.25 |");
    assert_eq!(rows[3], "| a<b | 1.00 | 0.20 | 0.20 | – | – | 9.000 | 0.000 | <0.0001 |");
    assert_eq!(rows[4], "| big | 1.00 | 70.00 | 70.00 | 0.75 | – | 0.001 | 0.002 | 1.50 |");
}

#[test]
fn the_page_of_benchmarks_and_its_chart_show_the_raw_results() {
    if !has("python3") {
        return;
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let json = docs.join("benchmarks.json");
    let page = fs::read_to_string(docs.join("benchmarks.md")).unwrap();
    let table = plot(&[Path::new("--table"), &json]);
    let parts: Vec<&str> = page.split("<!-- table -->\n").collect();
    assert_eq!((parts.len(), parts[1]), (3, &*table));
    let drawn = fs::read_to_string(docs.join("benchmarks.svg")).unwrap();
    assert!(chart(&fs::read_to_string(json).unwrap()) == drawn, "draw docs/benchmarks.svg again");
}
