//! The segment format: columns to bytes and back. No I/O, no async; knows neither tenants nor queries.
