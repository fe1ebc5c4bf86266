//! Jobs that ship with the hybrid scheduler.
