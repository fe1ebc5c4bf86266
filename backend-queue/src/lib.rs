//! The durable tier of the hybrid scheduler: a queue on embedded SQLite or on Redis.
//!
//! This version of the crate holds no code: the tier is not available yet, registers no backend, and a
//! configuration that names it is refused. The crate keeps the name and the place in the dependency order.
