//! How small and how fast: writes text files (or folders of them) as segments, one stream a file, at several zstd
//! levels, and reads them back.
//!
//! `cargo run --release -p rankline-segment --example measure -- FOLDER…`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{convert::Infallible, fs, hint::black_box, path::PathBuf, sync::Arc, time::Instant};

use rankline_segment::{BlockMeta, ColumnKind, Cursor, SegmentWriter, WriterOptions, merge};

type File = (String, Vec<(i64, String)>);

fn files(path: PathBuf, out: &mut Vec<File>) {
    if path.is_dir() {
        let mut inside: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inside.sort();
        inside.into_iter().for_each(|path| files(path, out));
    } else {
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        // Collectors stamp lines as they read them: unevenly, in nanoseconds.
        let mut ts = 1_763_900_000_000_000_000i64;
        let mut stamp = |line: &str| {
            ts += 100_000 + (line.len() as i64 * 7919) % 50_000;
            (ts, line.to_owned())
        };
        let lines: Vec<_> = text
            .split_inclusive('\n')
            .map(|line| stamp(line.trim_end_matches('\n')))
            .collect();
        out.push((path.display().to_string(), lines));
    }
}

fn write(files: &[File], level: i32, block_line_bytes: usize) -> rankline_segment::Finished {
    let options = WriterOptions {
        zstd_level: level,
        block_line_bytes,
        block_rows: 1 << 18,
        ..WriterOptions::default()
    };
    let mut writer = SegmentWriter::new(options);
    for (n, (name, lines)) in files.iter().enumerate() {
        let rank = n.to_string();
        writer
            .begin_stream(&[("app", "training"), ("filename", name)])
            .unwrap();
        for (ts, line) in lines {
            writer
                .push(*ts, line, &[("level", "info"), ("rank", &rank)])
                .unwrap();
        }
    }
    writer.finish().unwrap()
}

fn column<'a>(bytes: &'a [u8], block: &BlockMeta, kind: &ColumnKind) -> &'a [u8] {
    let range = block.column(kind).unwrap().range();
    &bytes[range.start as usize..range.end as usize]
}

fn main() {
    let mut all = Vec::new();
    std::env::args()
        .skip(1)
        .for_each(|path| files(path.into(), &mut all));
    all.sort();
    all.retain(|(_, lines)| !lines.is_empty());
    let rows: usize = all.iter().map(|(_, lines)| lines.len()).sum();
    let line_bytes: usize = all
        .iter()
        .flat_map(|(_, lines)| lines)
        .map(|(_, line)| line.len())
        .sum();
    let mb = line_bytes as f64 / 1e6;
    println!("{} streams, {rows} lines, {mb:.1} MB", all.len());
    println!(
        "level block_MiB  bytes_MB ratio  write_MB/s  text  times lengths other  lines_MB/s times_Mrows/s merge_MB/s"
    );
    for block_mib in [4, 8] {
        for level in [1, 3, 5, 7, 9] {
            let start = Instant::now();
            let finished = write(&all, level, block_mib << 20);
            let write_s = start.elapsed().as_secs_f64();
            let mut sizes = [0u64; 3];
            let start = Instant::now();
            for block in &finished.footer.blocks {
                let lengths = column(&finished.bytes, block, &ColumnKind::LineLengths);
                let text = column(&finished.bytes, block, &ColumnKind::LineText);
                black_box(block.decode_lines(lengths, text).unwrap());
                let times = column(&finished.bytes, block, &ColumnKind::Timestamps);
                sizes[0] += text.len() as u64;
                sizes[1] += times.len() as u64;
                sizes[2] += lengths.len() as u64;
            }
            let lines_s = start.elapsed().as_secs_f64();
            let start = Instant::now();
            for block in &finished.footer.blocks {
                let times = column(&finished.bytes, block, &ColumnKind::Timestamps);
                black_box(block.decode_timestamps(times).unwrap());
            }
            let times_s = start.elapsed().as_secs_f64();
            let start = Instant::now();
            let footer = Arc::new(finished.footer.clone());
            let cursor = Cursor::new(footer, |range| {
                Ok::<_, Infallible>(finished.bytes[range.start as usize..range.end as usize].to_vec())
            });
            let mut writer = SegmentWriter::new(WriterOptions {
                zstd_level: level,
                ..WriterOptions::default()
            });
            let on_block = |writer: &mut SegmentWriter| {
                black_box(writer.drain());
                Ok(())
            };
            merge(vec![cursor], &mut writer, on_block).unwrap();
            writer.finish().unwrap();
            let merge_s = start.elapsed().as_secs_f64();
            let total = finished.total_bytes as f64 / 1e6;
            let [text, times, lengths] = sizes.map(|size| size as f64 / 1e6);
            println!(
                "{level:5} {block_mib:9} {total:9.2} {:5.1} {:11.0} {text:5.2} {times:6.2} {lengths:7.2} {:5.2} {:11.0} {:13.1} {:10.0}",
                mb / total,
                mb / write_s,
                total - text - times - lengths,
                mb / lines_s,
                rows as f64 / 1e6 / times_s,
                mb / merge_s,
            );
        }
    }
}
