//! labels, label values and series.
