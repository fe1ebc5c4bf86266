//! The five facts about a task that decide its tier.

use std::time::Duration;

/// Defines an enum of words a user types: its words, its default (the first), and parsing.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$vmeta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word a user types.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Error;

            /// # Errors
            /// `word/unknown`, listing the allowed words.
            fn from_str(text: &str) -> $crate::Result<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let allowed: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    let message = format!("`{}` is none of {}", text.escape_debug(), allowed.join(", "));
                    $crate::Error::invalid("word/unknown", message)
                })
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a task runs.
    Tier {
        /// In this process.
        Local = "local",
        /// In a durable queue.
        Queue = "queue",
        /// In a workflow engine.
        Workflow = "workflow",
    }
}

words! {
    /// How often a task runs. Left out, it follows from the trigger.
    Frequency {
        /// More often than once a minute.
        High = "high",
        /// Every minute to every hour, both included.
        Medium = "medium",
        /// Less often than once an hour, or once, or when asked.
        Low = "low",
    }
}

words! {
    /// Who looks at the task's runs.
    Visibility {
        /// Its operators.
        Internal = "internal",
        /// People who follow it in a workflow engine.
        UserFacing = "user_facing",
    }
}

words! {
    /// What one run consists of.
    Complexity {
        /// One step.
        Simple = "simple",
        /// Steps that depend on each other.
        Dag = "dag",
        /// Steps with state, branches or people in between.
        Complex = "complex",
    }
}

words! {
    /// Whether a run may be lost.
    Durability {
        /// It may: the next one makes up for it.
        Ephemeral = "ephemeral",
        /// It may not: it must survive a restart.
        Persistent = "persistent",
    }
}

words! {
    /// How many machines take part.
    Infrastructure {
        /// This one.
        Local = "local",
        /// Several, sharing a store.
        Distributed = "distributed",
    }
}

/// The facts the classifier reads. The defaults are those of a task that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct TaskCharacteristics {
    /// How often it runs.
    pub frequency: Frequency,
    /// Who looks at its runs.
    pub visibility: Visibility,
    /// What one run consists of.
    pub complexity: Complexity,
    /// Whether a run may be lost.
    pub durability: Durability,
    /// How many machines take part.
    pub infrastructure: Infrastructure,
}

impl Default for TaskCharacteristics {
    fn default() -> Self {
        Self {
            frequency: Frequency::Low,
            visibility: Visibility::Internal,
            complexity: Complexity::Simple,
            durability: Durability::Ephemeral,
            infrastructure: Infrastructure::Local,
        }
    }
}

impl Frequency {
    /// The class of a period: `high` under a minute, `medium` up to an hour inclusive, `low` above it.
    pub fn of_period(period: Duration) -> Self {
        match period.as_millis() {
            0..60_000 => Self::High,
            60_000..=3_600_000 => Self::Medium,
            _ => Self::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_one_frequency() {
        let cases = [
            (59_999, Frequency::High),
            (60_000, Frequency::Medium),
            (3_600_000, Frequency::Medium),
            (3_600_001, Frequency::Low),
        ];
        for (millis, expected) in cases {
            assert_eq!(Frequency::of_period(Duration::from_millis(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn an_unknown_word_lists_the_allowed_ones() {
        let error = "user-facing".parse::<Visibility>().unwrap_err();
        assert_eq!(error.to_string(), "`user-facing` is none of internal, user_facing");
    }
}
