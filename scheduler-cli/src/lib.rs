//! The command line of the hybrid scheduler, as a library.

pub mod diagnostic;
pub mod duration;
pub mod fields;
pub mod from_value;
mod include;
pub mod layers;
pub mod origin;
mod overrides;
mod pointer;
pub mod source;
mod suggest;
mod toml_file;
mod yaml_file;
