//! Little-endian integers, varints and byte runs: writing them, and reading them without trusting any.

use crate::{Part, SegmentError};

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// `b - a` of ascending timestamps; fits whatever the two are.
pub(crate) fn ts_delta(a: i64, b: i64) -> u64 {
    b.wrapping_sub(a) as u64
}

/// Reads from a slice whose every byte may be wrong.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    part: &'a Part,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], part: &'a Part) -> Self {
        Reader { bytes, part }
    }

    pub(crate) fn part(&self) -> &'a Part {
        self.part
    }

    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> SegmentError {
        SegmentError::corrupt(self.part.clone(), reason)
    }

    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], SegmentError> {
        match self.bytes.split_at_checked(len) {
            Some((head, rest)) => {
                self.bytes = rest;
                Ok(head)
            }
            None => Err(self.corrupt(format!(
                "ends {} bytes early",
                len.saturating_sub(self.bytes.len())
            ))),
        }
    }

    /// The bytes before the next `end`, which is passed.
    pub(crate) fn until(&mut self, end: u8) -> Result<&'a [u8], SegmentError> {
        match self.bytes.iter().position(|&byte| byte == end) {
            Some(len) => {
                let (head, rest) = self.bytes.split_at(len);
                self.bytes = &rest[1..];
                Ok(head)
            }
            None => Err(self.corrupt("ends inside a text")),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], SegmentError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, SegmentError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u64(&mut self) -> Result<u64, SegmentError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, SegmentError> {
        if let [first, rest @ ..] = self.bytes
            && *first < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(*first));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, SegmentError> {
        let mut value = 0u64;
        for (n, &byte) in self.bytes.iter().take(10).enumerate() {
            if n == 9 && byte > 1 {
                return Err(self.corrupt("a number is beyond 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * n);
            if byte < 0x80 {
                self.bytes = &self.bytes[n + 1..];
                return Ok(value);
            }
        }
        Err(self.corrupt("ends inside a number"))
    }

    pub(crate) fn zigzag(&mut self) -> Result<i64, SegmentError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn u32(&mut self, what: &'static str, limit: u32) -> Result<u32, SegmentError> {
        let value = self.varint()?;
        SegmentError::limit(self.part.clone(), what, value, u64::from(limit))?;
        Ok(value as u32)
    }

    /// A number of things that follow, each of at least one byte: never more than the bytes that are left.
    pub(crate) fn count(&mut self, what: &'static str, limit: u64) -> Result<usize, SegmentError> {
        let value = self.varint()?;
        SegmentError::limit(self.part.clone(), what, value, limit)?;
        if value > self.bytes.len() as u64 {
            return Err(self.corrupt(format!("declares {value} {what} in {} bytes", self.bytes.len())));
        }
        Ok(value as usize)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, SegmentError> {
        let len = self.count("bytes of text", u64::from(u32::MAX))?;
        let part = self.part;
        std::str::from_utf8(self.take(len)?)
            .map_err(|error| SegmentError::corrupt(part.clone(), error.to_string()))
    }

    /// A timestamp stored as its distance from an earlier one.
    pub(crate) fn ts_after(&mut self, base: i64) -> Result<i64, SegmentError> {
        let delta = self.varint()?;
        base.checked_add_unsigned(delta)
            .ok_or_else(|| self.corrupt("a timestamp is beyond 64 bits"))
    }

    pub(crate) fn finish(self) -> Result<(), SegmentError> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt(format!("has {} bytes too many", self.bytes.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_round_trip(unsigned: u64, signed: i64, a: i64, b: i64) {
            let (low, high) = (a.min(b), a.max(b));
            let mut bytes = Vec::new();
            put_varint(&mut bytes, unsigned);
            put_zigzag(&mut bytes, signed);
            put_varint(&mut bytes, ts_delta(low, high));
            let mut reader = Reader::new(&bytes, &Part::Footer);
            prop_assert_eq!(reader.varint().unwrap(), unsigned);
            prop_assert_eq!(reader.zigzag().unwrap(), signed);
            prop_assert_eq!(reader.ts_after(low).unwrap(), high);
            reader.finish().unwrap();
        }
    }

    #[test]
    fn wrong_numbers_are_errors() {
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff; 9],
            &[0xff; 10],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert!(Reader::new(bytes, &Part::Footer).varint().is_err(), "{bytes:?}");
        }
        assert!(Reader::new(&[2], &Part::Footer).ts_after(i64::MAX - 1).is_err());
        let error = Reader::new(&[9, b'a'], &Part::Footer).str().unwrap_err();
        assert_eq!(
            error.to_string(),
            "corrupt segment: footer: declares 9 bytes of text in 1 bytes"
        );
    }
}
