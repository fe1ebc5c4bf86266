//! The workflow tier of the hybrid scheduler: an HTTP client of a workflow engine.
//!
//! This version of the crate holds no code: the tier is not available yet, registers no backend, and a
//! configuration that names it is refused. The crate keeps the name and the place in the dependency order.
