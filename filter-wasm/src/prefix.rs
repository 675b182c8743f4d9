//! Prefixes that launchers put before every line, and the rank each of them says.
//!
//! A prefix is part of the line's key: lines of different prefixes never become one record (but see `hold` for lines that lost
//! theirs). Two prefixes may stand one behind the other (`7: [rank7]: …`). This module looks at the head of one line only.

/// The largest number taken for a rank; a longer one is something else.
const MAX_RANK: u32 = 9_999_999;

/// What the prefixes of a line say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Bytes of the line that belong to the prefixes.
    pub len: usize,
    /// Global rank as a process itself says it (`[rank3]:`, `[Rank 3]`).
    pub rank: Option<u32>,
    /// Task number of `srun --label` and of mpirun's `[1,3]`: the rank when every task is one.
    pub task: Option<u32>,
    /// Rank on its node (`[default3]:` of torchrun's tee).
    pub local_rank: Option<u32>,
    /// Role name inside that prefix, as a span of the line.
    pub role: Option<(usize, usize)>,
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

/// Reads the prefixes at the head of `line`, which has no ANSI sequences.
pub(crate) fn parse(line: &[u8]) -> Prefix {
    let mut prefix = Prefix::default();
    // Nearly all lines have none: their first byte says so.
    match line.first() {
        Some(b' ' | b'0'..=b'9') => {
            srun(line, &mut prefix);
            if prefix.len == 0 {
                return prefix;
            }
            prefix.cuts[0] = prefix.len;
            prefix.count = 1;
        }
        Some(b'[' | b'(') => {}
        Some(byte) if byte.is_ascii_alphabetic() => {
            template(line, &mut prefix);
            if prefix.len == 0 {
                return prefix;
            }
            prefix.cuts[0] = prefix.len;
            prefix.count = 1;
        }
        _ => return prefix,
    }
    for _ in 0..3 {
        let at = prefix.len;
        let more = match line.get(at) {
            Some(b'[') => bracket(line, at, &mut prefix),
            Some(b'(') => paren(line, at, &mut prefix),
            _ => false,
        };
        if !more {
            break;
        }
        prefix.cuts[usize::from(prefix.count)] = prefix.len;
        prefix.count += 1;
    }
    prefix
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
    let start = line.iter().take(6).take_while(|&&b| b == b' ').count();
    let Some((task, end)) = number(line, start) else {
        return;
    };
    if end - start > 6 || line.get(end) != Some(&b':') {
        return;
    }
    match line.get(end + 1) {
        None => prefix.len = end + 1,
        Some(b' ') => prefix.len = end + 2,
        _ => return,
    }
    prefix.task = Some(task);
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

/// Behind a bracket's colon: one space, if any, belongs to the prefix.
fn behind_colon(line: &[u8], colon: usize) -> usize {
    if line.get(colon + 1) == Some(&b' ') {
        colon + 2
    } else {
        colon + 1
    }
}

/// `[1,3]<stderr>:` and `[1,3]:`
fn mpirun(line: &[u8], inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let Some((_, comma)) = number(inside, 0) else {
        return false;
    };
    if inside.get(comma) != Some(&b',') {
        return false;
    }
    let Some((rank, end)) = number(inside, comma + 1) else {
        return false;
    };
    if end != inside.len() {
        return false;
    }
    let mut colon = close + 1;
    for name in [&b"<stdout>"[..], b"<stderr>", b"<stddiag>"] {
        if line[colon..].starts_with(name) {
            colon += name.len();
            break;
        }
    }
    if line.get(colon) != Some(&b':') {
        return false;
    }
    prefix.task = Some(rank);
    // Open MPI puts nothing behind its colon: a space there is the line's own indentation.
    prefix.len = colon + 1;
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
        prefix.rank = Some(number);
        prefix.len = behind_colon(line, close + 1);
        prefix.excepthook = prefix.len == close + 3;
    } else {
        prefix.local_rank = Some(number);
        prefix.role = Some((at + 1, at + 1 + name));
        // torchrun's tee puts nothing behind its colon.
        prefix.len = close + 2;
        prefix.excepthook = false;
    }
    true
}

/// `[Rank 3]`, `[rank 3]`, `[rank=3]`, `[rank: 3]`, `[RANK3]` at the head of a line
fn spelled(line: &[u8], inside: &[u8], close: usize, prefix: &mut Prefix) -> bool {
    let Some(rank) = spelled_rank(inside) else {
        return false;
    };
    prefix.rank = Some(rank);
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
fn template(line: &[u8], prefix: &mut Prefix) {
    let token = line.iter().take(40).take_while(|b| is_template_byte(b)).count();
    if line.get(token) != Some(&b'|') || !line[..token].iter().any(u8::is_ascii_digit) {
        return;
    }
    let mut from = 0;
    for part in line[..token].split(|b| matches!(b, b'/' | b':')) {
        let letters = part.iter().take_while(|b| !b.is_ascii_digit()).count();
        if let Some((number, end)) = number(part, letters)
            && end == part.len()
        {
            if part[..letters].eq_ignore_ascii_case(b"r") || part[..letters].eq_ignore_ascii_case(b"rank") {
                prefix.rank = Some(number);
            } else if letters > 0 {
                prefix.local_rank = Some(number);
                prefix.role = Some((from, from + letters));
            }
        }
        from += part.len() + 1;
    }
    if prefix.rank.is_none() && prefix.local_rank.is_none() {
        return;
    }
    prefix.template = true;
    prefix.len = if line.get(token + 1) == Some(&b' ') {
        token + 2
    } else {
        token + 1
    };
}

/// Another process's prefix of that kind stands inside the line: several of them wrote it.
pub(crate) fn is_torn(body: &[u8]) -> bool {
    let mut from = 0;
    while let Some(bar) = memchr::memchr(b'|', &body[from..]).map(|n| n + from) {
        let start = bar
            - body[..bar]
                .iter()
                .rev()
                .take(40)
                .take_while(|b| is_template_byte(b))
                .count();
        let mut inner = Prefix::default();
        template(&body[start..], &mut inner);
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

/// `(RayTrainWorker pid=4411, ip=10.0.0.70) ` and vLLM's `(EngineCore_0 pid=12) `
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
    let Some(pid) = memchr::memmem::find(inside, b"pid=") else {
        return false;
    };
    if number(inside, pid + 4).is_none() {
        return false;
    }
    prefix.worker = at == 0;
    prefix.len = if line.get(close + 1) == Some(&b' ') {
        close + 2
    } else {
        close + 1
    };
    prefix.excepthook = false;
    true
}
