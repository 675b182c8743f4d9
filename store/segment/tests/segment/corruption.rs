//! Wrong bytes: an error or the very same rows, never a panic, never other rows.

use proptest::prelude::*;
use rankline_segment::{
    BlockMeta, BlockText, ColumnKind, Finished, Needle, Part, SegmentError, SegmentFooter, TRAILER_BYTES,
    WriterOptions, locate_footer,
};

use crate::model::{Row, Rows, any_options, any_rows, column, footer, read, write};

fn sample() -> Rows {
    let row = |n: i64| Row {
        ts: n * 1_000,
        line: format!("step={n} loss={}.5", n % 7),
        metadata: vec![("level".into(), if n % 2 == 0 { "info" } else { "error" }.into())],
    };
    (0..4)
        .map(|rank| {
            (
                vec![("rank".to_owned(), rank.to_string())],
                (0..50).map(row).collect(),
            )
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bits(rows in any_rows(), options in any_options(), at: prop::sample::Index, bit in 0u8..8) {
        let mut bytes = write(&rows, options).bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(read) = read(&bytes) {
            prop_assert_eq!(read, rows);
        }
    }

    #[test]
    fn cut_off(rows in any_rows(), options in any_options(), at: prop::sample::Index) {
        let bytes = write(&rows, options).bytes;
        prop_assert!(read(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn random_columns_that_pass_the_checksum(
        rows in any_rows(),
        options in any_options(),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
        encoding in prop_oneof![0u8..3, 0x80u8..0x83],
        mutate: bool,
        at: prop::sample::Index,
    ) {
        // What a buggy writer could have stored: the decoders alone stand between it and a panic.
        let finished = write(&rows, options);
        for block in &finished.footer.blocks {
            for n in 0..block.columns.len() {
                let mut block = block.clone();
                let column = &mut block.columns[n];
                let mut bytes = finished.bytes[column.offset as usize..][..column.len as usize].to_vec();
                if mutate && !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = bytes[at].wrapping_add(garbage.len() as u8);
                } else {
                    bytes.clone_from(&garbage);
                    column.encoding = encoding;
                    column.plain_len = 300;
                }
                column.len = bytes.len() as u32;
                column.checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
                let column = column.clone();
                let _ = block.decode_streams(&bytes);
                let _ = block.decode_timestamps(&bytes);
                let _ = block.decode_lines(&bytes, &bytes);
                read_text(&finished, &block, &column.kind, &bytes);
                let _ = block.decode_metadata(&column, &bytes);
            }
        }
    }

    #[test]
    fn random_footers_that_pass_the_checksum(
        rows in any_rows(),
        at: prop::sample::Index,
        value: u8,
        insert: bool,
    ) {
        let options = WriterOptions { created_by: "t".into(), ..WriterOptions::default() };
        let finished = write(&rows, options);
        let trailer = finished.bytes.len() - TRAILER_BYTES;
        let start = locate_footer(&finished.bytes, finished.total_bytes).unwrap().start as usize;
        let stored = &finished.bytes[start..trailer];
        let plain_len = u32::from_le_bytes(finished.bytes[trailer + 12..trailer + 16].try_into().unwrap());
        let mut plain = match stored.len() == plain_len as usize {
            true => stored.to_vec(),
            false => zstd::bulk::decompress(stored, plain_len as usize).unwrap(),
        };
        let at = at.index(plain.len());
        if insert { plain.insert(at, value) } else { plain[at] = value }
        let _ = SegmentFooter::parse(&with_trailer(&plain, start as u64, plain.len() as u32));
    }
}

/// Reads and searches the lines of a block, one of whose columns is wrong.
fn read_text(finished: &Finished, block: &BlockMeta, wrong: &ColumnKind, bytes: &[u8]) {
    let text = block.decode_text(|kind| {
        if kind == wrong {
            bytes
        } else {
            column(&finished.bytes, block, kind)
        }
    });
    let Ok(BlockText::Templates(text)) = text else {
        return;
    };
    for needle in ["1", "rank", "a 1", "e: \"x"] {
        let _ = Needle::new(needle).map(|needle| text.rows_with(&needle));
        let _ = Needle::ignoring_case(needle).map(|needle| text.rows_with(&needle));
    }
    if let Ok(lines) = text.all_lines() {
        assert_eq!(lines.rows(), block.rows as usize);
    }
}

/// A stored footer with a trailer that fits it.
fn with_trailer(stored: &[u8], offset: u64, plain_len: u32) -> Vec<u8> {
    let mut trailer = Vec::new();
    trailer.extend(offset.to_le_bytes());
    trailer.extend((stored.len() as u32).to_le_bytes());
    trailer.extend(plain_len.to_le_bytes());
    trailer.extend(xxhash_rust::xxh3::xxh3_64(stored).to_le_bytes());
    trailer.extend(1u16.to_le_bytes());
    trailer.extend([0, 0]);
    trailer.extend((xxhash_rust::xxh3::xxh3_64(&trailer) as u32).to_le_bytes());
    trailer.extend(b"rklnsegm");
    [stored, &trailer].concat()
}

#[test]
fn every_flipped_bit_of_a_small_segment() {
    let rows = sample();
    let bytes = write(
        &rows,
        WriterOptions {
            block_rows: 70,
            ..WriterOptions::default()
        },
    )
    .bytes;
    for at in 0..bytes.len() {
        for bit in [0, 7] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1 << bit;
            match read(&wrong) {
                Ok(read) => assert_eq!(read, rows, "byte {at}"),
                Err(error) => assert!(error.is_corrupt(), "byte {at}: {error}"),
            }
        }
    }
    for cut in 0..bytes.len() {
        assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn errors_say_where_and_what() {
    let bytes = write(&sample(), WriterOptions::default()).bytes;
    let say = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(
        say(b"short"),
        "corrupt segment: trailer: only 5 bytes, a segment ends with 40"
    );
    assert_eq!(
        say(&bytes[..60]),
        "corrupt segment: trailer: magic missing: not a segment, or cut short"
    );
    let mut newer = bytes.clone();
    let version = bytes.len() - TRAILER_BYTES + 24;
    newer[version] = 9;
    assert_eq!(
        read(&newer).unwrap_err(),
        SegmentError::Version {
            found: 9,
            supported: 2
        }
    );
    assert_eq!(
        say(&newer),
        "segment has format version 9, this build reads version 2: upgrade rankline"
    );
    assert!(say(&bytes[1..]).contains("doesn't fit an object of"));
    let text = footer(&bytes).unwrap().blocks[0]
        .column(&ColumnKind::LineText)
        .unwrap()
        .clone();
    let mut wrong = bytes.clone();
    wrong[text.offset as usize] ^= 1;
    match read(&wrong).unwrap_err() {
        SegmentError::Checksum { part, expected, .. } => {
            assert_eq!(
                part,
                Part::Column {
                    block: 0,
                    kind: ColumnKind::LineText
                }
            );
            assert_eq!(expected, text.checksum);
        }
        other => panic!("{other}"),
    }
    assert!(say(&wrong).starts_with("corrupt segment: block 0, line text column: checksum is "));
}

#[test]
fn declared_sizes_are_not_believed() {
    let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 19).unwrap();
    let finished = write(&sample(), WriterOptions::default());
    let mut block = finished.footer.blocks[0].clone();
    for n in 0..block.columns.len() {
        let column = &mut block.columns[n];
        (column.encoding, column.len) = (0x80, bomb.len() as u32);
        (column.plain_len, column.checksum) = (u32::MAX, xxhash_rust::xxh3::xxh3_64(&bomb));
        let column = column.clone();
        let error = block.decode_metadata(&column, &bomb).unwrap_err();
        assert!(matches!(error, SegmentError::TooLarge { .. }), "{error}");
        block.columns[n].plain_len = 100;
        let error = block
            .decode_metadata(&block.columns[n].clone(), &bomb)
            .unwrap_err();
        assert!(error.to_string().contains("zstd"), "{error}");
    }
    let huge = with_trailer(&bomb, 16, u32::MAX);
    assert!(matches!(
        SegmentFooter::parse(&huge).unwrap_err(),
        SegmentError::TooLarge { .. }
    ));
    assert!(SegmentFooter::parse(&with_trailer(&bomb, 16, 500)).is_err());
    let lengths = column(
        &finished.bytes,
        &finished.footer.blocks[0],
        &ColumnKind::LineLengths,
    );
    let error = finished.footer.blocks[0].decode_lines(lengths, &[]).unwrap_err();
    assert!(error.to_string().contains("0 bytes at hand"), "{error}");
}
