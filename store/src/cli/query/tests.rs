//! `rankline query` against a service of the test.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use clap::Parser;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::cli::testing::QueryService;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: QueryArgs,
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    async fn wait_for(&self, lines: usize) -> Vec<String> {
        for _ in 0..500 {
            if self.text().lines().count() >= lines {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.text().lines().map(str::to_owned).collect()
    }
}

type Started = (JoinHandle<anyhow::Result<()>>, Sink, Arc<Mutex<Vec<String>>>);

fn start(url: &str, line: &[&str]) -> Started {
    let args = Line::try_parse_from(["query", "--url", url].iter().chain(line))
        .unwrap()
        .args;
    let (sink, said) = (Sink::default(), Arc::<Mutex<Vec<String>>>::default());
    let notes = Arc::clone(&said);
    let notes = Notes::to(move |note| notes.lock().push(note.to_owned()));
    (
        tokio::spawn(query(args, Box::new(sink.clone()), notes, false)),
        sink,
        said,
    )
}

/// Output and remarks of a query that ends.
async fn ask(service: &QueryService, line: &[&str]) -> (String, String) {
    let (task, sink, said) = start(&service.url(), line);
    task.await.unwrap().unwrap();
    let said = said.lock().join("\n");
    (sink.text(), said)
}

/// Lines that share timestamps by fives, in three streams.
async fn crowded(most_lines: usize) -> (QueryService, i64, Vec<String>) {
    let service = QueryService::start(most_lines).await;
    let base = now_ns() - 60_000_000_000;
    let mut expected = Vec::new();
    for i in 0..103 {
        let (ts, line) = (base + i / 5, format!("line {i:03}"));
        service.add(ts, &[("rank", &(i % 3).to_string())], &line);
        expected.push(line);
    }
    (service, base, expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_lose_and_double_nothing_where_timestamps_are_equal() {
    let (service, base, expected) = crowded(8).await;
    for direction in [&["--forward"][..], &[]] {
        for limit in ["0", "1000", "103"] {
            let (out, _) = ask(
                &service,
                &[&["{}", "-o", "raw", "--limit", limit], direction].concat(),
            )
            .await;
            let mut lines: Vec<&str> = out.lines().collect();
            lines.sort_unstable();
            assert_eq!(lines, expected, "{direction:?} {limit}");
        }
    }
    let (out, _) = ask(&service, &["{}", "-o", "jsonl", "--limit", "42", "--forward"]).await;
    let times: Vec<i64> = out
        .lines()
        .map(|l| {
            serde_json::from_str::<serde_json::Value>(l).unwrap()["ts"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(times, (0..42).map(|i| base + i / 5).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_lines_with_one_timestamp_are_an_error_not_a_gap() {
    let (service, _, _) = crowded(4).await;
    let (task, _, _) = start(&service.url(), &["{}", "--limit", "0"]);
    let error = task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("more than 4 lines have the timestamp"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lines_are_counted() {
    let service = QueryService::start(3).await;
    let now = now_ns();
    for ts in [now - 3, now - 2, now - 2, now - 1] {
        service.add(ts, &[("rank", "0")], "same");
    }
    let (out, _) = ask(&service, &["{}", "-o", "raw"]).await;
    assert_eq!(out, "same\nsame\nsame\nsame\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_carry_all_labels() {
    let service = QueryService::start(100).await;
    let ts = now_ns() - 1000;
    service.add(ts, &[("job", "x")], "a\nb");
    let (out, _) = ask(&service, &["{}", "--output", "jsonl"]).await;
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    let expected =
        serde_json::json!({"ts": ts.to_string(), "labels": {"job": "x", "level": "info"}, "line": "a\nb"});
    assert_eq!(object, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn metric_queries() {
    let service = QueryService::start(100).await;
    let (out, _) = ask(&service, &["sum(x)", "-o", "jsonl", "--step", "30s"]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"ts":"1767323045000000000","labels":{"rank":"0"},"value":"1"}"#
    );
    assert!(lines[2].contains(r#""ts":"1767323045500000000""#));
    assert_eq!(service.requests.lock()[0]["step"], "30");
    assert_eq!(ask(&service, &["sum(x)", "--instant"]).await.0, "42\n");
    assert!(ask(&service, &["sum(x)"]).await.0.contains("rank=0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_show_their_place() {
    let service = QueryService::start(100).await;
    for line in [&["bad query"][..], &["bad query", "--tail"]] {
        let (task, _, _) = start(&service.url(), line);
        let error = task.await.unwrap().unwrap_err().to_string();
        assert!(error.ends_with("\n  bad query\n      ^"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_found_is_said() {
    let service = QueryService::start(100).await;
    let (out, said) = ask(&service, &["{}", "--explain"]).await;
    assert_eq!(out, "");
    assert!(said.contains("nothing found between"), "{said}");
    assert!(said.contains("7 lines looked at (2.00 KiB)"), "{said}");
    assert_eq!(service.requests.lock()[0]["explain"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_is_an_error() {
    for line in [&["{}"][..], &["{}", "--tail"]] {
        let (task, _, _) = start("http://127.0.0.1:1", line);
        let error = task.await.unwrap().unwrap_err().to_string();
        assert!(error.contains("no answer from http://127.0.0.1:1"), "{error}");
        assert!(error.to_lowercase().contains("connection refused"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_sent_as_asked() {
    let service = QueryService::start(100).await;
    ask(&service, &["{}", "--from", "2026-01-02T03:04:05Z", "--to", "-2h"])
        .await
        .0
        .clear();
    let asked = service.requests.lock()[0].clone();
    assert_eq!(asked["start"], "1767323045000000000");
    let back = now_ns() - asked["end"].parse::<i64>().unwrap();
    assert!((7_200_000_000_000..7_260_000_000_000).contains(&back), "{back}");
    let (task, _, _) = start(&service.url(), &["{}", "--from", "now", "--to", "-1h"]);
    assert!(
        task.await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("--from is after --to")
    );
}

async fn until_tailing(service: &QueryService, tails: usize) {
    for _ in 0..500 {
        if service.tails() == tails {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no tail came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_goes_on_after_a_lost_connection_without_loss_or_double() {
    let service = QueryService::start(50).await;
    let now = now_ns();
    for i in 0..20 {
        service.add(now - 1000 + i, &[("rank", "0")], &format!("old {i:02}"));
    }
    let (task, sink, said) = start(&service.url(), &["{}", "--tail", "-o", "raw", "--limit", "5"]);
    assert_eq!(
        sink.wait_for(5).await,
        ["old 15", "old 16", "old 17", "old 18", "old 19"]
    );
    until_tailing(&service, 1).await;
    for i in 0..150 {
        service.add(now_ns(), &[("rank", "0")], &format!("live {i:03}"));
        if i % 40 == 20 {
            service.hang_up();
            until_tailing(&service, 0).await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    // Late lines: their time is before what was shown, they came while nobody listened.
    service.add_silently(now - 500, &[("rank", "1")], "late");
    service.hang_up();
    let lines = sink.wait_for(156).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sink.text().lines().count(), 156, "{:?}", said.lock());
    let mut live: Vec<&String> = lines.iter().filter(|line| line.starts_with("live")).collect();
    live.sort();
    live.dedup();
    assert_eq!(live.len(), 150);
    assert!(lines.contains(&"late".to_owned()));
    assert!(said.lock().iter().any(|note| note == "connected again"));
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_the_service_left_out_are_asked_for() {
    let service = QueryService::start(100).await;
    let (task, sink, _) = start(&service.url(), &["{}", "--tail", "-o", "raw"]);
    until_tailing(&service, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    service.add(now_ns(), &[("rank", "0")], "told");
    assert_eq!(sink.wait_for(1).await, ["told"]);
    service.add_silently(now_ns(), &[("rank", "0")], "left out");
    service.say_missed();
    assert_eq!(sink.wait_for(2).await, ["told", "left out"]);
    task.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_query_can_not_be_followed() {
    let service = QueryService::start(100).await;
    let (task, _, _) = start(&service.url(), &["sum(x)", "--tail"]);
    assert!(
        task.await
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("only lines can be followed")
    );
}

#[test]
fn carets() {
    let at = |message, query| caret(message, query);
    assert_eq!(
        at("parse error at line 2, col 3: x", "{\n\tab"),
        Some("  \tab\n  \t ^".into())
    );
    assert_eq!(
        at("parse error at line 1, col 9: x", "{é"),
        Some(format!("  {{é\n  {}^", "  "))
    );
    assert_eq!(at("parse error : x", "{}"), None);
    assert_eq!(at("at line 0, col 0", "{}"), None);
}
