//! The classifier's answer in words.

use scheduler_core::{Classification, Flip, Tier};

/// One labelled line of an answer.
pub(crate) fn labelled(label: &str, text: &str) -> String {
    format!("  {label:<14} {text}\n")
}

/// Why it is not another tier than `chosen`, and the smallest changes that would make it one.
pub(crate) fn alternatives(classification: &Classification, chosen: Tier) -> String {
    let rejected = classification.rejected.iter().filter(|rejected| rejected.tier != chosen);
    let rejected = rejected.map(|rejected| labelled(&format!("not {}", rejected.tier), &rejected.reason));
    let flips = classification.flips.iter().map(|flip| labelled("would change", &flip_words(flip)));
    rejected.chain(flips).collect()
}

fn flip_words(flip: &Flip) -> String {
    let set: Vec<String> = flip.set.iter().map(|(field, word)| format!("{field} = {word}")).collect();
    format!("{} -> {}", set.join(" and "), flip.tier)
}
