//! The words, the traits and the classifier of the hybrid scheduler.
