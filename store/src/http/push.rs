//! Push endpoints: Loki's and OTLP's.
