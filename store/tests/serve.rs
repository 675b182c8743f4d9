//! The binary as its users run it: durable pushes, kills, overload, shutdown, configuration errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

const DAY: i64 = 1_767_571_200_000_000_000;

/// A running service on a free port, killed when dropped.
struct Service {
    child: Child,
    url: String,
    client: reqwest::Client,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rankline"));
    command.arg("serve").args(args).env_clear().stdin(Stdio::null());
    command
}

impl Service {
    fn start(store: &str, args: &[&str]) -> Self {
        rankline::cli::client::install_tls();
        let mut command = command(&["--listen", "127.0.0.1:0", "--store", store]);
        let mut child = command.args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let ready = lines
            .find(|line| line.contains("rankline is ready"))
            .expect("it says when it is ready");
        let address = ready
            .split_once("address=")
            .unwrap()
            .1
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        // Read on, so that the service never waits for its log to be read.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            url: format!("http://{address}"),
            client: reqwest::Client::new(),
        }
    }

    async fn push(&self, stream: &str, entries: Value) -> reqwest::Response {
        let body = json!({"streams": [{"stream": {"app": stream}, "values": entries}]});
        self.client
            .post(format!("{}/loki/api/v1/push", self.url))
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    async fn lines(&self, stream: &str) -> Vec<String> {
        let query = [
            ("query", format!("{{app={stream:?}}}")),
            ("start", (DAY - 1).to_string()),
            ("end", (DAY + 200_000_000_000_000).to_string()),
        ];
        let more = [("limit", "5000".to_owned()), ("direction", "forward".to_owned())];
        let url = format!("{}/loki/api/v1/query_range", self.url);
        let answer: Value = self
            .client
            .get(url)
            .query(&query)
            .query(&more)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let streams = answer["data"]["result"].as_array().unwrap().clone();
        let values = streams.iter().flat_map(|s| s["values"].as_array().unwrap());
        let mut lines: Vec<_> = values
            .map(|v| {
                (
                    v[0].as_str().unwrap().to_owned(),
                    v[1].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        lines.sort();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn signal(&self, signal: &str) {
        let done = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(done.success());
    }

    fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder(path: &Path) -> String {
    path.join("store").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_entries_survive_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let mut service = Service::start(&folder(temp.path()), &["--flush-interval", "10ms"]);
    let mut acknowledged = Vec::new();
    for n in 0..40_i64 {
        let entries = json!([[(DAY + n * 7_000_000_000_000).to_string(), format!("line {n}")]]);
        if service.push("killed", entries).await.status() == StatusCode::NO_CONTENT {
            acknowledged.push(format!("line {n}"));
        }
        if n == 25 {
            service.signal("-KILL");
            service.wait();
            service = Service::start(&folder(temp.path()), &[]);
        }
    }
    assert_eq!(acknowledged.len(), 40);
    // The query reaches two days beyond the first entry.
    acknowledged.truncate(29);
    assert_eq!(service.lines("killed").await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn good_entries_are_stored_and_bad_ones_named() {
    let service = Service::start("memory://", &[]);
    let answer = service
        .push(
            "part",
            json!([
                [DAY.to_string(), "kept"],
                [(DAY + 1).to_string(), "x".repeat(262_145)],
                ["4102444800000000000", "future"]
            ]),
        )
        .await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("max entry size '262144' bytes exceeded") && text.contains("has timestamp too new"),
        "{text}"
    );
    assert_eq!(service.lines("part").await, ["kept"]);
    let metrics = service.get("/metrics").await.text().await.unwrap();
    for metric in [
        "rankline_push_refused_entries_total{reason=\"",
        "rankline_push_entries_total 1",
    ] {
        assert!(metrics.contains(metric), "{metric} is missing in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_endpoints_answer() {
    let service = Service::start("memory://", &["--path-prefix", "/logs", "--s3-allow-http"]);
    assert_eq!(service.get("/logs/ready").await.text().await.unwrap(), "ready\n");
    let build: Value = service
        .get("/logs/loki/api/v1/status/buildinfo")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(build["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(service.get("/logs/flush").await.status(), StatusCode::NO_CONTENT);
    assert!(
        service
            .get("/logs/config")
            .await
            .text()
            .await
            .unwrap()
            .contains("path_prefix = \"/logs\"  # flag")
    );
    assert_eq!(service.get("/logs/ring").await.status(), StatusCode::OK);
    let unknown = service.get("/ready").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    // A base URL that ends in a slash.
    assert_eq!(service.get("//logs/ready").await.status(), StatusCode::OK);
    let unknown = service.get("/logs/nosuch").await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(unknown.text().await.unwrap(), "404 page not found\n");
    let head = service
        .client
        .head(format!("{}/logs/loki/api/v1/labels", service.url));
    let head = head.send().await.unwrap();
    assert_eq!(head.status(), StatusCode::METHOD_NOT_ALLOWED);
    let body = format!("{}/logs/log_level?log_level=info", service.url);
    let by_url = service.client.post(body).send().await.unwrap();
    assert_eq!(by_url.status(), StatusCode::OK);
    let set = |level: &'static str| {
        service
            .client
            .post(format!("{}/logs/log_level", service.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("log_level={level}"))
            .send()
    };
    assert_eq!(set("loud").await.unwrap().status(), StatusCode::BAD_REQUEST);
    assert_eq!(set("debug").await.unwrap().status(), StatusCode::OK);
    assert!(
        service
            .get("/logs/log_level")
            .await
            .text()
            .await
            .unwrap()
            .contains("debug")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_answers_429_with_retry_after() {
    let temp = tempfile::tempdir().unwrap();
    let args = [
        "--ingest-memory-bytes",
        "100KiB",
        "--push-max-bytes",
        "100KiB",
        "--push-max-decoded-bytes",
        "100KiB",
        "--batch-bytes",
        "100KiB",
        "--flush-interval",
        "1s",
    ];
    let service = Service::start(&folder(temp.path()), &args);
    let line = "x".repeat(8_000);
    let pushes =
        (0..30).map(|n| service.push("busy", json!([[(DAY + n).to_string(), format!("{n} {line}")]])));
    let answers = futures::future::join_all(pushes).await;
    let count = |status| answers.iter().filter(|a| a.status() == status).count();
    assert!(count(StatusCode::TOO_MANY_REQUESTS) > 0);
    assert_eq!(
        count(StatusCode::TOO_MANY_REQUESTS) + count(StatusCode::NO_CONTENT),
        30
    );
    let refused = answers
        .iter()
        .find(|a| a.status() == StatusCode::TOO_MANY_REQUESTS)
        .unwrap();
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(service.lines("busy").await.len(), count(StatusCode::NO_CONTENT));
    let later = service
        .push("busy", json!([[(DAY + 100).to_string(), "later"]]))
        .await;
    assert_eq!(later.status(), StatusCode::NO_CONTENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_answers_what_is_in_flight() {
    let temp = tempfile::tempdir().unwrap();
    let mut service = Service::start(&folder(temp.path()), &["--flush-interval", "60s"]);
    assert_eq!(
        service
            .push("down", json!([[DAY.to_string(), "first"]]))
            .await
            .status(),
        StatusCode::NO_CONTENT
    );
    let waiting = async {
        service
            .push("down", json!([[(DAY + 1).to_string(), "second"]]))
            .await
    };
    let stop = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        service.signal("-TERM");
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(service.wait(), Some(0));
    let again = Service::start(&folder(temp.path()), &[]);
    assert_eq!(again.lines("down").await, ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_kept_apart() {
    let service = Service::start("memory://", &["--tenants-required"]);
    let push = |tenant: Option<&'static str>| {
        let body = json!({"streams": [{"stream": {"app": "x"}, "values": [[DAY.to_string(), tenant]]}]});
        let request = service
            .client
            .post(format!("{}/loki/api/v1/push", service.url))
            .json(&body);
        tenant
            .into_iter()
            .fold(request, |request, tenant| request.header("X-Scope-OrgID", tenant))
            .send()
    };
    assert_eq!(push(Some("acme")).await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(
        push(Some("globex")).await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    let several = push(Some("acme|globex")).await.unwrap();
    assert_eq!(
        (several.status(), several.text().await.unwrap()),
        (StatusCode::BAD_REQUEST, "multiple org IDs present".to_owned())
    );
    let none = push(None).await.unwrap();
    assert_eq!(
        (none.status(), none.text().await.unwrap()),
        (StatusCode::UNAUTHORIZED, "no org id".to_owned())
    );
}

#[test]
fn a_wrong_configuration_is_named_and_ends_the_process() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("rankline.toml");
    std::fs::write(&file, "flush_intervall = '1s'\n").unwrap();
    let run = |args: &[&str]| {
        let out = command(args).output().unwrap();
        assert!(!out.status.success(), "{args:?}");
        String::from_utf8(out.stderr).unwrap()
    };
    let file = file.to_str().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--config", file], "flush_intervall"),
        (&["--config", "/nowhere.toml"], "/nowhere.toml"),
        (
            &["--flush-interval", "fast"],
            "flush_interval (flag --flush-interval)",
        ),
        (
            &["--store", "s3://b", "--s3-endpoint", "http://127.0.0.1:1"],
            "s3_allow_http",
        ),
        (&["--store", "/proc/rankline"], "/proc/rankline"),
    ];
    for (args, word) in cases {
        let text = run(args);
        assert!(text.contains(word), "{args:?}: {text}");
    }
}

#[test]
fn the_configuration_is_printed_without_secrets() {
    let mut command = command(&["--print-config", "--store", "s3://b", "--s3-access-key-id", "id"]);
    let out = command
        .env("RANKLINE_S3_SECRET_ACCESS_KEY", "hunter2")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success());
    assert!(
        text.contains("s3_secret_access_key = \"(secret)\"  # environment RANKLINE_S3_SECRET_ACCESS_KEY"),
        "{text}"
    );
    assert!(!text.contains("hunter2"));
}
