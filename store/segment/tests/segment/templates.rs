//! Lines stored as templates and variables come back to the byte and are found like lines stored as text.

use proptest::prelude::*;
use rankline_segment::{BlockText, ColumnKind, Needle, Stop, WriterOptions};

use crate::model::{Row, Rows, column, log_line, read, write};

fn rows(lines: &[String]) -> Rows {
    let row = |line: &String| Row {
        ts: 1,
        line: line.clone(),
        metadata: vec![],
    };
    Rows::from([(vec![], lines.iter().map(row).collect())])
}

fn options(templates: bool) -> WriterOptions {
    WriterOptions {
        templates,
        ..WriterOptions::default()
    }
}

/// Rows of the single block whose line contains the needle, as the templates tell; `None` when the block has none.
fn found(lines: &[String], needle: &Needle) -> Option<Vec<u32>> {
    let finished = write(&rows(lines), options(true));
    let block = &finished.footer.blocks[0];
    match block
        .decode_text(|kind| column(&finished.bytes, block, kind))
        .unwrap()
    {
        BlockText::Plain(_) => None,
        BlockText::Templates(text) => Some(text.rows_with(needle).unwrap().rows_in(0..text.rows()).collect()),
    }
}

fn containing(lines: &[String], contains: impl Fn(&str) -> bool) -> Vec<u32> {
    (0..)
        .zip(lines)
        .filter(|(_, line)| contains(line))
        .map(|(row, _)| row)
        .collect()
}

/// Lines, most of them of a template, and a text that is likely in some of them.
fn lines_and_needle() -> impl Strategy<Value = (Vec<String>, String)> {
    let odd = prop_oneof!["[ab0-2x=:\" ]{0,12}", any::<String>()];
    let line = prop_oneof![8 => log_line(), 1 => odd];
    let lines = (prop::collection::vec(line, 40..120), 0usize..20).prop_map(|(mut lines, copies)| {
        // Rare lines, often enough to be templates of their own.
        let again: Vec<_> = lines.iter().take(3).cloned().collect();
        (0..copies).for_each(|_| lines.extend(again.iter().cloned()));
        lines
    });
    (
        lines,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0usize..12,
    )
        .prop_map(|(lines, line, start, other, len)| {
            let chars: Vec<char> = line.get(&lines).chars().collect();
            let start = if chars.is_empty() {
                0
            } else {
                start.index(chars.len())
            };
            let mut needle: String = chars.iter().skip(start).take(len).collect();
            if len % 4 == 3 {
                // Likely in no line.
                needle.extend(other.get(&lines).chars().take(2));
            }
            (lines, needle)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_search_finds_exactly_the_lines_with_the_text((lines, text) in lines_and_needle()) {
        let Some(needle) = Needle::new(&text) else { return Ok(()) };
        let Some(found) = found(&lines, &needle) else { return Ok(()) };
        prop_assert_eq!(found, containing(&lines, |line| line.contains(&text)), "{:?}", text);
    }

    #[test]
    fn hits_among_some_rows_are_those_of_all(
        (lines, text) in lines_and_needle(),
        bounds in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let Some(needle) = Needle::new(&text) else { return Ok(()) };
        let finished = write(&rows(&lines), options(true));
        let block = &finished.footer.blocks[0];
        if let BlockText::Templates(text) = block.decode_text(|kind| column(&finished.bytes, block, kind)).unwrap() {
            let mut bounds: Vec<u32> = bounds.iter().map(|bound| bound.index(lines.len() + 1) as u32).collect();
            bounds.sort_unstable();
            let ranges: Vec<_> = bounds.as_chunks::<2>().0.iter().map(|&[start, end]| start..end).collect();
            let hits = text.hits(&needle).unwrap();
            let all = text.rows_of(&hits).unwrap();
            let expected: Vec<u32> = ranges.iter().flat_map(|range| all.rows_in(range.clone())).collect();
            prop_assert_eq!(text.rows_in(&hits, &ranges).unwrap(), expected);
        }
    }

    #[test]
    fn case_is_ignored_where_asked((lines, text) in lines_and_needle()) {
        let text = text.to_uppercase();
        let Some(needle) = Needle::ignoring_case(&text) else { return Ok(()) };
        let Some(found) = found(&lines, &needle) else { return Ok(()) };
        let lower = text.to_ascii_lowercase();
        let expected = containing(&lines, |line| {
            line.to_ascii_lowercase().contains(&lower) || line.contains(['\u{17f}', '\u{212a}']) && lower.contains(['s', 'k'])
        });
        prop_assert_eq!(found, expected, "{:?}", text);
    }

    #[test]
    fn picked_lines_are_the_lines((lines, _) in lines_and_needle(), picks: Vec<prop::sample::Index>) {
        let finished = write(&rows(&lines), options(true));
        let block = &finished.footer.blocks[0];
        if let BlockText::Templates(text) = block.decode_text(|kind| column(&finished.bytes, block, kind)).unwrap() {
            let picks: Vec<u32> = picks.iter().map(|pick| pick.index(lines.len()) as u32).collect();
            let picked = text.lines(&picks).unwrap();
            let expected: Vec<&str> = picks.iter().map(|&row| lines[row as usize].as_str()).collect();
            prop_assert_eq!(picked.iter().collect::<Vec<_>>(), expected);
            prop_assert!(text.lines(&[lines.len() as u32]).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn templates_alone_find_no_fewer_lines((lines, text) in lines_and_needle()) {
        let Some(needle) = Needle::new(&text) else { return Ok(()) };
        let finished = write(&rows(&lines), options(true));
        let block = &finished.footer.blocks[0];
        let bytes = |kind: &ColumnKind| column(&finished.bytes, block, kind);
        if block.has_templates() {
            let text = block.decode_templates(bytes(&ColumnKind::Templates)).unwrap();
            text.supply(&ColumnKind::OtherText, bytes(&ColumnKind::OtherText));
            let mut most = text.hits_at_most(&needle).unwrap();
            prop_assert!(!text.has(&ColumnKind::Variables) && text.lines(&[0]).is_err());
            for kind in [ColumnKind::LineLengths, ColumnKind::TemplateIds, ColumnKind::Variables] {
                text.supply(&kind, bytes(&kind));
            }
            let found = text.hits(&needle).unwrap();
            let rows = text.rows_of(&found).unwrap();
            most.intersect(&found);
            prop_assert_eq!(text.rows_of(&most).unwrap(), rows.clone());
            let mut rest = text.every_hit();
            rest.subtract(&found);
            prop_assert_eq!(text.rows_of(&rest).unwrap().count_in(0..text.rows()), text.rows() - rows.count_in(0..text.rows()));
            rest.unite(&found);
            prop_assert_eq!(text.rows_of(&rest).unwrap().count_in(0..text.rows()), text.rows());
        }
    }

    #[test]
    fn a_text_found_in_a_template_is_there_in_all_its_lines((lines, text) in lines_and_needle(), cut in 1usize..9) {
        let Some(needle) = Needle::new(&text) else { return Ok(()) };
        let finished = write(&rows(&lines), options(true));
        let block = &finished.footer.blocks[0];
        if let BlockText::Templates(all) = block.decode_text(|kind| column(&finished.bytes, block, kind)).unwrap() {
            let mut places = all.places().unwrap();
            for (row, line) in (0u32..).zip(&lines) {
                let (Some(template), ordinal) = places.locate(row).unwrap() else { continue };
                let Some(found) = all.find(template, &needle) else { continue };
                // Overlapping ones count once, as in a template.
                prop_assert_eq!(found.is_empty(), !line.contains(&text));
                for (place, (at, _)) in found.into_iter().zip(line.match_indices(&text)) {
                    let (mut tail, mut pieces) = (Vec::new(), 0);
                    let stop = all.walk(place, Some(ordinal), |piece| {
                        tail.extend_from_slice(piece);
                        pieces += 1;
                        pieces < cut
                    });
                    let rest = &line.as_bytes()[at..];
                    match stop.unwrap() {
                        Stop::End => prop_assert_eq!(&tail, rest),
                        Stop::Asked => prop_assert_eq!(&tail, &rest[..tail.len()]),
                        Stop::Variable(_) => prop_assert!(false, "the line is known"),
                    }
                }
            }
        }
    }
}

/// Columns of every layout, long enough to be chosen by what compresses best.
#[test]
fn every_layout_comes_back() {
    let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let makers: [fn(u64, u64) -> String; 10] = [
        |n, _| format!("steady {}", 1_700_000_000_000 + n * 250),
        |n, h| format!("jitter {}", 1_700_000_000_000 + n * 250 + h % 7),
        |_, h| format!("big {}", h % 900_000_000_000_000_000),
        |_, h| format!("small {}", h % 200),
        |_, h| format!("padded {:05}", h % 100_000),
        |_, h| format!("hex {h:016x} {:032x}", u128::from(h) << 40),
        |_, h| format!("word x{}y{}", h % 1000, h % 3),
        |_, h| format!("few {}", ["H100x8", "A100x4", "B200x72"][(h % 3) as usize]),
        |_, h| format!("wide {}", "1".repeat((h % 30) as usize + 1)),
        |n, _| format!("many {}x{}", n % 700, n % 700),
    ];
    let lines: Vec<String> = (0..30_000u64)
        .map(|n| makers[(n % 10) as usize](n, hash(n)))
        .collect();
    let rows = rows(&lines);
    let (with, without) = (write(&rows, options(true)), write(&rows, options(false)));
    assert!(with.footer.blocks[0].has_templates());
    assert_eq!(read(&with.bytes).unwrap(), rows);
    assert!(
        with.total_bytes * 10 < without.total_bytes * 9,
        "{} of {}",
        with.total_bytes,
        without.total_bytes
    );
    for text in [
        "steady 17000000002",
        "x123y",
        "H100x8",
        "jitter",
        " 111111",
        "0042",
        "nowhere",
        "few B2",
        "9",
    ] {
        let expected = containing(&lines, |line| line.contains(text));
        assert_eq!(
            found(&lines, &Needle::new(text).unwrap()).unwrap(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn text_without_templates_stays_text() {
    let words = |n: u32| {
        (0..6)
            .map(|place| char::from(b'g' + (n / 7u32.pow(place) % 7) as u8))
            .collect::<String>()
    };
    let lines: Vec<String> = (0..5_000).map(words).collect();
    let finished = write(&rows(&lines), options(true));
    assert!(!finished.footer.blocks[0].has_templates());
    assert_eq!(read(&finished.bytes).unwrap(), rows(&lines));
}

#[test]
fn letters_that_fold_to_ascii_are_found() {
    let mut lines = vec!["Maſsk 1".to_owned(); 20];
    lines.push("\u{212a}ilo".to_owned());
    lines.extend(vec!["nothing 2".to_owned(); 20]);
    let found = found(&lines, &Needle::ignoring_case("KILO").unwrap()).unwrap();
    assert!(found.contains(&20) && !found.contains(&30), "{found:?}");
}
