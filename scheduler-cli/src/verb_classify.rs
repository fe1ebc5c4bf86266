//! `scheduler classify`: where a task of such characteristics belongs.

use clap::Args;
use scheduler_core::{
    Complexity, Durability, Frequency, Infrastructure, TaskCharacteristics, Visibility, classify_task,
};

use crate::command_line::word;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, OutputFlag};
use crate::reasoning::{alternatives, labelled};

/// The characteristics; what is left out has its default.
#[derive(Debug, Args)]
pub(crate) struct Flags {
    /// How often it runs; without a trigger to derive it from, rarely.
    #[arg(long, default_value = "low", value_parser = word::<Frequency>(Frequency::ALL.iter().map(|w| w.as_str())))]
    frequency: Frequency,
    /// Who looks at its runs.
    #[arg(long, default_value = "internal", value_parser = word::<Visibility>(Visibility::ALL.iter().map(|w| w.as_str())))]
    visibility: Visibility,
    /// What one run consists of.
    #[arg(long, default_value = "simple", value_parser = word::<Complexity>(Complexity::ALL.iter().map(|w| w.as_str())))]
    complexity: Complexity,
    /// Whether a run may be lost.
    #[arg(long, default_value = "ephemeral", value_parser = word::<Durability>(Durability::ALL.iter().map(|w| w.as_str())))]
    durability: Durability,
    /// How many machines take part.
    #[arg(long, default_value = "local", value_parser = word::<Infrastructure>(Infrastructure::ALL.iter().map(|w| w.as_str())))]
    infrastructure: Infrastructure,
    #[command(flatten)]
    output: OutputFlag,
}

pub(crate) fn execute(flags: &Flags) -> Result<Exit, Failure> {
    let answer = classify_task(&TaskCharacteristics {
        frequency: flags.frequency,
        visibility: flags.visibility,
        complexity: flags.complexity,
        durability: flags.durability,
        infrastructure: flags.infrastructure,
    });
    output::one(flags.output.format, &answer, || {
        let mut text = format!("{}  (rule {})\n", answer.tier, answer.rule);
        text.extend(answer.reasons.iter().map(|reason| labelled("because", reason)));
        text.push_str(&alternatives(&answer, answer.tier));
        text.extend(answer.warnings.iter().map(|warning| labelled("warning", &warning.message)));
        text
    })?;
    Ok(Exit::Done)
}
