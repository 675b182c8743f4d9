//! Two layouts for a column of unsigned integers: varints (small and good to compress further), and frames of 128
//! values, each the frame's minimum plus a fixed number of bits (small and fast without compression).

use crate::{
    SegmentError,
    wire::{Reader, put_varint},
};

const FRAME: usize = 128;

pub(crate) fn put_varints(out: &mut Vec<u8>, values: &[u64]) {
    for &value in values {
        put_varint(out, value);
    }
}

pub(crate) fn read_varints(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<u64>, SegmentError> {
    if rows > reader.remaining() {
        return Err(reader.corrupt(format!("holds {rows} numbers in {} bytes", reader.remaining())));
    }
    (0..rows).map(|_| reader.varint()).collect()
}

pub(crate) fn put_frames(out: &mut Vec<u8>, values: &[u64]) {
    for frame in values.chunks(FRAME) {
        let (min, max) = frame
            .iter()
            .fold((u64::MAX, 0), |(min, max), &v| (min.min(v), max.max(v)));
        let width = 64 - (max - min).leading_zeros();
        put_varint(out, min);
        out.push(width as u8);
        let (mut held, mut bits) = (0u128, 0);
        for &value in frame {
            held |= u128::from(value - min) << bits;
            bits += width;
            while bits >= 8 {
                out.push(held as u8);
                held >>= 8;
                bits -= 8;
            }
        }
        if bits > 0 {
            out.push(held as u8);
        }
    }
}

pub(crate) fn read_frames(reader: &mut Reader<'_>, rows: usize) -> Result<Vec<u64>, SegmentError> {
    // A frame is at least two bytes, so `rows` can't ask for more memory than 512 times the bytes at hand.
    if rows.div_ceil(FRAME) * 2 > reader.remaining() {
        return Err(reader.corrupt(format!("holds {rows} numbers in {} bytes", reader.remaining())));
    }
    let mut values = Vec::with_capacity(rows);
    while values.len() < rows {
        let frame = FRAME.min(rows - values.len());
        let min = reader.varint()?;
        let width = u32::from(reader.u8()?);
        if width > 64 {
            return Err(reader.corrupt(format!("a frame has {width} bits a value")));
        }
        let packed = reader.take((frame * width as usize).div_ceil(8))?;
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        let mut bit = 0;
        for _ in 0..frame {
            let offset = unpack(packed, bit, mask);
            bit += width as usize;
            values.push(
                min.checked_add(offset)
                    .ok_or_else(|| reader.corrupt("a number is beyond 64 bits"))?,
            );
        }
    }
    Ok(values)
}

/// The bits of `mask`'s width at `bit`; bytes beyond the end count as zero.
#[inline]
fn unpack(packed: &[u8], bit: usize, mask: u64) -> u64 {
    let rest = packed.get(bit / 8..).unwrap_or_default();
    let shift = bit % 8;
    if let Some(wide) = rest.first_chunk::<16>() {
        return (u128::from_le_bytes(*wide) >> shift) as u64 & mask;
    }
    let mut wide = [0; 16];
    wide[..rest.len()].copy_from_slice(rest);
    (u128::from_le_bytes(wide) >> shift) as u64 & mask
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::Part;

    fn check(values: &[u64]) {
        for (put, read) in [
            (
                put_varints as fn(&mut Vec<u8>, &[u64]),
                read_varints as fn(&mut Reader<'_>, usize) -> _,
            ),
            (put_frames, read_frames),
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, values);
            let mut reader = Reader::new(&bytes, &Part::Footer);
            assert_eq!(read(&mut reader, values.len()).unwrap(), values);
            reader.finish().unwrap();
            for cut in 0..bytes.len().min(40) {
                assert!(read(&mut Reader::new(&bytes[..cut], &Part::Footer), values.len()).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(values in prop::collection::vec(any::<u64>(), 0..300), shift in 0u32..64) {
            check(&values.iter().map(|value| value >> shift).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..400), rows in 0usize..2000) {
            let _ = read_frames(&mut Reader::new(&bytes, &Part::Footer), rows);
            let _ = read_varints(&mut Reader::new(&bytes, &Part::Footer), rows);
        }
    }

    #[test]
    fn edges() {
        check(&[]);
        check(&[u64::MAX]);
        check(&[0, u64::MAX]);
        check(&[7; 129]);
        check(&vec![u64::MAX - 1; 128]);
    }
}
