//! The command line of the hybrid scheduler, as a library.
