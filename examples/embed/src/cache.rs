//! What the service knows at the moment, and how often it was asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The price of each pair of currencies.
pub type Rates = BTreeMap<String, f64>;

/// The newest rates. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rates: RwLock<Rates>,
    asked: AtomicU64,
}

impl Cache {
    /// The price of a pair, such as `EURUSD`, if it is known.
    pub fn price(&self, pair: &str) -> Option<f64> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.rates.read().unwrap_or_else(PoisonError::into_inner).get(pair).copied()
    }

    /// Puts these rates into the place of all that were known.
    pub fn replace(&self, rates: Rates) {
        *self.0.rates.write().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// How many prices were asked for since the last call.
    pub fn take_asked(&self) -> u64 {
        self.0.asked.swap(0, Ordering::Relaxed)
    }
}
