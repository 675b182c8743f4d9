//! Prefixes that launchers put before every line, and the rank each of them says.
//!
//! A prefix is part of the line's key: lines of different prefixes never become one record (but see `hold` for lines that lost
//! theirs). Two prefixes may stand one behind the other (`7: [rank7]: …`). This module looks at the head of one line only.

use crate::find;
use crate::launch;
use crate::task_label::Label;

/// The largest number taken for a rank; a longer one is something else.
const MAX_RANK: u32 = 9_999_999;

/// What the prefixes of a line say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Bytes of the line that belong to the prefixes.
    pub len: usize,
    /// Where in them the writer's own begin: before it stands a time, which differs from line to line.
    pub from: usize,
    /// Global rank as a process itself says it (`[rank3]:`, `[Rank 3]`).
    pub rank: Option<u32>,
    /// Task number that a launcher surely put there (mpirun's `[1,3]<stdout>:`): the rank when every task is one.
    pub task: Option<u32>,
    /// Number that may be a launcher's label (`3: `, `[3] `): only the stream as a whole can tell.
    pub label: Option<Label>,
    /// Rank on its node (`[default3]:` of torchrun's tee).
    pub local_rank: Option<u32>,
    /// Rank of the node, which only configured prefixes say.
    pub node_rank: Option<u32>,
    /// A configured pattern read it.
    pub configured: bool,
    /// Ordinary text begins so too: `stderr: `, `<3> `.
    pub weak: bool,
    /// The number of a `[rank3]:` that may be torchrun's tee for a role named `rank`: nothing stands behind its colon.
    pub teed: Option<u32>,
    /// Two of the prefixes are what processes say of themselves, and they say different ranks.
    pub contradictory: bool,
    /// Role name inside that prefix, as a span of the line.
    pub role: Option<(usize, usize)>,
    /// The line's text begins right behind the role's colon, as torchrun's tee writes it.
    pub role_direct: bool,
    /// It is torchrun's template with a bar behind it.
    pub template: bool,
    /// It begins with a worker's name and process id, as Ray and vLLM print them.
    pub worker: bool,
    /// The last prefix is the one that torch's excepthook puts before all lines of an uncaught exception (`[rank3]: `).
    pub excepthook: bool,
    /// Where each of the prefixes ends.
    pub cuts: [usize; 4],
    /// How many there are.
    pub count: u8,
}

impl Prefix {
    /// It may as well be a part of the text.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.weak || (self.label.is_some() && self.task.is_none())
    }
}

/// Reads the prefixes at the head of `line`, which has no ANSI sequences.
pub(crate) fn parse(line: &[u8]) -> Prefix {
    let mut prefix = Prefix::default();
    // Nearly all lines have none: their first byte says so.
    match line.first() {
        Some(b' ' | b'0'..=b'9') => {
            srun(line, &mut prefix);
            if prefix.len == 0 {
                timed(line, &mut prefix);
            }
            if prefix.len == 0 {
                return prefix;
            }
        }
        Some(b'[') if line.get(25) == Some(&b']') => timed(line, &mut prefix),
        Some(b'[' | b'(') => {}
        Some(byte) if byte.is_ascii_alphabetic() || *byte == b'<' => {
            template(line, 0, &mut prefix);
            if prefix.len == 0 {
                named_channel(line, &mut prefix);
            }
            if prefix.len == 0 {
                timed(line, &mut prefix);
            }
            if prefix.len == 0 {
                return prefix;
            }
        }
        _ => return prefix,
    }
    if prefix.len > 0 {
        prefix.cuts[0] = prefix.len;
        prefix.count = 1;
    }
    further(line, &mut prefix);
    if prefix.len == 0 && line.first() == Some(&b'[') {
        prefix.label = hydra(line);
    }
    prefix
}

/// Reads the prefixes in brackets behind those that are read already.
fn further(line: &[u8], prefix: &mut Prefix) {
    while usize::from(prefix.count) < prefix.cuts.len() {
        let at = prefix.len;
        let more = match line.get(at) {
            Some(b'[') => bracket(line, at, prefix),
            Some(b'(') => paren(line, at, prefix),
            Some(b'R' | b'r') if !prefix.template => template(line, at, prefix),
            _ => false,
        };
        if !more {
            break;
        }
        prefix.cuts[usize::from(prefix.count)] = prefix.len;
        prefix.count += 1;
    }
}

/// `number`: digits at `at`; gives the number and the position behind it.
pub(crate) fn number(line: &[u8], at: usize) -> Option<(u32, usize)> {
    let mut end = at;
    let mut value = 0u32;
    while let Some(digit @ b'0'..=b'9') = line.get(end) {
        value = value.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
        end += 1;
    }
    (end > at && value <= MAX_RANK).then_some((value, end))
}

/// `  3: ` — the label of `srun --label`, right-aligned.
fn srun(line: &[u8], prefix: &mut Prefix) {
    let start = line
        .iter()
        .take(Label::MAX_WIDTH)
        .take_while(|&&b| b == b' ')
        .count();
    let Some((task, end)) = number(line, start) else {
        return;
    };
    if end > Label::MAX_WIDTH || line.get(end) != Some(&b':') {
        return;
    }
    match line.get(end + 1) {
        None => prefix.len = end + 1,
        Some(b' ') => prefix.len = end + 2,
        _ => return,
    }
    prefix.label = Some(Label {
        number: task,
        form: end,
        len: prefix.len,
    });
}

fn bracket(line: &[u8], at: usize, prefix: &mut Prefix) -> bool {
    let Some(close) = line
        .iter()
        .skip(at)
        .take(80)
        .position(|&b| b == b']')
        .map(|n| at + n)
    else {
        return false;
    };
    let inside = &line[at + 1..close];
    mpirun(line, inside, close, prefix)
        || named(line, at, inside, close, prefix)
        || spelled(line, inside, close, prefix)
        || open_mpi(line, inside, close, prefix)
}

/// `[3] ` of hydra's `-prepend-rank` (MPICH, Intel MPI): noted, but part of the line until the stream shows that it is a label.
fn hydra(line: &[u8]) -> Option<Label> {
    let (number, end) = number(line, 1)?;
    (end <= Label::MAX_WIDTH && line.get(end..end + 2) == Some(b"] ")).then_some(Label {
        number,
        form: Label::BRACKETED,
        len: end + 2,
    })
}

/// Takes the noted label as the line's first prefix: the stream has shown that it is one.
pub(crate) fn take_label(line: &[u8], prefix: &mut Prefix) {
    if let Some(label) = prefix.label
        && prefix.len == 0
    {
        prefix.len = label.len;
        read_behind(line, prefix);
    }
}

/// Reads on behind the line's first prefix, whose length is known.
pub(crate) fn read_behind(line: &[u8], prefix: &mut Prefix) {
    prefix.cuts[0] = prefix.len;
    prefix.count = 1;
    further(line, prefix);
}

/// Behind a bracket's colon: one space, if any, belongs to the prefix.
fn behind_colon(line: &[u8], colon: usize) -> usize {
    if line.get(colon + 1) == Some(&b' ') {
        colon + 2
    } else {
        colon + 1
    }
}

/// What stands between a launcher's tag and its colon.
const CHANNELS: [&[u8]; 3] = [b"<stdout>", b"<stderr>", b"<stddiag>"];

/// A time and mpirun's tag behind it: `Sat Nov 28 04:18:07 2026[1,3]<stderr>:` of Open MPI up to 4, `[Sat Nov 28 04:18:07
/// 2026][1,3]<stderr>: ` of 5, or an ISO time and a space, as is put before lines that are kept. Without tags only the
/// channel follows Open MPI's own time (`Sat Nov 28 04:18:07 2026<stderr>:`).
fn timed(line: &[u8], prefix: &mut Prefix) {
    let bracketed = usize::from(line.first() == Some(&b'['));
    let ctime = line.get(bracketed..bracketed + 24).is_some_and(is_ctime);
    let from = if ctime {
        2 * bracketed + 24
    } else if matches!(line.get(4..11), Some([b'-', _, _, b'-', _, _, b'T' | b' '])) {
        let Some(space) = line[11..].iter().take(24).position(|&b| b == b' ') else {
            return;
        };
        11 + space + 1
    } else {
        return;
    };
    if line.get(from) == Some(&b'[') {
        let close = line[from..].iter().take(80).position(|&b| b == b']');
        if let Some(close) = close.map(|length| from + length) {
            let inside = &line[from + 1..close];
            // A collector's time also stands before what processes and torchrun put there.
            let collected = !ctime && line[10] == b'T';
            if mpirun(line, inside, close, prefix) || (collected && named(line, from, inside, close, prefix))
            {
                prefix.from = from;
            }
        }
    } else if ctime
        && let Some(channel) = CHANNELS.into_iter().find(|name| line[from..].starts_with(name))
        && line.get(from + channel.len()) == Some(&b':')
    {
        (prefix.from, prefix.len) = (from, behind_tag(line, from + channel.len()));
    }
}

/// `Sat Nov 28 04:18:07 2026`
fn is_ctime(text: &[u8]) -> bool {
    matches!(
        text,
        [
            _,
            _,
            _,
            b' ',
            _,
            _,
            _,
            b' ',
            _,
            _,
            b' ',
            _,
            _,
            b':',
            _,
            _,
            b':',
            _,
            _,
            b' ',
            _,
            _,
            _,
            b'0'..=b'9'
        ]
    )
}

/// `<3> `, a number as hydra's and torchrun's patterns put it, which may be local; `stderr: ` of Accelerate, which runs scripts.
fn named_channel(line: &[u8], prefix: &mut Prefix) {
    if line.starts_with(b"stderr: ") || line.starts_with(b"stdout: ") {
        prefix.len = 8;
    } else if line[0] == b'<'
        && let Some((_, end)) = number(line, 1)
        && line[end..].starts_with(b"> ")
    {
        prefix.len = end + 2;
    }
    prefix.weak = prefix.len > 0;
}

/// Behind a tag's colon. Open MPI puts nothing there up to 4 and a space since 5. What programs indent by is even.
fn behind_tag(line: &[u8], colon: usize) -> usize {
    colon + 1 + crate::line::indent(&line[colon + 1..]) % 2
}

/// `[1,3]<stderr>:` and `[1,3]:` of Open MPI, `[prterun-node-7@1,3]<stdout>: ` with its full name (since 5), also with `[node:pid]`
/// behind it (`tag-detailed`), and `[3]<stdout>:` of Horovod.
fn mpirun(line: &[u8], inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let at_sign = inside.iter().rposition(|&b| b == b'@');
    let numbers = &inside[at_sign.map_or(0, |at| at + 1)..];
    let Some((first, end)) = number(numbers, 0) else {
        return false;
    };
    let mut colon = close + 1;
    if line.get(colon) == Some(&b'[')
        && let Some(length) = line[colon..].iter().take(80).position(|&b| b == b']')
    {
        colon += length + 1;
    }
    let channel = CHANNELS.into_iter().find(|name| line[colon..].starts_with(name));
    colon += channel.map_or(0, |name| name.len());
    let rank = match numbers.get(end) {
        None if channel.is_some() => first,
        Some(b',') => match number(numbers, end + 1) {
            Some((rank, end)) if end == numbers.len() => rank,
            _ => return false,
        },
        _ => return false,
    };
    if line.get(colon) != Some(&b':') {
        return false;
    }
    prefix.task = Some(rank);
    prefix.len = behind_tag(line, colon);
    prefix.excepthook = false;
    true
}

/// `[rank3]:` (global) and `[default3]:` (role and local rank)
fn named(line: &[u8], at: usize, inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let name = inside
        .iter()
        .take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.'))
        .count();
    if name == 0 || line.get(close + 1) != Some(&b':') {
        return false;
    }
    let Some((number, end)) = number(inside, name) else {
        return false;
    };
    if end != inside.len() {
        return false;
    }
    if inside[..name].eq_ignore_ascii_case(b"rank") {
        prefix.len = behind_colon(line, close + 1);
        prefix.excepthook = prefix.len == close + 3;
        let teed = !prefix.excepthook && prefix.rank.is_none() && prefix.len < line.len();
        says(prefix, number);
        if teed && !is_c10(&line[prefix.len..]) {
            prefix.teed = Some(number);
        }
    } else {
        prefix.local_rank = Some(number);
        prefix.role = Some((at + 1, at + 1 + name));
        prefix.role_direct = line.get(close + 2).is_some_and(|&b| b != b' ');
        // torchrun's tee puts nothing behind its colon.
        prefix.len = close + 2;
        prefix.excepthook = false;
    }
    true
}

/// Takes what a process says of itself. The inner one of two counts when the outer may be torchrun's.
fn says(prefix: &mut Prefix, rank: u32) {
    let before = prefix.rank.replace(rank);
    prefix.contradictory |= before.is_some_and(|before| before != rank && prefix.teed != Some(before));
}

/// `[E1016 00:45:42 …`, `[W socket.cpp:…` and `W1016 00:45:42 …`: the header of c10's and torch's loggers, which stands right behind
/// their `[rank3]:`.
fn is_c10(text: &[u8]) -> bool {
    crate::line::glog_level(text).is_some()
        || matches!(
            text,
            [
                b'[',
                b'D' | b'I' | b'W' | b'E' | b'F' | b'V',
                b' ' | b'0'..=b'9',
                ..
            ]
        )
}

/// `[Rank 3]`, `[rank 3]`, `[rank=3]`, `[rank: 3]`, `[RANK3]` at the head of a line
fn spelled(line: &[u8], inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let Some(rank) = spelled_rank(inside) else {
        return false;
    };
    says(prefix, rank);
    if prefix.len > 0 {
        // Printed by the process itself behind its launcher's prefix: not all of its lines have it.
        return false;
    }
    prefix.len = match line.get(close + 1) {
        Some(b':') => behind_colon(line, close + 1),
        Some(b' ') => close + 2,
        _ => close + 1,
    };
    prefix.excepthook = false;
    true
}

/// `R0/default0| ` and its like: torchrun's own template for the prefix, as far as it has no spaces and ends in a bar.
fn template(line: &[u8], at: usize, prefix: &mut Prefix) -> bool {
    let text = &line[at..];
    // Nearly no line has a bar there.
    if find::byte(b'|', &text[..text.len().min(41)]).is_none() {
        return false;
    }
    let token = text.iter().take(40).take_while(|b| is_template_byte(b)).count();
    if text.get(token) != Some(&b'|') || !text[..token].iter().any(u8::is_ascii_digit) {
        return false;
    }
    let (mut from, mut said) = (at, false);
    for part in text[..token].split(|b| matches!(b, b'/' | b':')) {
        let letters = part.iter().take_while(|b| !b.is_ascii_digit()).count();
        if let Some((number, end)) = number(part, letters)
            && end == part.len()
        {
            if part[..letters].eq_ignore_ascii_case(b"r") || part[..letters].eq_ignore_ascii_case(b"rank") {
                prefix.rank = Some(number);
                said = true;
            } else if letters > 0 {
                prefix.local_rank = Some(number);
                prefix.role = Some((from, from + letters));
                said = true;
            }
        }
        from += part.len() + 1;
    }
    if !said {
        return false;
    }
    prefix.template = true;
    prefix.len = at + token + 1 + usize::from(text.get(token + 1) == Some(&b' '));
    true
}

/// Another process's prefix of that kind stands inside the line: several of them wrote it.
pub(crate) fn is_torn(body: &[u8]) -> bool {
    let mut from = 0;
    while let Some(bar) = find::byte(b'|', &body[from..]).map(|n| n + from) {
        let start = bar
            - body[..bar]
                .iter()
                .rev()
                .take(40)
                .take_while(|b| is_template_byte(b))
                .count();
        let mut inner = Prefix::default();
        template(body, start, &mut inner);
        if inner.rank.is_some() {
            return true;
        }
        from = bar + 1;
    }
    false
}

fn is_template_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'.' | b':')
}

/// The inside of a bracket that is `rank`, a separator and a number.
pub(crate) fn spelled_rank(inside: &[u8]) -> Option<u32> {
    let word = inside.get(..4)?;
    if !word.eq_ignore_ascii_case(b"rank") {
        return None;
    }
    let separator = inside[4..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'=' | b':' | b'_' | b'-'))
        .count();
    let (rank, end) = number(inside, 4 + separator)?;
    (end == inside.len() && separator <= 2).then_some(rank)
}

/// `[host:00027] ` of Open MPI's signal handler
fn open_mpi(line: &[u8], inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let Some(colon) = inside.iter().position(|&b| b == b':') else {
        return false;
    };
    let host = &inside[..colon];
    let Some((_, end)) = number(inside, colon + 1) else {
        return false;
    };
    let hostname = host.iter().any(u8::is_ascii_alphabetic)
        && host
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if !hostname || end != inside.len() || end - colon < 3 || line.get(close + 1) != Some(&b' ') {
        return false;
    }
    prefix.len = close + 2;
    prefix.excepthook = false;
    true
}

/// Process id and address (see [`launch::address`]) in a worker's parentheses.
pub(crate) fn worker(parentheses: &[u8]) -> Option<(u32, u64)> {
    let pid = find::text(parentheses, b"pid=")? + 4;
    let (pid, _) = number(parentheses, pid)?;
    let address = find::text(parentheses, b"ip=").map_or(&b""[..], |at| {
        let rest = &parentheses[at + 3..];
        &rest[..rest.iter().take_while(|b| !matches!(b, b',' | b')')).count()]
    });
    Some((pid, launch::address(address)))
}

/// `(RayTrainWorker pid=4411, ip=10.0.0.70) `, vLLM's `(EngineCore_0 pid=12) `, and `(raylet, ip=10.0.0.70) ` of Ray's own
fn paren(line: &[u8], at: usize, prefix: &mut Prefix) -> bool {
    let Some(close) = line
        .iter()
        .skip(at)
        .take(120)
        .position(|&b| b == b')')
        .map(|n| at + n)
    else {
        return false;
    };
    let inside = &line[at + 1..close];
    let worker = find::text(inside, b"pid=").is_some_and(|pid| number(inside, pid + 4).is_some());
    let daemon = [&b"raylet"[..], b"gcs_server"].into_iter().any(|name| {
        inside
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b", ip="))
    });
    let known = worker || (daemon && line.get(close + 1) == Some(&b' '));
    if !known {
        return false;
    }
    prefix.worker = worker && at == 0;
    prefix.len = if line.get(close + 1) == Some(&b' ') {
        close + 2
    } else {
        close + 1
    };
    prefix.excepthook = false;
    true
}
