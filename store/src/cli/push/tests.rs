//! `rankline push` against a service of the test: nothing lost, nothing double, whatever the service does.
#![allow(clippy::unwrap_used)]

use std::fs::{OpenOptions, rename, write};
use std::io::{PipeWriter, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use clap::Parser;
use tokio::task::JoinHandle;

use super::*;
use crate::cli::testing::{Behaviour, PushService};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: PushArgs,
}

/// A running push with its surroundings in the test's hand.
struct Running {
    task: JoinHandle<anyhow::Result<bool>>,
    stop: watch::Sender<Stop>,
    report: Arc<Report>,
    said: Arc<Mutex<Vec<String>>>,
    echoed: Arc<Mutex<Vec<u8>>>,
}

struct Echo(Arc<Mutex<Vec<u8>>>);

impl Write for Echo {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn start(url: &str, line: &[&str], stdin: Box<dyn Read + Send>) -> Running {
    let words = ["push", "--url", url, "--timezone", "UTC"];
    let args = Line::try_parse_from(words.iter().chain(line)).unwrap().args;
    let (said, echoed) = (
        Arc::<Mutex<Vec<String>>>::default(),
        Arc::<Mutex<Vec<u8>>>::default(),
    );
    let sink = Arc::clone(&said);
    let report = Arc::new(Report::to(Box::new(move |message| {
        sink.lock().push(message.to_owned())
    })));
    let (stop, stop_seen) = watch::channel(Stop::No);
    let around = Surroundings {
        stdin,
        stdout: Box::new(Echo(Arc::clone(&echoed))),
        stop: stop_seen,
        report: Arc::clone(&report),
    };
    let files = files_to_read(&args).unwrap();
    Running {
        task: tokio::spawn(push(args, files, around)),
        stop,
        report,
        said,
        echoed,
    }
}

fn start_pipe(url: &str, line: &[&str]) -> (Running, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    (start(url, &[&["-"], line].concat(), Box::new(reader)), writer)
}

impl Running {
    async fn finish(self) -> bool {
        tokio::time::timeout(Duration::from_secs(20), self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    }

    fn said(&self) -> String {
        self.said.lock().join("\n")
    }
}

async fn push_text(service: &PushService, text: &[u8], line: &[&str]) -> bool {
    start(
        &service.url(),
        &[&["-"], line].concat(),
        Box::new(std::io::Cursor::new(text.to_vec())),
    )
    .finish()
    .await
}

fn numbered(count: usize) -> String {
    (0..count).map(|i| format!("line {i}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_exactly() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.log");
    let text = format!("same\nsame\n\n{}no end", numbered(5000));
    write(&path, &text).unwrap();
    let line = [
        path.to_str().unwrap(),
        "--raw",
        "--label",
        "job=llama",
        "--tenant",
        "ml",
        "--batch-bytes",
        "20000",
    ];
    assert!(
        start(&service.url(), &line, Box::new(std::io::empty()))
            .finish()
            .await
    );
    assert_eq!(service.lines(), text.lines().collect::<Vec<_>>());
    let first = &service.stored()[0];
    assert_eq!(first.labels, r#"{job="llama"}"#);
    assert_eq!(
        first.metadata,
        [("filename".to_owned(), path.to_str().unwrap().to_owned())]
    );
    service.with(|b| assert!(b.requests > 10 && b.tenants.iter().all(|t| t == "ml")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_service_is_asked_again_and_nothing_is_lost_or_double() {
    let refuse = [
        (429, Some("1")),
        (500, None),
        (503, None),
        (429, None),
        (502, None),
    ]
    .into();
    let service = PushService::start(Behaviour {
        refuse,
        ..Default::default()
    })
    .await;
    let text = numbered(3000);
    let started = Instant::now();
    let running = start(
        &service.url(),
        &["-", "--raw", "--batch-bytes", "50000"],
        Box::new(std::io::Cursor::new(text.clone().into_bytes())),
    );
    let report = Arc::clone(&running.report);
    assert!(running.finish().await);
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "Retry-After was not honoured"
    );
    assert_eq!(service.lines(), text.lines().collect::<Vec<_>>());
    assert_eq!(service.with(|b| b.stored.len()), 3000);
    assert_eq!(report.retries.load(Relaxed), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_yet_is_waited_for() {
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let running = start(
        &format!("http://{address}"),
        &["-"],
        Box::new(std::io::Cursor::new(b"a\nb\n".to_vec())),
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(running.said().contains("trying again"), "{}", running.said());
    let service = PushService::start_at(&address.to_string(), Behaviour::default()).await;
    assert!(running.finish().await);
    assert_eq!(service.lines(), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lines_are_named_and_the_others_stored() {
    let service = PushService::start(Behaviour {
        bad: Some("BAD"),
        ..Default::default()
    })
    .await;
    let text = numbered(400)
        .replace("line 77\n", "BAD\n")
        .replace("line 300\n", "BAD too\n");
    let running = start(
        &service.url(),
        &["-", "--raw"],
        Box::new(std::io::Cursor::new(text.clone().into_bytes())),
    );
    let (said, report) = (Arc::clone(&running.said), Arc::clone(&running.report));
    assert!(!running.finish().await);
    let good: Vec<&str> = text.lines().filter(|line| !line.contains("BAD")).collect();
    assert_eq!(service.lines(), good);
    let said = said.lock().join("\n");
    assert!(said.contains("stdin:78: refused: 1 lines are bad"), "{said}");
    assert!(said.contains("stdin:301: refused"), "{said}");
    assert_eq!(
        (report.refused.load(Relaxed), report.stored.load(Relaxed)),
        (2, 398)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_live_and_echoed() {
    let service = PushService::start(Behaviour::default()).await;
    let (running, mut pipe) = start_pipe(&service.url(), &["--tee", "--label", "job=x"]);
    let written = Instant::now();
    pipe.write_all(b"first\nhalf").unwrap();
    assert_eq!(service.wait_for(1).await, ["first"]);
    assert!(
        written.elapsed() < Duration::from_secs(1),
        "{:?}",
        written.elapsed()
    );
    assert_eq!(*running.echoed.lock(), b"first\nhalf");
    pipe.write_all(b" and half").unwrap();
    drop(pipe);
    assert!(running.finish().await);
    assert_eq!(service.lines(), ["first", "half and half"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_slows_the_pipe_down_and_says_so() {
    let service = PushService::start(Behaviour {
        delay: Duration::from_millis(150),
        ..Default::default()
    })
    .await;
    let text = numbered(4000);
    let line = [
        "-",
        "--raw",
        "--batch-bytes",
        "20000",
        "--buffer-bytes",
        "30000",
        "--parallel",
        "1",
    ];
    let running = start(
        &service.url(),
        &line,
        Box::new(std::io::Cursor::new(text.clone().into_bytes())),
    );
    service.with(|b| b.delay = Duration::from_millis(1500));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    service.with(|b| b.delay = Duration::ZERO);
    let said = Arc::clone(&running.said);
    assert!(running.finish().await);
    assert_eq!(service.lines(), text.lines().collect::<Vec<_>>());
    assert!(
        said.lock().iter().any(|m| m.contains("buffer is full")),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_drained_when_the_service_will_never_take_anything() {
    let service = PushService::start(Behaviour {
        always: Some(401),
        ..Default::default()
    })
    .await;
    let (running, mut pipe) = start_pipe(&service.url(), &["--tee", "--batch-wait-ms", "10"]);
    for i in 0..50 {
        writeln!(pipe, "line {i}").unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(pipe);
    let (report, echoed, said) = (
        Arc::clone(&running.report),
        Arc::clone(&running.echoed),
        Arc::clone(&running.said),
    );
    assert!(!running.finish().await);
    assert_eq!(report.unsent.load(Relaxed), 50);
    assert_eq!(echoed.lock().iter().filter(|&&b| b == b'\n').count(), 50);
    assert_eq!(
        said.lock().iter().filter(|m| m.contains("401")).count(),
        1,
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_signal_a_pipe_is_read_to_its_end() {
    let service = PushService::start(Behaviour::default()).await;
    let (running, mut pipe) = start_pipe(&service.url(), &[]);
    pipe.write_all(b"before\n").unwrap();
    service.wait_for(1).await;
    running.stop.send_replace(Stop::Finish);
    tokio::time::sleep(Duration::from_millis(300)).await;
    pipe.write_all(b"KeyboardInterrupt\n").unwrap();
    drop(pipe);
    assert!(running.finish().await);
    assert_eq!(service.lines(), ["before", "KeyboardInterrupt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_the_pipe_and_a_third_not_for_the_service() {
    let service = PushService::start(Behaviour {
        always: Some(503),
        ..Default::default()
    })
    .await;
    let (running, mut pipe) = start_pipe(&service.url(), &[]);
    pipe.write_all(b"a\nb\n").unwrap();
    tokio::time::sleep(Duration::from_millis(600)).await;
    running.stop.send_replace(Stop::Now);
    let (started, report) = (Instant::now(), Arc::clone(&running.report));
    assert!(!running.finish().await);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(report.unsent.load(Relaxed), 2);
    drop(pipe);
}

#[tokio::test(flavor = "multi_thread")]
async fn follows_through_both_kinds_of_rotation() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("a.log"), folder.path().join("a.log.1"));
    let append = |text: &str| {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    append("one\ntw");
    let running = start(
        &service.url(),
        &[path.to_str().unwrap(), "--follow"],
        Box::new(std::io::empty()),
    );
    assert_eq!(service.wait_for(1).await, ["one"]);
    append("o\n");
    assert_eq!(service.wait_for(2).await, ["one", "two"]);
    append("cut");
    rename(&path, &old).unwrap();
    append("three\n");
    assert_eq!(service.wait_for(4).await, ["one", "two", "cut", "three"]);
    OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let written = Instant::now();
    append("a line longer than the file was\n");
    assert_eq!(
        service.wait_for(5).await.last().unwrap(),
        "a line longer than the file was"
    );
    assert!(written.elapsed() < Duration::from_secs(1));
    append("last words without an end");
    tokio::time::sleep(Duration::from_millis(300)).await;
    running.stop.send_replace(Stop::Finish);
    assert!(running.finish().await);
    assert_eq!(service.lines().len(), 6);
    assert_eq!(service.with(|b| b.stored.len()), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_goes_on_where_it_was_acknowledged() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let (path, checkpoint) = (folder.path().join("a.log"), folder.path().join("push.json"));
    let line = [
        path.to_str().unwrap(),
        "--follow",
        "--checkpoint",
        checkpoint.to_str().unwrap(),
    ];
    write(&path, "one\ntwo\n").unwrap();
    for (count, more) in [(2, "three\n"), (3, "four\n"), (4, "")] {
        let running = start(&service.url(), &line, Box::new(std::io::empty()));
        service.wait_for(count).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        running.stop.send_replace(Stop::Finish);
        assert!(running.finish().await);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(more.as_bytes())
            .unwrap();
    }
    assert_eq!(
        service.with(|b| b.stored.iter().map(|s| s.line.clone()).collect::<Vec<_>>()),
        ["one", "two", "three", "four"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn container_logs_bring_time_stream_and_names() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder
        .path()
        .join(format!("llama-0_ml_train-{}.log", "0f".repeat(32)));
    write(
        &path,
        "2026-01-02T03:04:05.000000001Z stdout P begin \n\
         2026-01-02T03:04:05.000000002Z stderr F other\n\
         2026-01-02T03:04:05.000000003Z stdout F end\n",
    )
    .unwrap();
    assert!(
        start(
            &service.url(),
            &[path.to_str().unwrap()],
            Box::new(std::io::empty())
        )
        .finish()
        .await
    );
    let stored = service.stored();
    let seen: Vec<(i64, &str, &str)> = stored
        .iter()
        .map(|s| (s.ts % 1_000_000_000, s.line.as_str(), s.labels.as_str()))
        .collect();
    let labels =
        |stream| format!(r#"{{container="train", namespace="ml", pod="llama-0", stream="{stream}"}}"#);
    let (stdout, stderr) = (labels("stdout"), labels("stderr"));
    assert_eq!(
        seen,
        [(1, "begin end", stdout.as_str()), (2, "other", stderr.as_str())]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_filter_keep_their_time_and_fields() {
    let service = PushService::start(Behaviour::default()).await;
    let text = concat!(
        r#"{"log":"a","rank":"3","level":"error","tag":"t","sec":1767323045,"nsec":7}"#,
        "\n",
        r#"{"log":"b\nc","rank":3,"rankline_ts":"1767323045000000005","kubernetes":{"pod_name":"p"},"tag":"t","sec":1767323046,"nsec":0}"#,
        "\nnot json\n",
    );
    assert!(
        push_text(
            &service,
            text.as_bytes(),
            &["--input", "jsonl", "--label", "job=x"]
        )
        .await
    );
    let stored = service.stored();
    assert_eq!(
        (stored[0].ts, stored[0].line.as_str()),
        (1_767_323_045_000_000_005, "b\nc")
    );
    assert_eq!(stored[0].labels, r#"{job="x", pod="p", rank="3"}"#);
    assert_eq!(stored[1].ts, 1_767_323_045_000_000_007);
    assert_eq!(
        stored[1].metadata,
        [("level".into(), "error".into()), ("tag".into(), "t".into())]
    );
    assert_eq!(stored[2].line, "not json");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bytes_and_long_lines_arrive() {
    let service = PushService::start(Behaviour::default()).await;
    let mut text = b"\0\0\0hole\nbad \xff byte\nin\0side\n\0\0\ncr\r\n".to_vec();
    text.extend_from_slice(&"x".repeat(250).into_bytes());
    assert!(push_text(&service, &text, &["--raw", "--max-line-bytes", "100"]).await);
    let lines = service.lines();
    assert_eq!(lines[..4], ["hole", "bad \u{fffd} byte", "in\0side", "cr"]);
    assert_eq!(
        lines[4..].iter().map(String::len).collect::<Vec<_>>(),
        [100, 100, 50]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_files_and_folders() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(b"2026-01-02 03:04:05 one\n").unwrap();
    write(folder.path().join("1.log.gz"), gz.finish().unwrap()).unwrap();
    write(folder.path().join("2.log"), "2026-01-02 03:04:06 two\n").unwrap();
    write(folder.path().join(".hidden"), "no\n").unwrap();
    assert!(
        start(
            &service.url(),
            &[folder.path().to_str().unwrap()],
            Box::new(std::io::empty())
        )
        .finish()
        .await
    );
    assert_eq!(
        service.lines(),
        ["2026-01-02 03:04:05 one", "2026-01-02 03:04:06 two"]
    );
    assert_eq!(service.stored()[1].labels, r#"{job="2"}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_told_and_the_others_are_sent() {
    let service = PushService::start(Behaviour::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there.log");
    write(&there, "x\n").unwrap();
    let running = start(
        &service.url(),
        &["/nowhere/a.log", there.to_str().unwrap()],
        Box::new(std::io::empty()),
    );
    let said = Arc::clone(&running.said);
    assert!(!running.finish().await);
    assert_eq!(service.lines(), ["x"]);
    assert!(
        said.lock().join("\n").contains("/nowhere/a.log: No such file"),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tracebacks_of_ranks_are_merged_and_labelled() {
    let service = PushService::start(Behaviour::default()).await;
    let text = "[rank1]: Traceback (most recent call last):\n\
                [rank0]: Traceback (most recent call last):\n\
                [rank1]:   File \"t.py\", line 1, in <module>\n\
                [rank0]:   File \"t.py\", line 1, in <module>\n\
                [rank1]: ValueError: one\n\
                [rank0]: ValueError: zero\n";
    assert!(push_text(&service, text.as_bytes(), &["--label", "job=x"]).await);
    let stored = service.stored();
    assert_eq!(stored.len(), 2, "{stored:?}");
    for (entry, (rank, word)) in stored.iter().zip([("1", "one"), ("0", "zero")]) {
        assert_eq!(entry.labels, format!(r#"{{job="x", rank="{rank}"}}"#));
        assert_eq!(entry.line.lines().count(), 3);
        assert!(entry.line.ends_with(word));
        assert!(
            entry
                .metadata
                .contains(&("exception".into(), "ValueError".into())),
            "{entry:?}"
        );
    }
}

#[test]
fn labels_and_sizes_are_checked() {
    for (bad, why) in [("x", "NAME=VALUE"), ("1a=b", "no label name"), ("a=", "no value")] {
        assert!(parse_label(bad).unwrap_err().contains(why), "{bad}");
    }
    assert_eq!(parse_label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
    assert!(parse_bytes_at_least_1("0").is_err());
    assert!(parse_zone("Mars/Olympus").is_err());
}
