//! Complete records that wait for a free call.
//!
//! A call gives back at most one record, so complete ones queue up, in order, each under its tag. While the queue of a tag is not
//! empty, every call of that tag takes one out, so the number of waiting records only grows when a line is held. Tags that
//! fall silent leave their records to the ticks; where more of them wait than may be held, any call takes one out. This module
//! knows tags as numbers and records as bytes.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use crate::tags::Identity;

/// A complete record.
#[derive(Debug)]
pub(crate) struct Ready {
    pub tag: u64,
    pub record: Vec<u8>,
    /// Numbers of the calls that its lines came with.
    pub calls: Vec<u64>,
}

impl Ready {
    fn bytes(&self) -> usize {
        self.record.len() + 8 * self.calls.len() + 64
    }
}

/// The complete records of all tags.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Of each tag, with their places in the order of all; no entry for none.
    of: HashMap<u64, VecDeque<(u64, Ready)>, BuildHasherDefault<Identity>>,
    /// Place of the next one.
    next: u64,
    count: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Some record of the tag waits.
    pub(crate) fn has(&self, tag: u64) -> bool {
        self.count > 0 && self.of.contains_key(&tag)
    }

    /// More records wait than may be held.
    pub(crate) fn is_crowded(&self, records: usize, bytes: usize) -> bool {
        self.count > records || self.bytes > bytes
    }

    /// Puts a record in line.
    pub(crate) fn push(&mut self, ready: Ready) {
        self.count += 1;
        self.bytes += ready.bytes();
        self.of
            .entry(ready.tag)
            .or_default()
            .push_back((self.next, ready));
        self.next += 1;
    }

    /// The oldest record, of one tag or of any.
    pub(crate) fn take(&mut self, tag: Option<u64>) -> Option<Ready> {
        if self.count == 0 {
            return None;
        }
        let tag = tag.or_else(|| self.tag_of_oldest())?;
        let line = self.of.get_mut(&tag)?;
        let (_, ready) = line.pop_front()?;
        if line.is_empty() {
            self.of.remove(&tag);
        }
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(ready.bytes());
        Some(ready)
    }

    fn tag_of_oldest(&self) -> Option<u64> {
        let oldest = self.of.values().filter_map(VecDeque::front);
        let (_, ready) = oldest.min_by_key(|(place, _)| *place)?;
        Some(ready.tag)
    }

    /// The records of one tag, where some wait.
    #[inline(always)]
    pub(crate) fn of(&mut self, tag: u64) -> Option<OfTag<'_>> {
        if self.count == 0 {
            return None;
        }
        Some(OfTag {
            line: self.of.get_mut(&tag)?,
            next: &mut self.next,
            bytes: &mut self.bytes,
        })
    }
}

/// The records of one tag, of which there is at least one.
#[derive(Debug)]
pub(crate) struct OfTag<'a> {
    line: &'a mut VecDeque<(u64, Ready)>,
    next: &'a mut u64,
    bytes: &'a mut usize,
}

impl OfTag<'_> {
    /// Puts the record of one call in line in exchange for the first one: `record` becomes that one, and `released` hears the calls
    /// of its lines. Their memory is used again.
    #[inline(always)]
    pub(crate) fn exchange(self, call: u64, record: &mut Vec<u8>, released: impl FnOnce(&[u64])) {
        if self.line.len() > 1 {
            self.line.rotate_left(1);
        }
        let Some((place, ready)) = self.line.back_mut() else {
            return;
        };
        *self.bytes = self.bytes.saturating_sub(ready.bytes());
        released(&ready.calls);
        ready.calls.clear();
        ready.calls.push(call);
        std::mem::swap(record, &mut ready.record);
        *self.bytes += ready.bytes();
        *place = *self.next;
        *self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ready(tag: u64, call: u64) -> Ready {
        Ready {
            tag,
            record: call.to_string().into_bytes(),
            calls: vec![call],
        }
    }

    proptest! {
        /// Whatever is put in and taken out, it is what one list that is searched from its head gives.
        #[test]
        fn records_leave_in_order(steps in prop::collection::vec((0..4u8, 0..3u64), 0..60)) {
            let (mut queue, mut list) = (Queue::default(), Vec::<(u64, u64)>::new());
            for (call, (step, tag)) in steps.into_iter().enumerate() {
                let call = call as u64;
                let first = list.iter().position(|&(other, _)| step == 2 || other == tag);
                match step {
                    0 => {
                        queue.push(ready(tag, call));
                        list.push((tag, call));
                    }
                    1 | 2 => {
                        let taken = queue.take((step == 1).then_some(tag));
                        let expected = first.map(|at| list.remove(at).1);
                        prop_assert_eq!(taken.map(|ready| ready.calls), expected.map(|call| vec![call]));
                    }
                    _ => {
                        let (mut record, mut released) = (call.to_string().into_bytes(), Vec::new());
                        if let Some(of_tag) = queue.of(tag) {
                            of_tag.exchange(call, &mut record, |calls| released.extend_from_slice(calls));
                        }
                        let expected = first.map(|at| list.remove(at).1);
                        if let Some(expected) = expected {
                            list.push((tag, call));
                            prop_assert_eq!(&released, &vec![expected]);
                        }
                        prop_assert_eq!(record, expected.unwrap_or(call).to_string().into_bytes());
                    }
                }
                prop_assert_eq!(queue.len(), list.len());
                prop_assert_eq!(queue.has(tag), list.iter().any(|&(other, _)| other == tag));
            }
            let bytes: usize = list.iter().map(|&(tag, call)| ready(tag, call).bytes()).sum();
            prop_assert_eq!(queue.bytes, bytes);
            prop_assert!(queue.of.len() <= list.len());
        }
    }
}
