//! The one place that turns typed errors into a status and Loki's plain-text body.
