//! Query results as Loki's JSON.
