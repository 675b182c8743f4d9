//! A line's neighbours, as Grafana asks for them when a line is opened and when its reader scrolls on: two range
//! queries over the line's stream, cut at its millisecond, nearest rows first. Whatever lies in the store, in whatever
//! segments and blocks, before and after compaction and restarts, the answers are those of a list of all entries.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use object_store::memory::InMemory;
use proptest::prelude::*;
use proptest::sample::Index;
use rankline::catalog::{Day, SegmentKey};
use rankline::compaction::{CompactionOptions, Compactor};
use rankline::config::{Config, StoreUrl};
use rankline::http::AppState;
use rankline::server::Server;
use rankline::storage::Storage;
use rankline::tenants::TenantId;
use rankline_segment::{SegmentWriter, WriterOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use ulid::Ulid;

const MS: i64 = 1_000_000;
const HOUR: i64 = 3_600_000 * MS;
/// Entries lie around it, so that neighbours are in segments of two days.
const MIDNIGHT: i64 = 1_767_571_200_000 * MS;
/// How far Grafana looks in each direction.
const WINDOW: i64 = 2 * HOUR;

type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    labels: Labels,
    ts: i64,
    line: String,
    trace: Option<String>,
}

/// What happens to the store, in order.
#[derive(Debug, Clone)]
enum Action {
    Push(Vec<Entry>),
    /// The last push again, as a client sends it whose answer was lost.
    Retry,
    Compact,
    Restart,
}

/// Which streams are asked for.
#[derive(Debug, Clone, Copy)]
enum Scope {
    /// The line's own, by all of its labels.
    Stream,
    /// All of its application: the reader took a label away.
    App,
    /// All of its application that have a trace, after a parser.
    Traced,
}

/// A line that is opened, and how.
#[derive(Debug, Clone)]
struct Opened {
    entry: Index,
    scope: Scope,
    limit: usize,
    /// Grafana cuts the time to milliseconds; others don't.
    cut: bool,
}

fn stream() -> impl Strategy<Value = Labels> {
    let of = |pairs: &[(&str, &str)]| -> Labels {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    };
    // The service's own label is given, so that the model has the whole of the stream.
    prop::sample::select(vec![
        of(&[("app", "train"), ("rank", "0"), ("service_name", "train")]),
        of(&[("app", "train"), ("rank", "1"), ("service_name", "train")]),
        of(&[("app", "train"), ("service_name", "train")]),
        of(&[("app", "C:\\new \"run\"\nsecond"), ("service_name", "odd")]),
    ])
}

/// Times with many that are equal, many in one millisecond, and some at the edges of the window.
fn time() -> impl Strategy<Value = i64> {
    let near = (-2..3i64, 0..3i64).prop_map(|(ms, ns)| MIDNIGHT + ms * MS + ns);
    let far = (-2..3i64, -1..2i64).prop_map(|(hours, ns)| MIDNIGHT + hours * HOUR + ns);
    prop_oneof![4 => near, 1 => far]
}

fn pushes() -> impl Strategy<Value = Vec<Entry>> {
    let trace = prop::option::of((0..3u8).prop_map(|n| format!("t{n}")));
    let entry = (stream(), time(), trace).prop_map(|(labels, ts, trace)| Entry {
        labels,
        ts,
        line: String::new(),
        trace,
    });
    prop::collection::vec(entry, 1..14)
}

/// A history of the store; every line is another one.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        6 => pushes().prop_map(Action::Push),
        1 => Just(Action::Retry),
        2 => Just(Action::Compact),
        1 => Just(Action::Restart),
    ];
    let numbered = |mut actions: Vec<Action>| {
        let pushed = actions.iter_mut().filter_map(|action| match action {
            Action::Push(entries) => Some(entries),
            _ => None,
        });
        for (number, entry) in pushed.flatten().enumerate() {
            entry.line = format!("step={number}");
        }
        actions
    };
    prop::collection::vec(action, 1..12).prop_map(numbered)
}

fn opened() -> impl Strategy<Value = Vec<Opened>> {
    let scope = prop::sample::select(vec![Scope::Stream, Scope::App, Scope::Traced]);
    let limit = prop_oneof![4 => 1..8usize, 1 => Just(100)];
    let one =
        (any::<Index>(), scope, limit, prop::bool::weighted(0.7)).prop_map(|(entry, scope, limit, cut)| {
            Opened {
                entry,
                scope,
                limit,
                cut,
            }
        });
    prop::collection::vec(one, 8)
}

/// All entries in the order answers have: time, labels, arrival.
#[derive(Default)]
struct Model(Vec<Entry>);

impl Model {
    fn take(&mut self, entries: &[Entry]) {
        self.0.extend_from_slice(entries);
        self.0.sort_by(|a, b| (a.ts, &a.labels).cmp(&(b.ts, &b.labels)));
    }

    /// What a range query answers.
    fn ask(&self, scope: Scope, of: &Entry, range: &Range) -> Vec<Entry> {
        let selected = |entry: &&Entry| match scope {
            Scope::Stream => entry.labels == of.labels,
            Scope::App => entry.labels["app"] == of.labels["app"],
            Scope::Traced => entry.labels["app"] == of.labels["app"] && entry.trace.is_some(),
        };
        let inside = |entry: &&Entry| (range.start..range.end).contains(&entry.ts);
        let rows = self.0.iter().filter(selected).filter(inside);
        match range.backward {
            true => rows.rev().take(range.limit).cloned().collect(),
            false => rows.take(range.limit).cloned().collect(),
        }
    }
}

/// A range query's times (ns, end exclusive), limit and direction.
#[derive(Debug)]
struct Range {
    start: i64,
    end: i64,
    limit: usize,
    backward: bool,
}

impl Range {
    fn before(at: i64, limit: usize) -> Self {
        Self {
            start: at - WINDOW,
            end: at,
            limit,
            backward: true,
        }
    }

    fn after(at: i64, limit: usize) -> Self {
        Self {
            start: at,
            end: at + WINDOW,
            limit,
            backward: false,
        }
    }
}

/// A query on the streams of an entry, as the data source writes it.
fn query(scope: Scope, of: &Entry) -> String {
    let matcher = |(name, value): (&String, &String)| {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    let app = of.labels.iter().filter(|(name, _)| *name == "app");
    match scope {
        // Streams that have more labels than these aren't the line's own.
        Scope::Stream if !of.labels.contains_key("rank") => {
            let own = of.labels.iter().map(matcher).collect::<Vec<_>>().join(",");
            format!("{{{own},rank=\"\"}}")
        }
        Scope::Stream => format!(
            "{{{}}}",
            of.labels.iter().map(matcher).collect::<Vec<_>>().join(",")
        ),
        Scope::App => format!("{{{}}}", app.map(matcher).collect::<String>()),
        Scope::Traced => format!(
            "{{{}}} | logfmt | trace=~\"t.*\"",
            app.map(matcher).collect::<String>()
        ),
    }
}

/// A service over a store that outlives it.
struct Service {
    store: Arc<InMemory>,
    state: AppState,
    router: Router,
}

impl Service {
    async fn over(store: Arc<InMemory>) -> Self {
        let mut config = Config::for_tests(StoreUrl::Memory);
        config.listen = ([127, 0, 0, 1], 0).into();
        let storage = Storage::from_store(Arc::clone(&store) as _);
        let server = Server::bind_to(config, storage).await.unwrap();
        let state = server.state().clone();
        let router = rankline::http::router(state.clone());
        Self { store, state, router }
    }

    async fn push(&self, entries: &[Entry]) {
        let streams: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let metadata = entry.trace.iter().map(|trace| ("trace", trace));
                let metadata: BTreeMap<_, _> = metadata.collect();
                json!({"stream": entry.labels, "values": [[entry.ts.to_string(), entry.line, metadata]]})
            })
            .collect();
        let body = Body::from(json!({ "streams": streams }).to_string());
        let request = Request::post("/loki/api/v1/push").header("content-type", "application/json");
        let (status, text) = self.send(request.body(body).unwrap()).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{text}");
    }

    async fn compact(&self) {
        let mut options = CompactionOptions {
            grace: Duration::ZERO,
            ..CompactionOptions::default()
        };
        for level in &mut options.levels {
            (level.min_segments, level.max_segments) = (2, 3);
        }
        let (storage, catalog) = (self.state.storage.clone(), Arc::clone(&self.state.catalog));
        let compactor = Compactor::new(storage, catalog, options, CancellationToken::new());
        let done = compactor.compact_all_once().await.unwrap();
        assert_eq!(done.failures, 0, "{done:?}");
    }

    async fn restarted(self) -> Self {
        self.state.ingester.stop().await;
        Self::over(self.store).await
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// A range query's answer: each stream's rows, in the answer's order.
    async fn ask(&self, query: &str, range: &Range) -> BTreeMap<Labels, Vec<Entry>> {
        let direction = if range.backward { "backward" } else { "forward" };
        let params = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("direction", direction)
            .append_pair("end", &range.end.to_string())
            .append_pair("limit", &range.limit.to_string())
            .append_pair("query", query)
            .append_pair("start", &range.start.to_string())
            .append_pair("step", "1000ms")
            .finish();
        let request = Request::get(format!("/loki/api/v1/query_range?{params}"))
            .header("x-loki-response-encoding-flags", "categorize-labels")
            .body(Body::empty())
            .unwrap();
        let (status, text) = self.send(request).await;
        assert_eq!(status, StatusCode::OK, "{query}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let mut streams: BTreeMap<Labels, Vec<Entry>> = BTreeMap::new();
        for stream in answer["data"]["result"].as_array().unwrap() {
            let labels: Labels = serde_json::from_value(stream["stream"].clone()).unwrap();
            let entry = |value: &Value| Entry {
                labels: labels.clone(),
                ts: value[0].as_str().unwrap().parse().unwrap(),
                line: value[1].as_str().unwrap().to_owned(),
                trace: value[2]["structuredMetadata"]["trace"]
                    .as_str()
                    .map(str::to_owned),
            };
            let rows = stream["values"].as_array().unwrap().iter().map(entry);
            streams.entry(labels.clone()).or_default().extend(rows);
        }
        streams
    }
}

/// Rows as an answer has them: in order within each stream.
fn by_stream(rows: Vec<Entry>) -> BTreeMap<Labels, Vec<Entry>> {
    let mut streams: BTreeMap<Labels, Vec<Entry>> = BTreeMap::new();
    for row in rows {
        streams.entry(row.labels.clone()).or_default().push(row);
    }
    streams
}

/// Opens lines and compares both of their requests with the model.
async fn check(service: &Service, model: &Model, opened: &[Opened], when: &str) {
    if model.0.is_empty() {
        return;
    }
    for open in opened {
        let of = open.entry.get(&model.0);
        let at = if open.cut {
            of.ts.div_euclid(MS) * MS
        } else {
            of.ts
        };
        for range in [Range::before(at, open.limit), Range::after(at, open.limit)] {
            let query = query(open.scope, of);
            let want = by_stream(model.ask(open.scope, of, &range));
            let found = service.ask(&query, &range).await;
            assert_eq!(found, want, "{when}: {query} {range:?}");
        }
    }
}

/// Asks on from the last row seen, as a reader who scrolls does: every row comes, and the client knows those that come
/// again by what they are.
async fn scroll(service: &Service, model: &Model, of: &Entry, backward: bool) {
    let query = query(Scope::App, of);
    let all = Range {
        start: MIDNIGHT - 3 * HOUR,
        end: MIDNIGHT + 3 * HOUR,
        limit: usize::MAX,
        backward,
    };
    let want: HashSet<Entry> = model.ask(Scope::App, of, &all).into_iter().collect();
    // A page has room for a row more than share any time, or nobody gets past it.
    let ties = |entry: &Entry| want.iter().filter(|other| other.ts == entry.ts).count();
    let mut page = Range {
        limit: want.iter().map(ties).max().unwrap_or(0) + 1,
        ..all
    };
    let mut seen = HashSet::new();
    loop {
        let rows: Vec<Entry> = service.ask(&query, &page).await.into_values().flatten().collect();
        let before = seen.len();
        let times = rows.iter().map(|row| row.ts);
        match backward {
            true => page.end = times.min().map_or(page.end, |oldest| oldest + 1),
            false => page.start = times.max().unwrap_or(page.start),
        }
        seen.extend(rows);
        if seen.len() == before {
            break;
        }
    }
    assert_eq!(seen, want, "{query} backward: {backward}");
}

/// Plays a history; the service and what it must hold by now.
async fn play(actions: &[Action], opened: &[Opened]) -> (Service, Model) {
    let mut service = Service::over(Arc::default()).await;
    let mut model = Model::default();
    let mut last: &[Entry] = &[];
    for action in actions {
        match action {
            Action::Push(entries) => {
                service.push(entries).await;
                model.take(entries);
                last = entries;
            }
            Action::Retry if last.is_empty() => {}
            Action::Retry => service.push(last).await,
            Action::Compact => {
                let few = &opened[..opened.len().min(1)];
                check(&service, &model, few, "before a compaction").await;
                service.compact().await;
            }
            Action::Restart => service = service.restarted().await,
        }
    }
    (service, model)
}

/// A store with the entries of the pushes in segments whose blocks have few rows.
async fn in_blocks(actions: &[Action], block_rows: usize, templates: bool) -> Service {
    let service = Service::over(Arc::default()).await;
    let mut ids = 0..;
    for action in actions {
        let Action::Push(entries) = action else {
            continue;
        };
        let mut days: BTreeMap<i64, BTreeMap<&Labels, Vec<&Entry>>> = BTreeMap::new();
        for entry in entries {
            let day = days.entry(entry.ts.div_euclid(24 * HOUR)).or_default();
            day.entry(&entry.labels).or_default().push(entry);
        }
        for streams in days.into_values() {
            let options = WriterOptions {
                block_rows,
                templates,
                ..WriterOptions::default()
            };
            write_segment(&service, streams, options, ids.next().unwrap()).await;
        }
    }
    service
}

async fn write_segment(
    service: &Service,
    streams: BTreeMap<&Labels, Vec<&Entry>>,
    options: WriterOptions,
    id: u64,
) {
    let mut writer = SegmentWriter::new(options);
    for (labels, mut entries) in streams {
        let pairs: Vec<_> = labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        writer.begin_stream(&pairs).unwrap();
        entries.sort_by_key(|entry| entry.ts);
        for entry in entries {
            let metadata: Vec<_> = entry.trace.iter().map(|trace| ("trace", &**trace)).collect();
            writer.push(entry.ts, &entry.line, &metadata).unwrap();
        }
    }
    let finished = writer.finish().unwrap();
    let key = SegmentKey {
        level: 0,
        day: Day::of(finished.footer.min_ts),
        min_ts: finished.footer.min_ts,
        max_ts: finished.footer.max_ts,
        id: Ulid::from_parts(id, 1),
    };
    let path = key.path(&service.state.storage.tenant_root(&TenantId::default()));
    let bytes = finished.bytes.into();
    service.state.storage.put(&path, bytes).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_neighbours_of_a_line_are_exactly_those_of_a_list_of_all_lines(
        actions in actions(),
        opened in opened(),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (service, model) = play(&actions, &opened).await;
            check(&service, &model, &opened, "as it lies").await;
            service.compact().await;
            check(&service, &model, &opened, "compacted").await;
            let service = service.restarted().await;
            check(&service, &model, &opened, "restarted").await;
        });
    }

    #[test]
    fn neighbours_are_found_across_blocks(
        actions in actions(),
        opened in opened(),
        block_rows in 1..5usize,
        templates: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let mut model = Model::default();
            for action in &actions {
                if let Action::Push(entries) = action {
                    model.take(entries);
                }
            }
            let service = in_blocks(&actions, block_rows, templates).await;
            check(&service, &model, &opened, "in blocks").await;
        });
    }

    #[test]
    fn scrolling_on_from_the_last_row_shows_every_row(actions in actions(), of: Index, compacted: bool) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (service, model) = play(&actions, &[]).await;
            if compacted {
                service.compact().await;
            }
            if !model.0.is_empty() {
                for backward in [true, false] {
                    scroll(&service, &model, of.get(&model.0), backward).await;
                }
            }
        });
    }
}
