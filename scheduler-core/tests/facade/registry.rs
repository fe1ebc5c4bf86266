//! What a program has registered, and what it refuses to be built from.

use std::sync::Arc;

use scheduler_core::{
    Backend, BackendSettings, JobDescriptor, Output, Registry, TestClock, Tier, Way, source,
};
use serde_json::{Value, json};

use crate::custom_backend;
use crate::faulty::Faulty;
use crate::stage::{BEGIN, builder, in_memory, name};

fn tick() -> JobDescriptor {
    JobDescriptor::function("tick", "ticks", |_| async { Ok(Output::Null) })
}

scheduler_core::register_job!(tick);

#[test]
fn what_macros_registered_is_found_and_says_where_it_came_from() {
    let mut registry = Registry::new();
    registry.add_registered().unwrap();

    let job = registry.jobs().find(|job| *job.item.name() == "tick").unwrap();
    let kind = registry.backends().find(|kind| *kind.item.kind() == "custom_backend").unwrap();

    assert_eq!((job.source, job.way), (source!(), Way::Macro));
    assert_eq!((kind.source, kind.way), (source!(), Way::Macro));
    let settings = BackendSettings::new(name("mine"), json!({}), None);
    assert_eq!(kind.item.build(&settings).unwrap().info().name, "mine");
}

#[test]
fn two_of_one_name_are_refused() {
    let mut registry = Registry::new();
    registry.add_registered().unwrap();

    let job = registry.add_job(tick(), source!(), Way::Explicit).unwrap_err();
    let kind = registry.add_backend(custom_backend::kind(), source!(), Way::Feature).unwrap_err();

    assert_eq!((job.code(), kind.code()), ("registry/duplicate_job", "registry/duplicate_backend"));
    assert!(kind.to_string().contains("(macro) and by scheduler-core"), "{kind}");
    assert!(registry.jobs().filter(|job| *job.item.name() == "tick").count() == 1);
}

#[test]
fn an_unknown_name_lists_what_is_known() {
    let mut registry = Registry::new();
    registry.add_registered().unwrap();

    let error = registry.backend("redis\n").unwrap_err();

    assert_eq!(error.code(), "backend/unknown");
    assert!(
        error.to_string().contains("registered: custom_backend") && !error.to_string().contains('\n'),
        "{error}"
    );
    assert_eq!(registry.job("tock").unwrap_err().code(), "job/unknown");
    assert_eq!(registry.job("tick").unwrap().build(&Value::Null).map(drop), Ok(()));
}

#[test]
fn a_scheduler_of_two_backends_of_one_name_or_of_another_contract_is_not_built() {
    let clock = TestClock::at(BEGIN);
    let twin = || Arc::new(in_memory("twin", Tier::Local)) as Arc<dyn Backend>;
    let future = Faulty::on("future", Tier::Local).with_contract(scheduler_core::CONTRACT + 1);

    let twins = builder(&clock).backend(twin()).backend(twin()).build().unwrap_err();
    let foreign = builder(&clock).backend(Arc::new(future)).build().unwrap_err();

    assert_eq!((twins.code(), foreign.code()), ("registry/duplicate_backend", "backend/contract"));
    assert!(foreign.to_string().contains("`future`"), "{foreign}");
}
