//! The command line of the hybrid scheduler, as a library.

pub mod diagnostic;
pub mod duration;
pub mod origin;
