//! Query parameters: times, durations, limits, directions.
