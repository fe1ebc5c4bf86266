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
                runs_can_be_asked_for_while_it_does_not_run,
            ;
            runs:
                a_run_succeeds_and_is_shown_as_it_was_asked_for,
                a_run_id_runs_once,
                runs_that_are_taken_together_are_answered_in_their_order,
                a_run_of_the_future_starts_when_it_is_due_and_not_before,
                runs_are_shown_newest_first_without_gap_or_repetition,
                runs_are_filtered_by_task_and_state,
                a_job_is_told_which_run_it_is,
                many_callers_at_once_lose_and_double_nothing,
                every_attempt_and_every_end_is_told_once,
            ;
            payloads:
                parameters_reach_the_job_unchanged,
                the_output_of_a_job_is_kept_unchanged,
            ;
            attempts:
                attempts_are_counted_from_one_to_the_maximum,
                a_failed_run_waits_before_it_is_tried_again,
                an_aborted_run_is_not_tried_again,
                a_snooze_spends_no_attempt,
                a_time_limit_ends_the_attempt,
                a_panic_fails_its_own_run_and_no_other,
                fences_rise_over_attempts_runs_and_restarts,
            ;
            cancelling:
                a_waiting_run_that_is_cancelled_never_starts,
                a_run_between_attempts_can_be_cancelled,
                a_running_run_that_is_cancelled_hears_it,
                who_cancels_running_runs_says_so,
                a_run_that_ended_cannot_be_cancelled,
                a_run_that_nobody_knows_cannot_be_cancelled,
            ;
            stopping:
                a_stop_lets_runs_end_within_the_grace,
                a_stop_names_what_it_cut_off,
                a_stop_gives_back_what_did_not_begin,
                after_a_stop_nothing_runs,
                an_abort_waits_for_nothing,
                an_abort_cuts_a_stop_short,
            ;
            schedules:
                a_task_fires_at_its_times_under_their_ids,
                an_edit_keeps_what_fired_and_takes_the_new_rule,
                a_removed_task_fires_no_more,
                a_paused_task_does_not_fire_until_it_is_resumed,
                a_pause_ends_by_itself_at_its_time,
                a_task_it_does_not_know_cannot_be_paused,
                many_tasks_at_once_are_treated_as_each_alone,
                missed_fires_follow_the_policy_of_their_task,
                statuses_tell_the_next_fire_and_the_runs_that_live,
                a_task_that_follows_its_finish_waits_for_it,
                fires_missed_while_it_was_away_follow_the_policy,
            ;
            overlap:
                overlap_skip_leaves_skipped_runs_that_say_why,
                overlap_queue_runs_one_after_the_other,
                overlap_cancel_other_takes_the_place_of_the_last,
                overlap_allow_runs_beside_each_other,
            ;
            durability:
                a_waiting_run_survives_a_restart,
                a_waiting_run_survives_a_crash,
                a_run_cut_off_by_a_crash_runs_again_as_its_next_attempt,
                a_run_that_ended_is_known_after_a_restart,
                who_keeps_runs_over_a_restart_says_so,
            ;
            priorities:
                the_higher_priority_starts_first,
                a_run_goes_by_the_priority_it_was_asked_for_with,
                who_goes_by_priority_says_so,
            ;
            letters:
                dead_letters_are_declared_exactly_where_they_are,
                every_run_that_fails_becomes_a_dead_letter,
                a_replay_is_a_new_run_that_names_its_origin,
                a_letter_is_replayed_once,
                a_held_letter_is_not_replayed_until_it_is_released,
                a_discarded_letter_is_gone_and_its_run_stays,
                a_held_letter_stays_when_only_others_are_discarded,
                a_letter_that_is_not_there_is_answered_in_its_place,
                letters_are_shown_newest_first_and_filtered,
                letters_survive_a_restart_and_a_crash,
            ;
            retention:
                what_lies_beyond_the_bounds_is_forgotten_and_nothing_else,
            ;
            adhoc:
                a_run_without_a_task_runs_the_job_it_names,
                a_job_that_needs_a_task_is_not_run_without_one,
                who_runs_jobs_without_a_task_says_so,
            ;
            outside:
                what_is_asked_for_from_outside_runs_at_the_next_start,
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
