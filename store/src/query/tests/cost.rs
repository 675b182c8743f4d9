//! What a query costs, in blocks, bytes and requests: that grows with what matches, not with what is stored beside it.

use super::*;

const BLOCK_ROWS: usize = 100;
const HOUR: i64 = 3600 * NS;
/// From a segment's first row to the next one's: a hundred segments are in one day, as the engine of these tests has it.
const APART: i64 = 400 * NS;

/// Rows of one stream, a second apart.
fn rows_of(app: &str, rows: usize, start: i64, line: impl Fn(usize) -> String) -> Vec<Row> {
    let row = |n: usize| Row {
        labels: Labels::from_pairs([("app", app)]),
        ts: start + n as i64 * NS,
        line: line(n),
        metadata: Vec::new(),
    };
    (0..rows).map(row).collect()
}

fn request(query: &str, limit: usize, direction: Direction) -> LogRequest {
    LogRequest {
        expr: log_expr(query),
        start: START,
        end: START + 1000 * HOUR,
        limit,
        direction,
        interval: 0,
    }
}

/// What asking takes when nothing but footers is in memory.
async fn cold(batches: &[Vec<Row>], block_rows: usize, request: LogRequest) -> QueryStats {
    // Two batches to a merge: stored as compaction stores them.
    let engine = engine(batches, 2, block_rows, one_thread()).await;
    engine.log(&[TenantId::default()], request).await.unwrap().stats
}

/// What there is to skip, and what must not cost more for it.
fn read(stats: &QueryStats) -> (u64, u64, u64, u64) {
    (stats.blocks, stats.store.gets, stats.lines, stats.lines_built)
}

#[tokio::test]
async fn other_streams_beside_it_cost_nothing() {
    let cost = async |stored: usize, matching: usize| {
        // Whole blocks of each stream, so that what is read for one is its own.
        let line = |app: &str, n: usize| format!("step={n} of {app}");
        let others = (0..stored).flat_map(|other| {
            let app = format!("other-{other:03}");
            rows_of(&app, BLOCK_ROWS, START, |n| line(&app, n))
        });
        let wanted = rows_of("wanted", matching * BLOCK_ROWS, START, |n| line("wanted", n));
        let ask = request(r#"{app="wanted"} |= "of""#, 5000, Direction::Forward);
        let stats = cold(&[others.chain(wanted).collect()], BLOCK_ROWS, ask).await;
        assert_eq!(stats.entries_returned as usize, matching * BLOCK_ROWS);
        assert_eq!(stats.skipped.by_streams as usize, stored);
        stats
    };
    let base = cost(1, 2).await;
    assert!(base.blocks == 2 && base.store.gets > 0 && base.compressed_bytes > 0);
    for stored in [10, 100] {
        let more = cost(stored, 2).await;
        assert_eq!(read(&more), read(&base), "{stored} times as much beside it");
        // A stream's number in its block may take a byte more.
        assert!(more.compressed_bytes <= base.compressed_bytes + 2 * base.blocks);
    }
    let more = cost(10, 20).await;
    assert_eq!((more.blocks, more.lines), (10 * base.blocks, 10 * base.lines));
}

#[tokio::test]
async fn other_times_of_the_same_streams_cost_nothing() {
    let cost = async |stored: usize| {
        // A segment for each part of the day; the question is about the first.
        let parts: Vec<_> = (0..=stored as i64)
            .map(|part| {
                rows_of("wanted", 3 * BLOCK_ROWS, START + part * APART, |n| {
                    format!("step={n}")
                })
            })
            .collect();
        let ask = LogRequest {
            end: START + 200 * NS,
            ..request(r#"{app="wanted"} |= "step""#, 5000, Direction::Forward)
        };
        let engine = engine(&parts, 1, BLOCK_ROWS, one_thread()).await;
        let stats = engine.log(&[TenantId::default()], ask).await.unwrap().stats;
        assert_eq!((stats.entries_returned, stats.segments), (200, 1));
        assert_eq!(stats.skipped.by_time, 1);
        stats
    };
    let base = cost(1).await;
    for stored in [10, 100] {
        let more = cost(stored).await;
        assert_eq!(read(&more), read(&base), "{stored} times as many segments");
        assert_eq!(more.compressed_bytes, base.compressed_bytes);
    }
}

#[tokio::test]
async fn a_limit_reads_no_more_of_a_longer_history() {
    let cost = async |stored: usize| {
        let parts: Vec<_> = (0..stored as i64)
            .map(|part| {
                rows_of("wanted", BLOCK_ROWS, START + part * APART, |n| {
                    format!("step={n}")
                })
            })
            .collect();
        let ask = request(r#"{app="wanted"} |= "step""#, 30, Direction::Backward);
        let engine = engine(&parts, 1, BLOCK_ROWS, one_thread()).await;
        let stats = engine.log(&[TenantId::default()], ask).await.unwrap().stats;
        assert_eq!(stats.entries_returned, 30);
        assert_eq!((stats.blocks, stats.skipped.by_limit), (1, stored as u64 - 1));
        stats
    };
    let base = cost(2).await;
    for stored in [20, 200] {
        let more = cost(stored).await;
        assert_eq!(read(&more), read(&base), "{stored} segments of history");
        assert_eq!(more.compressed_bytes, base.compressed_bytes);
    }
}

/// A needle among lines of its own streams and time: of every block that lacks it, only the templates are read, no line
/// is put together, and no row is looked at.
#[tokio::test]
async fn a_needle_reads_only_templates_of_what_lacks_it() {
    const ROWS: usize = 500;
    // Variables take nearly all of the bytes, as they do in logs.
    let line = |n: usize| {
        let noise = xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes());
        format!("step {n} loss 0.{noise} grad {:016x} ok", noise.rotate_left(17))
    };
    let cost = async |stored: usize| {
        let mut rows: Vec<Row> = (0..=stored)
            .flat_map(|part| {
                rows_of(&format!("wanted-{part:03}"), ROWS, START, |n| {
                    line(part * ROWS + n)
                })
            })
            .collect();
        rows[ROWS / 2].line = "CUDA error: device-side assert triggered".to_owned();
        let ask = request(
            r#"{app=~"wanted-.+"} |= "device-side assert""#,
            100,
            Direction::Forward,
        );
        let stats = cold(&[rows], ROWS, ask).await;
        assert_eq!((stats.entries_returned, stats.blocks), (1, 1));
        assert_eq!(stats.skipped.by_templates as usize, stored);
        stats
    };
    let base = cost(1).await;
    assert_eq!(base.lines_built, 1);
    for stored in [10, 100] {
        let more = cost(stored).await;
        assert_eq!((more.lines, more.lines_built), (base.lines, base.lines_built));
        let further = (more.compressed_bytes - base.compressed_bytes) / (stored as u64 - 1);
        assert!(
            further * 20 < base.compressed_bytes,
            "{further} bytes of each block without the needle, {} of the one with it",
            base.compressed_bytes
        );
    }
}

#[tokio::test]
async fn every_block_is_scanned_or_has_a_reason() {
    let batches = batches(6, 200, 11);
    let engine = engine(&batches, 2, 30, QueryLimits::default()).await;
    let tenant = TenantId::default();
    let segments = engine.catalog().segments(&tenant, i64::MIN, i64::MAX).await;
    let segments = segments.unwrap();
    assert_eq!(segments.len(), 3);
    let blocks: usize = segments.iter().map(|segment| segment.footer.blocks.len()).sum();
    for (query, limit) in [
        (r#"{app=~".+"}"#, 5000),
        (r#"{app="eval", rank="2"}"#, 5),
        (r#"{app="none"}"#, 5),
        (r#"{app=~".+"} |= "absent words""#, 50),
        (r#"{app=~".+"} |~ "step=[0-9]+ NCCL""#, 50),
    ] {
        for time in ["cold", "warm"] {
            let ask = request(query, limit, Direction::Backward);
            let stats = engine.log(&[TenantId::default()], ask).await.unwrap().stats;
            let counted = stats.blocks + stats.skipped.total();
            assert_eq!(counted as usize, blocks, "{query} {time}: {stats:?}");
            assert_eq!(stats.segments, 3);
        }
    }
}
