//! Tenant names and how a request names its tenant.
