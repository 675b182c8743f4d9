//! The memory that the host copies tags and records into.
//!
//! Fluent Bit asks for two buffers before each call and gives them back behind it. A general allocator's search for room would
//! cost an ordinary line as much as all that the filter does with it, so the buffers are kept. This module knows sizes and places.

/// Most bytes of a buffer that is kept.
const MOST: usize = 64 << 10;

/// Two buffers, each there or lent.
#[derive(Debug)]
pub(crate) struct HostBuffers {
    buffers: [Vec<u8>; 2],
    lent: [bool; 2],
}

impl HostBuffers {
    pub(crate) const fn new() -> Self {
        HostBuffers {
            buffers: [Vec::new(), Vec::new()],
            lent: [false; 2],
        }
    }

    /// Lends a buffer of at least `bytes`; nothing when both are lent, or when it would be too large to be kept.
    pub(crate) fn lend(&mut self, bytes: usize) -> Option<*mut u8> {
        let place = usize::from(self.lent[0]);
        if self.lent[place] || bytes > MOST {
            return None;
        }
        let buffer = &mut self.buffers[place];
        if buffer.len() < bytes {
            *buffer = vec![0; bytes.next_power_of_two().max(256)];
        }
        self.lent[place] = true;
        Some(buffer.as_mut_ptr())
    }

    /// Takes a buffer back; says whether it is one of these.
    pub(crate) fn take_back(&mut self, start: *const u8) -> bool {
        for (buffer, lent) in self.buffers.iter().zip(&mut self.lent) {
            if *lent && buffer.as_ptr() == start {
                *lent = false;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buffers_are_lent_once_and_used_again() {
        let mut buffers = HostBuffers::new();
        let (tag, record) = (buffers.lend(10).unwrap(), buffers.lend(1000).unwrap());
        assert_ne!(tag, record);
        assert_eq!(buffers.lend(1), None);
        assert!(buffers.take_back(tag) && !buffers.take_back(tag));
        // There is room in it for more than was asked for.
        assert_eq!(buffers.lend(200), Some(tag));
        assert!(buffers.take_back(record) && buffers.take_back(tag));
        assert!(!buffers.take_back(std::ptr::null()));
    }

    #[test]
    fn larger_buffers_are_not_kept() {
        let mut buffers = HostBuffers::new();
        assert_eq!(buffers.lend(MOST + 1), None);
        assert!(buffers.lend(MOST).is_some());
        assert!(buffers.buffers[0].len() <= MOST);
    }
}
