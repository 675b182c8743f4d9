//! The spool's bytes.
//!
//! An entry is `RKS1`, the payload's length (u32), a hash of the payload (u64), the payload; all numbers little-endian. A payload
//! begins with its kind: 0 is a call (number u64, ns since the epoch u64, length of the tag u32, tag, record), 1 the numbers of
//! calls that are done (u64 each), 2 the number of the first call of a record that was complete by then (u64). What a crash or a
//! disk tore is skipped up to the next entry that is whole.

use crate::find;
use crate::json::Writer;
use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use crate::tags::{self, Identity};

const MAGIC: &[u8; 4] = b"RKS1";
const HEADER: usize = 16;
/// Bytes of a call's payload before its tag.
const CALL_HEADER: usize = 21;
const CALL: u8 = 0;
const DONE: u8 = 1;
const COMPLETE: u8 = 2;

/// One call of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub number: u64,
    /// Its time, ns since the epoch.
    pub ts: u64,
    pub tag: &'a [u8],
    pub record: &'a [u8],
}

/// What the spool says about calls that are not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// A call whose line was kept back.
    Call(Call<'a>),
    /// The record that began with this call took no further lines.
    Complete(u64),
}

impl Entry<'_> {
    pub(crate) fn number(&self) -> u64 {
        match self {
            Entry::Call(call) => call.number,
            Entry::Complete(number) => *number,
        }
    }
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    bytes: Vec<u8>,
    /// Where in `bytes` the payloads lie of the entries about calls that are not done.
    payloads: Vec<std::ops::Range<usize>>,
    /// The highest number of a call that the bytes name, done or not: new calls are numbered behind it.
    pub last_number: u64,
    /// Bytes that belong to no whole entry.
    pub skipped: usize,
}

impl Recovered {
    /// The entries about calls that are not done, in their order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.payloads
            .iter()
            .filter_map(|span| parse(&self.bytes[span.clone()]))
    }
}

/// Appends an entry as it stands in a file.
pub(crate) fn encode_entry(entry: &Entry<'_>, out: &mut Vec<u8>) {
    match entry {
        Entry::Call(call) => encode_call(call, out),
        Entry::Complete(number) => encode(9, out, |out| {
            out.put(&[COMPLETE]);
            out.put(&number.to_le_bytes());
        }),
    }
}

/// The length that the call has in a file.
pub(crate) fn encoded_length(call: &Call<'_>) -> usize {
    HEADER + CALL_HEADER + call.tag.len() + call.record.len()
}

/// Appends the entry of a call.
fn encode_call(call: &Call<'_>, out: &mut Vec<u8>) {
    encode(encoded_length(call) - HEADER, out, |out| {
        out.put(&[CALL]);
        out.put(&call.number.to_le_bytes());
        out.put(&call.ts.to_le_bytes());
        let tag_length = u32::try_from(call.tag.len()).unwrap_or(u32::MAX);
        out.put(&tag_length.to_le_bytes());
        out.put(call.tag);
        out.put(call.record);
    });
}

/// Appends the entry that says which calls are done.
pub(crate) fn encode_done(calls: &[u64], out: &mut Vec<u8>) {
    encode(1 + 8 * calls.len(), out, |out| {
        out.put(&[DONE]);
        for call in calls {
            out.put(&call.to_le_bytes());
        }
    });
}

/// Appends an entry with a payload of so many bytes.
fn encode(length: usize, out: &mut Vec<u8>, payload: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    let mut writer = Writer::behind(out, HEADER + length);
    writer.put(MAGIC);
    writer.put(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    writer.put(&[0; 8]);
    payload(&mut writer);
    writer.finish();
    let (header, payload) = out[start..].split_at_mut(HEADER);
    header[8..].copy_from_slice(&tags::hash(0, payload).to_le_bytes());
}

/// Appends the entries that are about live calls, of a file that holds nothing but whole entries: their hashes are not checked.
/// Nothing where it does hold something else.
pub(crate) fn copy_live(bytes: &[u8], is_live: impl Fn(u64) -> bool, out: &mut Vec<u8>) -> Option<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (header, behind) = rest.split_at_checked(HEADER)?;
        let length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
        let payload = behind.get(..length)?;
        let (entry, next) = rest.split_at(HEADER + length);
        if header.first_chunk() != Some(MAGIC) {
            return None;
        }
        if let Some((&(CALL | COMPLETE), content)) = payload.split_first()
            && is_live(number(content.get(..8)?)?)
        {
            out.extend_from_slice(entry);
        }
        rest = next;
    }
    Some(())
}

/// Reads all entries that are whole.
pub(crate) fn decode(bytes: Vec<u8>) -> Recovered {
    let mut done: HashSet<u64, BuildHasherDefault<Identity>> = HashSet::default();
    let (mut payloads, mut skipped) = (Vec::new(), 0);
    let mut at = 0;
    while at < bytes.len() {
        let Some(payload) = whole_entry(&bytes, at) else {
            let next = find::text(&bytes[at + 1..], MAGIC).map_or(bytes.len(), |n| at + 1 + n);
            skipped += next - at;
            at = next;
            continue;
        };
        at = payload.end;
        let content = &bytes[payload.clone()];
        match parse(content) {
            Some(entry) => payloads.push((entry.number(), payload)),
            None if content.first() == Some(&DONE) => {
                done.extend(content[1..].chunks_exact(8).filter_map(number));
            }
            None => skipped += HEADER + content.len(),
        }
    }
    let numbers = payloads.iter().map(|(number, _)| number).chain(&done);
    let last_number = numbers.copied().max().unwrap_or(0);
    payloads.retain(|(number, _)| !done.contains(number));
    Recovered {
        last_number,
        payloads: payloads.into_iter().map(|(_, payload)| payload).collect(),
        bytes,
        skipped,
    }
}

/// The payload of the entry at `at`, if it is whole.
fn whole_entry(bytes: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let header = bytes.get(at..at.checked_add(HEADER)?)?;
    if !header.starts_with(MAGIC) {
        return None;
    }
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let start = at + HEADER;
    let payload = start..start.checked_add(length)?;
    let hash = number(&header[8..])?;
    (tags::hash(0, bytes.get(payload.clone())?) == hash).then_some(payload)
}

fn parse(payload: &[u8]) -> Option<Entry<'_>> {
    match payload.split_first()? {
        (&CALL, rest) => {
            let (header, rest) = rest.split_at_checked(CALL_HEADER - 1)?;
            let tag_length = u32::from_le_bytes(header[16..].try_into().ok()?) as usize;
            let (tag, record) = rest.split_at_checked(tag_length)?;
            Some(Entry::Call(Call {
                number: number(&header[..8])?,
                ts: number(&header[8..16])?,
                tag,
                record,
            }))
        }
        (&COMPLETE, rest) => Some(Entry::Complete(number(rest)?)),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
