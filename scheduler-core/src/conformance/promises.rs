//! The list of promises. Everything that goes over all of them is made from it.

use std::pin::Pin;

use super::fault::Outcome;
use super::stage::Stage;

/// Something that every backend promises, or every one that declares a capability.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// Its name, which is the name of its test: the promise as a sentence.
    pub name: &'static str,
    /// What it is about.
    pub chapter: &'static str,
    pub(super) play: Play,
}

pub(super) type Play = for<'a> fn(&'a mut Stage) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

impl Promise {
    /// The promise as a sentence.
    pub fn sentence(&self) -> String {
        self.name.replace('_', " ")
    }
}

/// Hands the list of promises, by chapter, to another macro, after what is passed through.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_promises {
    ($then:path, $($passed:tt)*) => {
        $then! {
            [$($passed)*]
            duties:
                what_it_is_never_changes,
                schedules_are_declared_exactly_where_they_are,
                starting_twice_changes_nothing,
                stopping_twice_changes_and_reports_nothing,
                it_starts_again_after_a_stop,
                health_says_whether_it_runs,
                an_unknown_task_is_refused,
                nothing_is_taken_while_it_does_not_run,
            ;
            runs:
                a_run_succeeds_and_is_shown_as_it_was_asked_for,
                a_run_id_runs_once,
                a_run_of_the_future_starts_when_it_is_due_and_not_before,
                runs_are_shown_newest_first_without_gap_or_repetition,
                runs_are_filtered_by_task_and_state,
                parameters_reach_the_job_unchanged,
                the_output_of_a_job_is_kept_unchanged,
                a_job_is_told_which_run_it_is,
                many_callers_at_once_lose_and_double_nothing,
                every_attempt_and_every_end_is_told_once,
            ;
        }
    };
}

macro_rules! list {
    ([] $($chapter:ident: $($name:ident,)+;)+) => {
        /// Every promise, in the order of the documentation.
        pub const PROMISES: &[Promise] = &[$($(Promise {
            name: stringify!($name),
            chapter: stringify!($chapter),
            play: |stage| Box::pin(super::$chapter::$name(stage)),
        }),+),+];
    };
}

__conformance_promises!(list,);

/// Makes a test of every promise. `$subject` is called for each: `conformance_tests!(MySubject::new);`
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr) => {
        $crate::__conformance_promises! { $crate::__conformance_test_each, $subject }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test_each {
    ([$subject:expr] $($chapter:ident: $($name:ident,)+;)+) => {
        $($(
            #[test]
            fn $name() {
                $crate::conformance::__prove(stringify!($name), $subject);
            }
        )+)+

        #[test]
        fn the_report_is_written() {
            $crate::conformance::__write_report($subject);
        }
    };
}
