//! How small and how fast: writes text files (or folders of them) as segments, one stream a file, plain and as
//! templates at several zstd levels, reads them back, and says which kind of column the bytes are in.
//!
//! `cargo run --release -p rankline-segment --example measure -- FOLDER…`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{convert::Infallible, fs, hint::black_box, path::PathBuf, sync::Arc, time::Instant};

use rankline_segment::{
    BlockMeta, ColumnKind, ColumnMeta, Cursor, Finished, SegmentWriter, WriterOptions, merge,
};

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

const MIB: usize = 1 << 20;

/// What segments are written as: templates or not, zstd level, line bytes of a block.
const SETTINGS: [(bool, i32, usize); 6] = [
    (false, 1, 4 * MIB),
    (false, 3, 4 * MIB),
    (false, 9, 8 * MIB),
    (true, 1, 8 * MIB),
    (true, 3, 8 * MIB),
    (true, 7, 8 * MIB),
];

fn options((templates, zstd_level, block_line_bytes): (bool, i32, usize)) -> WriterOptions {
    WriterOptions {
        templates,
        zstd_level,
        block_line_bytes,
        ..WriterOptions::default()
    }
}

fn write(files: &[File], options: WriterOptions) -> Finished {
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
    let range = block.column(kind).map(ColumnMeta::range).unwrap_or_default();
    &bytes[range.start as usize..range.end as usize]
}

/// Bytes in the object by kind of column; what is left is the footer's.
fn bytes_by_kind(finished: &Finished) -> Vec<(String, u64)> {
    let mut kinds: Vec<(String, u64)> = Vec::new();
    for column in finished.footer.blocks.iter().flat_map(|block| &block.columns) {
        let kind = match &column.kind {
            ColumnKind::Metadata(_) => "metadata".to_owned(),
            kind => kind.to_string(),
        };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, bytes)) => *bytes += u64::from(column.len),
            None => kinds.push((kind, column.len.into())),
        }
    }
    let columns: u64 = kinds.iter().map(|(_, bytes)| bytes).sum();
    kinds.push(("footer".to_owned(), finished.total_bytes - columns));
    kinds
}

fn read_lines(finished: &Finished) {
    for block in &finished.footer.blocks {
        let text = |kind: &ColumnKind| column(&finished.bytes, block, kind);
        black_box(block.decode_text(text).unwrap().into_lines().unwrap());
    }
}

fn read_times(finished: &Finished) {
    for block in &finished.footer.blocks {
        let times = column(&finished.bytes, block, &ColumnKind::Timestamps);
        black_box(block.decode_timestamps(times).unwrap());
    }
}

fn merge_alone(finished: &Finished, options: WriterOptions) {
    let cursor = Cursor::new(Arc::new(finished.footer.clone()), |range| {
        Ok::<_, Infallible>(finished.bytes[range.start as usize..range.end as usize].to_vec())
    });
    let mut writer = SegmentWriter::new(options);
    let on_block = |writer: &mut SegmentWriter| {
        black_box(writer.drain());
        Ok(())
    };
    merge(vec![cursor], &mut writer, on_block).unwrap();
    writer.finish().unwrap();
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn main() {
    let mut all = Vec::new();
    std::env::args()
        .skip(1)
        .for_each(|path| files(path.into(), &mut all));
    all.sort();
    all.retain(|(_, lines)| !lines.is_empty());
    let lines = || all.iter().flat_map(|(_, lines)| lines);
    let rows = lines().count();
    let mb = lines().map(|(_, line)| line.len()).sum::<usize>() as f64 / 1e6;
    println!("{} streams, {rows} lines, {mb:.1} MB", all.len());
    println!("what          MB  ratio  write_MB/s lines_MB/s times_Mrows/s merge_MB/s  bytes in kB");
    for setting in SETTINGS {
        let mut written = None;
        let write_s = seconds(|| written = Some(write(&all, options(setting))));
        let finished = written.unwrap();
        let lines_s = seconds(|| read_lines(&finished));
        let times_s = seconds(|| read_times(&finished));
        let merge_s = seconds(|| merge_alone(&finished, options(setting)));
        let total = finished.total_bytes as f64 / 1e6;
        let kinds: Vec<_> = bytes_by_kind(&finished)
            .into_iter()
            .map(|(kind, bytes)| format!("{kind} {:.0}", bytes as f64 / 1e3))
            .collect();
        println!(
            "{:9} {:2} {total:7.3} {:5.1} {:11.0} {:10.0} {:13.1} {:10.0}  {}",
            if setting.0 { "templates" } else { "plain" },
            setting.1,
            mb / total,
            mb / write_s,
            mb / lines_s,
            rows as f64 / 1e6 / times_s,
            mb / merge_s,
            kinds.join(", "),
        );
    }
}
