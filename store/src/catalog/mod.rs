//! Which segments exist: listings of the object store, parsed footers, interned streams.
