//! Assembles the service and takes it down in order.
