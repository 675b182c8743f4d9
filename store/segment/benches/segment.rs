//! Encoding, decoding, scanning and merging, over lines like those of a training run.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{convert::Infallible, sync::Arc};

use divan::{Bencher, counter::BytesCount};
use rankline_segment::{
    BlockMeta, BlockText, ColumnKind, Cursor, Finished, Needle, SegmentFooter, SegmentWriter, TRAILER_BYTES,
    TemplateLines, WriterOptions, merge,
};

fn main() {
    divan::main();
}

const RANKS: i64 = 64;
const STEPS: i64 = 1_000;

fn line(rank: i64, step: i64) -> String {
    let noise = (rank * 7919 + step * 104_729) % 1_000_003;
    match step % 4 {
        0 => format!(
            "[rank{rank}]: step {step:>6} | loss {}.{:04} | grad norm {}.{:03}",
            noise % 9,
            noise % 9973,
            noise % 3,
            noise % 997
        ),
        1 => format!(
            "node-{}:{}:{} [{}] NCCL INFO Channel {:02}/16 : {rank} -> {}",
            rank / 8,
            4000 + rank,
            5000 + noise % 90,
            rank % 8,
            step % 16,
            noise % RANKS
        ),
        2 => format!(
            ":::MLLOG {{\"time_ms\": {}, \"key\": \"tracked_stats\", \"value\": {{\"throughput\": {}.{}}}}}",
            1_763_900_000_000 + step * 250,
            noise % 4000,
            noise
        ),
        _ => format!("{rank}: saving checkpoint to /ckpt/step_{step}/rank_{rank}.pt ({noise} bytes)"),
    }
}

fn rows() -> Vec<(String, Vec<(i64, String)>)> {
    let of_rank = |rank| {
        (0..STEPS).map(move |step| {
            (
                1_763_900_000_000_000_000 + step * 250_000_000 + rank * 977,
                line(rank, step),
            )
        })
    };
    let mut rows: Vec<_> = (0..RANKS)
        .map(|rank| (rank.to_string(), of_rank(rank).collect()))
        .collect();
    rows.sort();
    rows
}

fn write(rows: &[(String, Vec<(i64, String)>)], zstd_level: i32) -> Finished {
    write_with(
        rows,
        WriterOptions {
            zstd_level,
            ..WriterOptions::default()
        },
    )
}

/// As compaction stores them.
fn write_templates(rows: &[(String, Vec<(i64, String)>)]) -> Finished {
    write_with(
        rows,
        WriterOptions {
            zstd_level: 9,
            templates: true,
            ..WriterOptions::default()
        },
    )
}

fn write_with(rows: &[(String, Vec<(i64, String)>)], options: WriterOptions) -> Finished {
    let mut writer = SegmentWriter::new(options);
    for (rank, rows) in rows {
        writer.begin_stream(&[("job", "llama"), ("rank", rank)]).unwrap();
        for (ts, line) in rows {
            writer
                .push(*ts, line, &[("level", "info"), ("pod", "llama-worker-0")])
                .unwrap();
        }
    }
    writer.finish().unwrap()
}

fn line_bytes(rows: &[(String, Vec<(i64, String)>)]) -> BytesCount {
    BytesCount::new(
        rows.iter()
            .flat_map(|(_, rows)| rows)
            .map(|(_, line)| line.len())
            .sum::<usize>(),
    )
}

fn column<'a>(segment: &'a Finished, block: &BlockMeta, kind: &ColumnKind) -> &'a [u8] {
    let range = block.column(kind).unwrap().range();
    &segment.bytes[range.start as usize..range.end as usize]
}

#[divan::bench(args = [1, 3, 9])]
fn encode(bencher: Bencher<'_, '_>, zstd_level: i32) {
    let rows = rows();
    bencher
        .counter(line_bytes(&rows))
        .bench_local(|| write(&rows, zstd_level).total_bytes);
}

#[divan::bench]
fn decode_lines(bencher: Bencher<'_, '_>) {
    let (rows, kinds) = (rows(), [ColumnKind::LineLengths, ColumnKind::LineText]);
    let segment = write(&rows, 3);
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let decode = |block: &BlockMeta| {
            let [lengths, text] = kinds.each_ref().map(|kind| column(&segment, block, kind));
            block.decode_lines(lengths, text).unwrap().rows()
        };
        segment.footer.blocks.iter().map(decode).sum::<usize>()
    });
}

/// The text of a block with all that belongs to it, nothing of it decoded yet beyond templates.
fn templates(segment: &Finished, block: &BlockMeta) -> TemplateLines {
    let of = |kind: &ColumnKind| column(segment, block, kind);
    match block.decode_text(of).unwrap() {
        BlockText::Templates(text) => *text,
        BlockText::Plain(_) => panic!("a block without templates"),
    }
}

#[divan::bench]
fn encode_templates(bencher: Bencher<'_, '_>) {
    let rows = rows();
    bencher
        .counter(line_bytes(&rows))
        .bench_local(|| write_templates(&rows).total_bytes);
}

/// Every line of a segment, put together from templates and variables.
#[divan::bench]
fn decode_template_lines(bencher: Bencher<'_, '_>) {
    let rows = rows();
    let segment = write_templates(&rows);
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let decode = |block: &BlockMeta| templates(&segment, block).all_lines().unwrap().rows();
        segment.footer.blocks.iter().map(decode).sum::<usize>()
    });
}

/// Some lines far apart: what a query with few hits pays when the block is decoded already.
#[divan::bench]
fn put_100_lines_together(bencher: Bencher<'_, '_>) {
    let segment = write_templates(&rows());
    let block = &segment.footer.blocks[0];
    let text = templates(&segment, block);
    let some: Vec<u32> = (0..100).map(|n| n * (block.rows / 100)).collect();
    text.lines(&some).unwrap();
    bencher
        .counter(divan::counter::ItemsCount::new(some.len()))
        .bench_local(|| text.lines(&some).unwrap().rows());
}

/// Texts that no line has, looked for in templates and variables: one that no variable can have either, and one that
/// looks like a number. `cold` decodes what it needs, `warm` has it.
#[divan::bench(args = ["NaN detected", "99999999"])]
fn scan_templates_cold(bencher: Bencher<'_, '_>, text: &str) {
    let rows = rows();
    let (segment, needle) = (write_templates(&rows), Needle::new(text).unwrap());
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let scan = |block: &BlockMeta| {
            let text = templates(&segment, block);
            let hits = text.hits(&needle).unwrap();
            text.rows_of(&hits).unwrap().is_empty()
        };
        segment.footer.blocks.iter().filter(|block| scan(block)).count()
    });
}

#[divan::bench(args = ["NaN detected", "99999999"])]
fn scan_templates_warm(bencher: Bencher<'_, '_>, text: &str) {
    let rows = rows();
    let (segment, needle) = (write_templates(&rows), Needle::new(text).unwrap());
    let blocks: Vec<_> = segment
        .footer
        .blocks
        .iter()
        .map(|block| templates(&segment, block))
        .collect();
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let scan = |text: &TemplateLines| {
            let hits = text.hits(&needle).unwrap();
            text.rows_of(&hits).unwrap().is_empty()
        };
        blocks.iter().filter(|text| scan(text)).count()
    });
}

#[divan::bench]
fn parse_footer(bencher: Bencher<'_, '_>) {
    let segment = write(&rows(), 3);
    let tail = &segment.bytes[segment.bytes.len() - TRAILER_BYTES..];
    let range = rankline_segment::locate_footer(tail, segment.total_bytes).unwrap();
    let bytes = &segment.bytes[range.start as usize..range.end as usize];
    bencher.bench_local(|| SegmentFooter::parse(bytes).unwrap().rows);
}

#[divan::bench]
fn decode_timestamps(bencher: Bencher<'_, '_>) {
    let segment = write(&rows(), 3);
    bencher
        .counter(divan::counter::ItemsCount::new(segment.footer.rows))
        .bench_local(|| {
            let decode = |block: &BlockMeta| {
                block
                    .decode_timestamps(column(&segment, block, &ColumnKind::Timestamps))
                    .unwrap()
                    .len()
            };
            segment.footer.blocks.iter().map(decode).sum::<usize>()
        });
}

/// A word that is nowhere: what a needle costs when nothing is known of the text.
#[divan::bench]
fn scan_text(bencher: Bencher<'_, '_>) {
    let rows = rows();
    let segment = write(&rows, 3);
    let finder = memchr::memmem::Finder::new("NaN detected");
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let scan = |block: &BlockMeta| {
            let lengths = column(&segment, block, &ColumnKind::LineLengths);
            let lines = block
                .decode_lines(lengths, column(&segment, block, &ColumnKind::LineText))
                .unwrap();
            finder
                .find_iter(lines.text().as_bytes())
                .inspect(|&at| _ = divan::black_box(lines.row_of(at)))
                .count()
        };
        segment.footer.blocks.iter().map(scan).sum::<usize>()
    });
}

/// Sixteen segments as a flush writes them, to one.
#[divan::bench]
fn merge_flushed(bencher: Bencher<'_, '_>) {
    let rows = rows();
    let slice = |n: usize| {
        let part = |(rank, rows): &(String, Vec<(i64, String)>)| {
            (rank.clone(), rows.iter().skip(n).step_by(16).cloned().collect())
        };
        write(&rows.iter().map(part).collect::<Vec<_>>(), 1)
    };
    let segments: Vec<_> = (0..16)
        .map(slice)
        .map(|segment| (Arc::new(segment.footer.clone()), segment))
        .collect();
    bencher.counter(line_bytes(&rows)).bench_local(|| {
        let cursor = |(footer, segment): &'_ (Arc<_>, Finished)| {
            let bytes = segment.bytes.clone();
            Cursor::new(Arc::clone(footer), move |range: std::ops::Range<u64>| {
                Ok::<_, Infallible>(bytes[range.start as usize..range.end as usize].to_vec())
            })
        };
        let mut writer = SegmentWriter::new(WriterOptions::default());
        merge(segments.iter().map(cursor).collect(), &mut writer, |_| Ok(())).unwrap();
        writer.finish().unwrap().total_bytes
    });
}
