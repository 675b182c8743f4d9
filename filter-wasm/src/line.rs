//! What a single line looks like, whatever stands around it.
//!
//! Small questions about one line's text, used by the shapes and the fields. No state, no JSON.

use std::ops::Range;

use crate::find;

/// Python's first line of a traceback.
pub(crate) const TRACEBACK: &[u8] = b"Traceback (most recent call last):";

/// How many spaces the line begins with.
pub(crate) fn indent(text: &[u8]) -> usize {
    text.iter().take_while(|&&b| b == b' ').count()
}

/// Nothing but white space.
pub(crate) fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

pub(crate) fn trim_start(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|b| b.is_ascii_whitespace()).count()..]
}

pub(crate) fn trim_end(text: &[u8]) -> &[u8] {
    &text[..text.len() - text.iter().rev().take_while(|b| b.is_ascii_whitespace()).count()]
}

/// `needle` stands in `text`.
pub(crate) fn contains(text: &[u8], needle: &[u8]) -> bool {
    find::text(text, needle).is_some()
}

/// `  File "…", line 3, in f` (traceback), `  File "…", line 3 in f` (faulthandler), `  File "…", line 3` (SyntaxError)
pub(crate) fn is_python_frame(text: &[u8]) -> bool {
    text.starts_with(b"  File \"") && contains(text, b"\", line ")
}

/// What `warnings` prints first: `/w/data.py:92: UserWarning: text`
pub(crate) fn is_python_warning(text: &[u8]) -> bool {
    let place = text
        .iter()
        .take(200)
        .take_while(|b| !b.is_ascii_whitespace())
        .count();
    text[..place].ends_with(b":")
        && contains(&text[..place], b".py:")
        && text[place..].iter().skip(1).take_while(|&&b| b != b' ').count() > 8
        && contains(&text[place..text.len().min(place + 80)], b"Warning:")
}

/// A line that only underlines: `    ~~~^^^` .
pub(crate) fn is_caret_line(text: &[u8]) -> bool {
    let marks = trim_end(trim_start(text));
    !marks.is_empty() && marks.iter().all(|b| matches!(b, b'^' | b'~' | b' '))
}

/// Length of a qualified name at the line's head (`a.b.Name`, `Name(Inner)`, `f.<locals>.Name`), 0 if there is none.
pub(crate) fn qualified_name(text: &[u8]) -> usize {
    if !text
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        return 0;
    }
    let mut end = 0;
    while let Some(&byte) = text.get(end) {
        match byte {
            b'.' if !text
                .get(end + 1)
                .is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'<')) =>
            {
                break;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => end += 1,
            b'<' if text[end..].starts_with(b"<locals>") => end += 8,
            0x80.. => end += 1,
            _ => break,
        }
    }
    if text.get(end) == Some(&b'(')
        && let Some(close) = text[end..].iter().take(120).position(|&b| b == b')')
        && text[end + 1..end + close]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'))
        && close > 1
    {
        end += close + 1;
    }
    end
}

/// The last line of a traceback, `Name: message` or `Name` alone: the name's length.
pub(crate) fn exception_name(text: &[u8]) -> Option<usize> {
    let end = qualified_name(text);
    if end == 0 {
        return None;
    }
    match text.get(end) {
        None => Some(end),
        Some(b':') if matches!(text.get(end + 1), None | Some(b' ')) => Some(end),
        Some(_) if is_blank(&text[end..]) => Some(end),
        _ => None,
    }
}

/// The name's last part reads like an exception's.
pub(crate) fn is_exception_like(name: &[u8]) -> bool {
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or(name);
    let inner = last.split(|&b| b == b'(').next().unwrap_or(last);
    [
        &b"Error"[..],
        b"Exception",
        b"Interrupt",
        b"Exit",
        b"Warning",
        b"Fault",
        b"Failure",
        b"Timeout",
    ]
    .iter()
    .any(|ending| inner.ends_with(ending))
}

/// The sentences between two parts of a chained traceback.
pub(crate) fn is_chain_sentence(text: &[u8]) -> bool {
    text.starts_with(b"During handling of the above exception, another exception occurred:")
        || text.starts_with(b"The above exception was the direct cause of the following exception:")
}

/// Severity that a line prints about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl Level {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

/// The head of a log line: how far a level is looked for.
const HEAD: usize = 96;

/// glog's and c10's head: `[W1016 00:45:42.231728820 File.cpp:12] `, `E1123 18:55:57.024000 1 file.py:3] `.
pub(crate) fn glog_level(text: &[u8]) -> Option<Level> {
    let bare = text.strip_prefix(b"[").unwrap_or(text);
    let level = level_letter(*bare.first()?)?;
    let digits = bare[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    let time = bare.get(1 + digits..)?;
    let clock = (3..=8).contains(&digits)
        && time.first() == Some(&b' ')
        && time.get(1).is_some_and(u8::is_ascii_digit)
        && time.get(3) == Some(&b':');
    clock.then_some(level)
}

/// A line that torchrun itself writes about its processes, in any of its log formats.
pub(crate) fn is_torchrun(text: &[u8]) -> bool {
    let head = &text[..text.len().min(120)];
    match head {
        [b'I' | b'W' | b'E', b'0'..=b'9', ..] => {
            contains(head, b"torch/distributed/elastic/") || contains(head, b"torch/distributed/run.py:")
        }
        [b'[', b'2', b'0', ..] => find::byte(b']', head).is_some_and(|close| {
            let name = &head[close..];
            name.starts_with(b"] torch.distributed.elastic.") || name.starts_with(b"] torch.distributed.run:")
        }),
        [b'I' | b'W' | b'E', b'N' | b'A' | b'R', ..] => find::byte(b':', head).is_some_and(|colon| {
            head[colon..].starts_with(b":torch.distributed.")
                && matches!(&head[..colon], b"INFO" | b"WARNING" | b"ERROR")
        }),
        _ => false,
    }
}

/// A line that a launcher writes itself, without the label it puts before others' lines.
pub(crate) fn is_launchers(text: &[u8]) -> bool {
    text.starts_with(b"srun: ")
        || text.starts_with(b"slurmstepd: ")
        || text.starts_with(b"+ ")
        || is_torchrun(text)
}

/// A line of absl's logging, from C++, that reports an error: `E1123 18:59:25.795888      23 service.cc:1518] …`.
pub(crate) fn is_absl_failure(text: &[u8]) -> bool {
    if !matches!(text.first(), Some(b'E' | b'F')) {
        return false;
    }
    let head = &text[..text.len().min(HEAD)];
    find::byte(b']', head).is_some_and(|close| {
        let place = &head[..close];
        [&b".cc:"[..], b".h:", b".cpp:", b".cu:", b".hpp:"]
            .iter()
            .any(|name| contains(place, name))
    })
}

/// The level a line prints in its head: an upper-case word that stands alone, or glog's letter.
pub(crate) fn level(text: &[u8]) -> Option<Level> {
    if let Some(level) = glog_level(text) {
        return Some(level);
    }
    let head = &text[..text.len().min(HEAD)];
    let mut at = 0;
    while let Some(capitals) = four_capitals(head, at) {
        at = capitals;
        let end = at + head[at..].iter().take_while(|b| b.is_ascii_uppercase()).count();
        let alone = (at == 0 || !is_word(head[at - 1])) && !head.get(end).is_some_and(|&b| is_word(b));
        if alone
            && let Some(level) = level_word(&head[at..end])
            && is_header(&head[..at], head.get(end).copied())
        {
            return Some(level);
        }
        at = end;
    }
    other_level(text)
}

/// The level that is not a word of capitals: a letter behind a time, a word in structlog's brackets, JSON's or logfmt's member.
fn other_level(text: &[u8]) -> Option<Level> {
    match text.first()? {
        b'{' => member_level(text),
        b'[' if text.starts_with(b"[NeMo ") && text.get(7) == Some(&b' ') => level_letter(text[6]),
        first @ (b'[' | b'0'..=b'9') => {
            // Ray's `[2026-01-05 10:00:00,123 E 47 47]`, TensorFlow's `2026-01-05 10:00:00.123456: E xla/…`.
            let time = if *first == b'[' { &text[1..] } else { text };
            let end = time
                .iter()
                .take_while(|b| b.is_ascii_digit() || b"-:.,T ".contains(b))
                .count();
            if end >= 20 && time[end - 1] == b' ' && time.get(end + 1) == Some(&b' ') {
                return level_letter(time[end]);
            }
            let open = find::byte(b'[', &text[..text.len().min(40)])?;
            let word = text[open + 1..]
                .iter()
                .take_while(|b| b.is_ascii_lowercase())
                .count();
            let behind = trim_start(&text[open + 1 + word..]);
            behind
                .starts_with(b"]")
                .then(|| any_level_word(&text[open + 1..open + 1 + word]))?
        }
        _ => {
            let word = text
                .iter()
                .take(HEAD)
                .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                .count();
            if word == 0 || text.get(word) != Some(&b'=') {
                return None;
            }
            member_level(text)
        }
    }
}

/// The member of JSON or logfmt that says the level.
fn member_level(text: &[u8]) -> Option<Level> {
    [&b"level"[..], b"levelname", b"severity"]
        .into_iter()
        .find_map(|name| {
            let at = find::text(text, name)?;
            let alone = at == 0 || matches!(text[at - 1], b'"' | b' ');
            let value = &text[at + name.len()..];
            let gap = value.iter().take(5).take_while(|b| b"\"': =".contains(b)).count();
            let word = value[gap..]
                .iter()
                .take_while(|b| b.is_ascii_alphabetic())
                .count();
            (alone && gap > 0).then(|| any_level_word(&value[gap..gap + word]))?
        })
}

/// A level's letter.
fn level_letter(letter: u8) -> Option<Level> {
    Some(match letter {
        b'D' | b'V' => Level::Debug,
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' | b'C' => Level::Critical,
        _ => return None,
    })
}

/// A level's word, whatever its case.
fn any_level_word(word: &[u8]) -> Option<Level> {
    if word.eq_ignore_ascii_case(b"err") {
        return Some(Level::Error);
    }
    if word.eq_ignore_ascii_case(b"panic") {
        return Some(Level::Critical);
    }
    level_word(&word.to_ascii_uppercase())
}

/// Where the next four capitals in a row begin, from `from` on: the shortest level word has as many.
fn four_capitals(text: &[u8], from: usize) -> Option<usize> {
    const TOPS: u64 = find::lanes(0x80);
    let mut at = from;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or_default());
        // The top bit of a lane of ASCII: from 'A' on, and not beyond 'Z'.
        let low = word & !TOPS;
        let capitals = (low + find::lanes(0x80 - b'A')) & !(low + find::lanes(0x7f - b'Z')) & !word & TOPS;
        // Of four in a row, two stand side by side in one of two words.
        let pairs = capitals & capitals >> 8;
        if pairs != 0 {
            let pair = at + find::lowest(pairs);
            let start = pair
                - text[from..pair]
                    .iter()
                    .rev()
                    .take_while(|b| b.is_ascii_uppercase())
                    .count();
            let end = pair + text[pair..].iter().take_while(|b| b.is_ascii_uppercase()).count();
            if end - start >= 4 {
                return Some(start);
            }
            at = end;
        } else {
            at += 8;
        }
    }
    // The last word may be the second one.
    let at = at.saturating_sub(2).max(from);
    (at..text.len().saturating_sub(3)).find(|&at| text[at..at + 4].iter().all(u8::is_ascii_uppercase))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn level_word(word: &[u8]) -> Option<Level> {
    Some(match word {
        b"TRACE" | b"DEBUG" => Level::Debug,
        b"INFO" | b"NOTICE" | b"SUCCESS" => Level::Info,
        b"WARN" | b"WARNING" => Level::Warn,
        b"ERROR" => Level::Error,
        b"CRITICAL" | b"FATAL" => Level::Critical,
        _ => return None,
    })
}

/// What stands before a level word is a log line's header: times, names, brackets — not a sentence. A level word at the very
/// head must be followed by what follows one.
fn is_header(before: &[u8], after: Option<u8>) -> bool {
    if is_blank(before) {
        return matches!(after, None | Some(b' ' | b':' | b']' | b'\t' | b'-' | b'|'));
    }
    let opened = matches!(before[0], b'[' | b'(' | b'<');
    opened
        || before[0].is_ascii_digit()
        || contains(before, b" - ")
        || before.ends_with(b":")
        || before.ends_with(b"[")
        || before.ends_with(b" NCCL ")
}

/// The line begins a log record of its own, with a time.
pub(crate) fn has_time_head(text: &[u8]) -> bool {
    text.first().is_some_and(|b| b.is_ascii_digit() || *b == b'[') && has_clock(text)
}

/// `12:34:56` somewhere in the first bytes.
pub(crate) fn has_clock(text: &[u8]) -> bool {
    clock(text).is_some()
}

/// Where `12:34:56` stands in the first bytes.
fn clock(text: &[u8]) -> Option<usize> {
    text[..text.len().min(40)].windows(8).position(|w| {
        w[2] == b':' && w[5] == b':' && [0, 1, 3, 4, 6, 7].iter().all(|&i| w[i].is_ascii_digit())
    })
}

/// Two heads of log lines are the same but for the time of day and its fraction.
pub(crate) fn differs_in_time(one: &[u8], other: &[u8]) -> bool {
    let Some(from) = clock(one).filter(|_| one.len() == other.len()) else {
        return false;
    };
    let in_time = |b: &u8| b.is_ascii_digit() || matches!(b, b':' | b'.' | b',');
    let end = from + one[from..].iter().take_while(|b| in_time(b)).count();
    let timed = one[from..end].iter().zip(&other[from..end]);
    one[..from] == other[..from]
        && one[end..] == other[end..]
        && timed
            .into_iter()
            .all(|(a, b)| a == b || (a.is_ascii_digit() && b.is_ascii_digit()))
}

/// The text begins with `head` but for numbers in it.
pub(crate) fn differs_in_numbers(head: &[u8], text: &[u8]) -> bool {
    let (mut head, mut text, mut differs) = (head, text, false);
    let digits = |of: &[u8]| of.iter().take_while(|b| b.is_ascii_digit()).count();
    while let Some(&byte) = head.first() {
        let (one, other) = (digits(head).max(1), digits(text).max(1));
        if byte.is_ascii_digit() != text.first().is_some_and(u8::is_ascii_digit) {
            return false;
        }
        if !byte.is_ascii_digit() && text.first() != Some(&byte) {
            return false;
        }
        differs |= head[..one] != text[..other];
        (head, text) = (&head[one..], &text[other..]);
    }
    differs
}

/// The line begins a log record, a launcher's line, a progress bar: nothing that stands in the middle of a message.
pub(crate) fn starts_log_record(text: &[u8]) -> bool {
    has_time_head(text)
        || level(text).is_some()
        || has_record_head(text)
        || has_date_head(text)
        || is_old_c10(text)
        || is_shells(text)
        || counts_of_total(text)
        || is_bar(text)
}

/// What tools and libraries begin their own lines with, and nobody's message does.
const RECORD_HEADS: [&[u8]; 12] = [
    b":::",
    b"{\"",
    b"{'loss': ",
    b"{'eval_",
    b"{'train_",
    b"DLL 2",
    b"Epoch: [",
    b"Train Epoch: ",
    b"srun: ",
    b"slurmstepd: ",
    b"wandb: ",
    b"make: *** ",
];

fn has_record_head(text: &[u8]) -> bool {
    matches!(
        text.first(),
        Some(b':' | b'{' | b'D' | b'E' | b'T' | b's' | b'w' | b'm')
    ) && RECORD_HEADS.iter().any(|head| text.starts_with(head))
}

/// `Nov 28 10:00:00 node-3 kernel: …`, `Fri Nov 28 10:00:00 UTC 2026`
fn has_date_head(text: &[u8]) -> bool {
    const NAMES: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDecMonTueWedThuFriSatSun";
    text.get(3) == Some(&b' ')
        && text[0].is_ascii_uppercase()
        && NAMES.chunks(3).any(|name| text.starts_with(name))
        && has_clock(text)
}

/// `[W socket.cpp:601] [c10d] …`, as torch's C++ put it before lines up to 2.1.
fn is_old_c10(text: &[u8]) -> bool {
    matches!(text, [b'[', b'I' | b'W' | b'E' | b'F', b' ', ..])
        && contains(&text[..text.len().min(HEAD)], b".cpp:")
}

/// What a shell says of a child that a signal ended: `run.sh: line 14:  1211 Aborted    (core dumped) python3 train.py`.
fn is_shells(text: &[u8]) -> bool {
    if text.ends_with(b"(core dumped)") || matches!(text, b"Killed" | b"Terminated") {
        return true;
    }
    const LINE: &[u8] = b": line ";
    let Some(number) = find::text(text, LINE).map(|at| at + LINE.len()) else {
        return false;
    };
    let Some((_, colon)) = crate::prefix::number(text, number) else {
        return false;
    };
    let child = text[colon..]
        .strip_prefix(b":")
        .map(trim_start)
        .unwrap_or_default();
    child.first().is_some_and(u8::is_ascii_digit)
}

/// The line begins something of its own: a log record, a shell trace, structured output, a counter.
pub(crate) fn starts_own_record(text: &[u8]) -> bool {
    starts_log_record(text)
        || text.starts_with(b"{")
        || text.starts_with(b"+ ")
        || text.starts_with(b"++ ")
        || is_counter(text)
}

/// Where the text behind a redrawn bar begins, which was printed before the bar's own newline: behind the bracket that holds its
/// times (`[00:00<00:12, 2.61it/s, loss=0.4]`).
pub(crate) fn behind_bar(text: &[u8]) -> Option<usize> {
    if text.last() == Some(&b']') {
        return None;
    }
    let bar = find::text(&text[..text.len().min(HEAD)], b"%|")?;
    let times = bar + find::byte(b'[', &text[bar..])?;
    let behind = times + find::byte(b']', &text[times..])? + 1;
    let elapsed = text[times + 1..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    (elapsed > 0 && text.get(times + 1 + elapsed) == Some(&b':') && !is_blank(&text[behind..]))
        .then_some(behind)
}

/// tqdm's bar: `  6%|▋   | 89/1398 [1:32:11<25:28:13, 70.05s/it]`, `0it [00:00, ?it/s]`.
pub(crate) fn is_bar(text: &[u8]) -> bool {
    contains(text, b"%|") || contains(text, b"it/s]") || contains(text, b"s/it]")
}

/// A training loop's own line: a counter word and a number.
fn is_counter(text: &[u8]) -> bool {
    counter(text).is_some()
}

/// What follows a counter word and stands for its value, when that begins with a digit.
fn counter(text: &[u8]) -> Option<&[u8]> {
    let bare = trim_start(text);
    [
        &b"iteration"[..],
        b"step",
        b"epoch",
        b"Epoch",
        b"Step",
        b"Iteration",
    ]
    .iter()
    .find_map(|word| {
        let rest = bare.strip_prefix(*word)?;
        let value = trim_start(rest.strip_prefix(b":").unwrap_or(rest));
        (value.len() < rest.len() && value.first().is_some_and(u8::is_ascii_digit)).then_some(value)
    })
}

/// `Epoch 3/10`, ` iteration        3/    1000 | consumed samples: …`
fn counts_of_total(text: &[u8]) -> bool {
    counter(text).is_some_and(|value| {
        let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
        let of = value[digits..].strip_prefix(b"/").map(trim_start);
        of.is_some_and(|total| total.first().is_some_and(u8::is_ascii_digit))
    })
}

/// `[rank1]` in a log line's header (`2026-11-23 18:55:54,865 [rank0] INFO …`), with the span of its digits.
pub(crate) fn inline_rank(text: &[u8]) -> Option<(u32, Range<usize>)> {
    let head = &text[..text.len().min(HEAD)];
    let mut from = 0;
    while let Some(open) = find::byte(b'[', &head[from..]).map(|n| n + from) {
        // Most brackets hold something else.
        if !matches!(head.get(open + 1), Some(b'r' | b'R')) {
            from = open + 1;
            continue;
        }
        let close = find::byte(b']', &head[open..]).map(|n| n + open)?;
        if let Some(rank) = crate::prefix::spelled_rank(&head[open + 1..close]) {
            let before = trim_end(&head[..open]);
            let header = has_time_head(before) || level(before).is_some() || glog_level(before).is_some();
            let digits = head[..close]
                .iter()
                .rev()
                .take_while(|b| b.is_ascii_digit())
                .count();
            return header.then_some((rank, close - digits..close));
        }
        from = open + 1;
    }
    // Composer's header: `2026-01-05 10:00:00,123: rank1[4711][MainThread]: INFO: …`.
    let at = find::text(
        head.first().filter(|b| b.is_ascii_digit()).map(|_| head)?,
        b": rank",
    )? + 6;
    let (rank, end) = crate::prefix::number(head, at)?;
    (has_clock(head) && head.get(end) == Some(&b'[')).then_some((rank, at..end))
}
