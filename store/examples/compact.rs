//! What compaction costs: writes text files (or folders of them) as flushed segments to a store in memory, compacts
//! them as far as it goes, and says how long it took and what came of it. One stream a file, batches of `BATCH` bytes.
//!
//! `cargo run --release -p rankline --example compact -- FOLDER…`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::memory::InMemory;
use rankline::catalog::{Catalog, CatalogOptions, DAY_NS, Day, SegmentKey};
use rankline::compaction::{CompactionOptions, Compactor};
use rankline::storage::Storage;
use rankline::tenants::TenantId;
use rankline_segment::{SegmentWriter, WriterOptions};
use tokio_util::sync::CancellationToken;
use ulid::Ulid;

const BATCH: usize = 2 << 20;
/// Lines of one file in a row, before the next file has its turn.
const TURN: usize = 200;

fn files(path: PathBuf, out: &mut Vec<(String, Vec<String>)>) {
    if path.is_dir() {
        let mut inside: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inside.sort();
        inside.into_iter().for_each(|path| files(path, out));
    } else {
        let bytes = std::fs::read(&path).unwrap();
        let lines = String::from_utf8_lossy(&bytes)
            .lines()
            .map(str::to_owned)
            .collect();
        out.push((path.display().to_string(), lines));
    }
}

/// Writes one batch, of (file, line number) pairs, as a flushed segment.
async fn flush(
    storage: &Storage,
    files: &[(String, Vec<String>)],
    batch: &mut Vec<(usize, usize)>,
    number: u64,
) {
    batch.sort_by_key(|&(file, line)| (&files[file].0, line));
    let mut writer = SegmentWriter::new(WriterOptions {
        zstd_level: 1,
        try_layouts: false,
        templates: true,
        ..WriterOptions::default()
    });
    for rows in batch.chunk_by(|a, b| a.0 == b.0) {
        let (name, lines) = &files[rows[0].0];
        writer
            .begin_stream(&[("app", "training"), ("filename", name)])
            .unwrap();
        for &(_, line) in rows {
            let ts = 20_000 * DAY_NS + line as i64 * 1_000_003;
            writer
                .push(ts, &lines[line], &[("detected_level", "info")])
                .unwrap();
        }
    }
    batch.clear();
    let finished = writer.finish().unwrap();
    let (min_ts, max_ts) = (finished.footer.min_ts, finished.footer.max_ts);
    let id = Ulid::from_parts(1_700_000_000_000 + number, 0);
    let key = SegmentKey {
        level: 0,
        day: Day::of(min_ts),
        min_ts,
        max_ts,
        id,
    };
    let path = key.path(&storage.tenant_root(&TenantId::default()));
    storage.put(&path, finished.bytes.into()).await.unwrap();
}

async fn flush_all(storage: &Storage, files: &[(String, Vec<String>)]) -> u64 {
    let (mut batch, mut bytes, mut number, mut turn) = (Vec::new(), 0, 0, 0);
    loop {
        let mut any = false;
        for (file, (_, lines)) in files.iter().enumerate() {
            for line in (turn * TURN..(turn + 1) * TURN).take_while(|&line| line < lines.len()) {
                any = true;
                bytes += lines[line].len();
                batch.push((file, line));
                if bytes >= BATCH {
                    flush(storage, files, &mut batch, number).await;
                    (bytes, number) = (0, number + 1);
                }
            }
        }
        turn += 1;
        if !any {
            if !batch.is_empty() {
                flush(storage, files, &mut batch, number).await;
                number += 1;
            }
            return number;
        }
    }
}

fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap_or("unknown")
        .trim()
        .to_owned()
}

#[tokio::main]
async fn main() {
    let mut all = Vec::new();
    std::env::args()
        .skip(1)
        .for_each(|path| files(path.into(), &mut all));
    let line_bytes: usize = all.iter().flat_map(|(_, lines)| lines).map(String::len).sum();
    let storage = Storage::from_store(Arc::new(InMemory::new()));
    let started = Instant::now();
    let segments = flush_all(&storage, &all).await;
    let sizes = async || {
        let objects = storage.list(storage.root()).await.unwrap();
        (
            objects.len(),
            objects.iter().map(|object| object.size).sum::<u64>() as f64 / 1e6,
        )
    };
    let (_, bytes) = sizes().await;
    println!(
        "{} files, {:.1} MB of lines: {segments} segments, {bytes:.1} MB, in {:.1?}; resident {}",
        all.len(),
        line_bytes as f64 / 1e6,
        started.elapsed(),
        memory("VmRSS:")
    );
    let catalog = CatalogOptions {
        refresh: Duration::ZERO,
        cache_bytes: 256 << 20,
    };
    let catalog = Arc::new(Catalog::new(storage.clone(), catalog));
    let options = CompactionOptions {
        grace: Duration::ZERO,
        ..CompactionOptions::default()
    };
    let compactor = Compactor::new(storage.clone(), catalog, options, CancellationToken::new());
    let started = Instant::now();
    let summary = compactor.compact_all_once().await.unwrap();
    let (count, bytes) = sizes().await;
    println!(
        "compacted in {:.1?}: {count} segments, {bytes:.1} MB; {summary:?}",
        started.elapsed()
    );
    println!("resident at most {}", memory("VmHWM:"));
}
