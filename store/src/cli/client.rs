//! The HTTP client the commands share: where the server is, as which tenant, and how its errors are told.

/// Makes *ring* the TLS library of the process; needed once, before the first client is built.
pub fn install_tls() {
    // An error means that another one was installed before, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
