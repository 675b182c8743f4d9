//! Searching bytes, eight at a time.
//!
//! The filter runs in an interpreter without vector instructions, where every instruction costs about the same. So bytes are looked
//! at as the lanes of a 64-bit word: a dozen instructions for eight of them, and no table or searcher to set up before the first.

/// One in every lane, and the top bit of every lane.
const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The byte in every lane.
pub(crate) const fn lanes(byte: u8) -> u64 {
    byte as u64 * ONES
}

/// The top bits of the lanes that are zero. Above the lowest of them a lane of one may be taken for zero as well.
pub(crate) const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & TOPS
}

/// Position of the lowest lane that is set.
pub(crate) const fn lowest(hits: u64) -> usize {
    (hits.trailing_zeros() / 8) as usize
}

/// The first `wanted` in `text`.
pub(crate) fn byte(wanted: u8, text: &[u8]) -> Option<usize> {
    let Some(last) = text.last_chunk::<8>() else {
        return text.iter().position(|&b| b == wanted);
    };
    let pattern = lanes(wanted);
    let hits_in = |word: u64| zeros(word ^ pattern);
    // Two words a round: the round itself costs as much as half a word.
    let (pairs, rest) = text.as_chunks::<16>();
    for (i, pair) in pairs.iter().enumerate() {
        let pair = u128::from_le_bytes(*pair);
        let (low, high) = (hits_in(pair as u64), hits_in((pair >> 64) as u64));
        if low != 0 {
            return Some(i * 16 + lowest(low));
        }
        if high != 0 {
            return Some(i * 16 + 8 + lowest(high));
        }
    }
    if let Some(chunk) = rest.first_chunk::<8>() {
        let hits = hits_in(u64::from_le_bytes(*chunk));
        if hits != 0 {
            return Some(text.len() - rest.len() + lowest(hits));
        }
    }
    // The last bytes, some of them once more.
    let hits = hits_in(u64::from_le_bytes(*last));
    (hits != 0).then(|| text.len() - 8 + lowest(hits))
}

/// The first of two bytes in `text`.
pub(crate) fn either(first: u8, second: u8, text: &[u8]) -> Option<usize> {
    let (chunks, rest) = text.as_chunks::<8>();
    let (one, other) = (lanes(first), lanes(second));
    for (i, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let hits = zeros(word ^ one) | zeros(word ^ other);
        if hits != 0 {
            return Some(i * 8 + lowest(hits));
        }
    }
    let at = rest.iter().position(|&b| b == first || b == second)?;
    Some(text.len() - rest.len() + at)
}

/// The first `needle` in `text`.
pub(crate) fn text(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, second) = match needle {
        [] => return Some(0),
        [single] => return byte(*single, text),
        [first, second, ..] => (*first, *second),
    };
    if matches!(first, b'A'..=b'Z' | b'%') {
        return behind_rare(text, needle, first);
    }
    let (chunks, rest) = text.as_chunks::<8>();
    let (one, other) = (lanes(first), lanes(second));
    for (i, chunk) in chunks.iter().enumerate() {
        let word = u64::from_le_bytes(*chunk);
        let firsts = zeros(word ^ one);
        if firsts == 0 {
            continue;
        }
        // The lane above the last one is in the next chunk: it may be the second byte.
        let mut hits = firsts & (zeros(word ^ other) >> 8 | 1 << 63);
        while hits != 0 {
            let at = i * 8 + lowest(hits);
            if text[at..].starts_with(needle) {
                return Some(at);
            }
            hits &= hits - 1;
        }
    }
    let from = text.len() - rest.len();
    (from..text.len()).find(|&at| text[at] == first && text[at..].starts_with(needle))
}

/// [`text`] for a needle whose first byte is rare: one comparison a word less.
fn behind_rare(text: &[u8], needle: &[u8], first: u8) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = byte(first, &text[from..]).map(|n| n + from) {
        if text[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The last `needle` in `text`.
///
/// Forwards, since most texts have none.
pub(crate) fn last_text(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (mut last, mut from) = (None, 0);
    while let Some(at) = self::text(&text[from..], needle).map(|at| at + from) {
        last = Some(at);
        from = at + 1;
    }
    last
}

/// The two texts are equal.
///
/// For long ones that mostly are: the library's own comparison goes byte by byte where there is no vector unit.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (Some(last), Some(other_last)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) else {
        return one.iter().zip(other).all(|(one, other)| one == other);
    };
    let word = |chunk: &[u8; 8]| u64::from_le_bytes(*chunk);
    // The last bytes as a word of their own, some of them once more.
    word(last) == word(other_last)
        && one
            .as_chunks::<8>()
            .0
            .iter()
            .zip(other.as_chunks::<8>().0)
            .all(|(one, other)| word(one) == word(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few letters, so that needles are found, half found and found across words.
    fn letters(most: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![
                Just(b'a'),
                Just(b'b'),
                Just(b'A'),
                Just(b'`'),
                Just(0u8),
                Just(0xff)
            ],
            0..most,
        )
    }

    fn slow(text: &[u8], needle: &[u8]) -> Option<usize> {
        text.windows(needle.len()).position(|part| part == needle)
    }

    proptest! {
        #[test]
        fn searches_find_what_a_slow_one_finds(text in letters(40), mut needle in letters(5)) {
            prop_assert_eq!(byte(b'a', &text), text.iter().position(|&b| b == b'a'));
            prop_assert_eq!(either(b'a', 0xff, &text), text.iter().position(|&b| b == b'a' || b == 0xff));
            prop_assert!(needle.is_empty() || super::text(&text, &needle) == slow(&text, &needle));
            needle.extend_from_slice(b"ab");
            prop_assert_eq!(super::text(&text, &needle), slow(&text, &needle));
            let last = text.windows(needle.len()).rposition(|part| part == needle);
            prop_assert_eq!(last_text(&text, &needle), last);
        }

        #[test]
        fn texts_are_equal_when_they_are(one in letters(30), other in letters(30)) {
            prop_assert!(equal(&one, &one.clone()));
            prop_assert_eq!(equal(&one, &other), one == other);
        }
    }
}
