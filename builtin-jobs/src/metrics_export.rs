//! Hands numbers to whatever recorder of the `metrics` facade a program has installed; to nobody when it has none.

use metrics::{Key, Label, Level, Metadata};

use crate::metrics_sample::{Kind, Sample};

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Sets gauges and counters. A counter of the facade is a whole number, so of seconds the part of one is left out.
pub(crate) fn export<'a>(samples: impl Iterator<Item = &'a Sample>) {
    metrics::with_recorder(|recorder| {
        for Sample { name, labels, kind, value } in samples {
            let labels: Vec<Label> =
                labels.iter().map(|(name, value)| Label::new(name.clone(), value.clone())).collect();
            let key = Key::from_parts(name.clone(), labels);
            match kind {
                Kind::Gauge => recorder.register_gauge(&key, &METADATA).set(*value),
                Kind::Counter => recorder.register_counter(&key, &METADATA).absolute(whole(*value)),
            }
        }
    });
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is cut and bounded")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}
