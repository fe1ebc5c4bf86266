//! A backend for the hybrid scheduler: takes runs, runs them on tokio, and remembers them as long as it lives.
//!
//! It has no schedules of its own, so the scheduler fires its tasks. What it promises is proven in
//! `tests/conformance.rs`. A program uses it by `use custom_backend as _;`, a config by `kind = "custom_backend"`.

mod backend;
mod config;
mod service;
mod state;

use std::sync::Arc;

use scheduler_core::{Backend, BackendKind, BackendSettings, Source, Tier, register_backend};

pub use backend::CustomBackend;
pub use config::Config;

/// This crate, for a program that registers [`kind`] by a call.
pub const SOURCE: Source = scheduler_core::source!();

register_backend!(kind);

/// How to make one from its section of a config.
pub fn kind() -> BackendKind {
    let build = |settings: &BackendSettings| {
        let config = Config::from_value(&settings.config)?;
        Ok(Arc::new(CustomBackend::new(settings.name.clone(), Tier::Local, config)) as Arc<dyn Backend>)
    };
    BackendKind::new("custom_backend", Tier::Local, "in memory, on tokio", build)
        .with_schema(Config::schema())
}
