//! index/stats and index/volume.
