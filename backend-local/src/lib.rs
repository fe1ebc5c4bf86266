//! The local tier.
mod wheel;
