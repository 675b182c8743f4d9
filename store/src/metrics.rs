//! Names of all metrics the service exposes.
