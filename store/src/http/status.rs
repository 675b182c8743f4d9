//! Status endpoints: ready, metrics, build information.
