//! Every option of the service: flags, environment, TOML, defaults, validation.
