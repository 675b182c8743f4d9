//! The memory budget of pushes that are not acknowledged yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PushError;
use crate::metrics as names;

/// Counts bytes held by pushes against one limit.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicU64,
    limit: u64,
}

/// Bytes of the budget that one push holds; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicU64::new(0),
            limit,
        })
    }

    /// An empty reservation.
    pub(crate) fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Reservation {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`PushError::TooLarge`] when the push alone goes beyond the limit, so that sending again can't help, else
    /// [`PushError::Overloaded`] when there isn't enough left now.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), PushError> {
        let limit = self.budget.limit;
        let own = self.bytes.saturating_add(bytes);
        if own > limit {
            return Err(PushError::TooLarge { bytes: own, limit });
        }
        let add = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= limit);
        match self
            .budget
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
        {
            Ok(held) => {
                self.bytes = own;
                metrics::gauge!(names::INGEST_MEMORY).set((held + bytes) as f64);
                Ok(())
            }
            Err(held) => Err(PushError::Overloaded { held, limit }),
        }
    }

    /// Makes the reservation exactly `bytes`: grows it, or gives back what is no longer needed.
    pub(crate) fn set(&mut self, bytes: u64) -> Result<(), PushError> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.grow(more),
            None => {
                self.release(self.bytes - bytes);
                Ok(())
            }
        }
    }

    fn release(&mut self, bytes: u64) {
        self.bytes -= bytes;
        let before = self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
        metrics::gauge!(names::INGEST_MEMORY).set(before.saturating_sub(bytes) as f64);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_full_budget_refuses_until_something_is_given_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.reserve(), budget.reserve());
        a.grow(80).unwrap();
        assert!(matches!(
            b.grow(30),
            Err(PushError::Overloaded { held: 80, limit: 100 })
        ));
        assert!(matches!(b.grow(101), Err(PushError::TooLarge { .. })));
        a.set(10).unwrap();
        b.grow(90).unwrap();
        drop(a);
        drop(b);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }
}
