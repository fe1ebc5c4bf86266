//! What a row did and found, and how it is printed.

use std::fmt;
use std::time::Duration;

use crate::faults::instant;

/// What a row has to say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// What was done to the product, with evidence from outside of it.
    pub(crate) injected: Vec<String>,
    /// What holds all the same.
    pub(crate) expected: Vec<String>,
    /// What was counted, from outside as well.
    pub(crate) counted: Vec<String>,
    /// Where what was counted is not what was expected.
    pub(crate) broken: Vec<String>,
}

/// What a row came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Broke,
    /// With the reason.
    NotRun(String),
}

/// Why a row cannot be run on this machine; any other error breaks the row.
#[derive(Debug)]
pub(crate) struct CannotRun(pub(crate) String);

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotRun {}

/// What was prepared came due before it was ready, by so much, so the row says nothing yet.
#[derive(Debug)]
pub(crate) struct TooSlow(pub(crate) Duration);

impl TooSlow {
    /// Says whether what is due at an instant was ready before that.
    ///
    /// # Errors
    /// It was not.
    pub(crate) fn unless_before(due: u64) -> Result<(), Self> {
        match instant::now().checked_sub(due) {
            Some(late) if late > 0 => Err(Self(Duration::from_millis(late))),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the machine is too busy: what a row prepares came due before it was ready")
    }
}

impl std::error::Error for TooSlow {}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("injected", &self.injected),
            ("expected", &self.expected),
            ("counted", &self.counted),
            ("BROKEN", &self.broken),
        ];
        for (head, lines) in parts {
            for (index, line) in lines.iter().enumerate() {
                let head = if index == 0 { head } else { "" };
                writeln!(f, "    {head:<9} {line}")?;
            }
        }
        Ok(())
    }
}

/// The first few, and how many there are.
pub(crate) fn some<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN { format!("{shown} and {} more", all.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_names_each_part_once() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let account = Account { injected: lines(&["a", "b"]), counted: lines(&["c"]), ..Account::default() };

        assert_eq!(account.to_string(), "    injected  a\n              b\n    counted   c\n");
        assert_eq!(some(1..8), "1, 2, 3, 4, 5 and 2 more");
    }
}
