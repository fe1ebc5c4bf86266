//! Each promise is broken by one backend, and each of those breaks no other.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use scheduler_core::conformance::{Finding, Kept, PROMISES, Promise, Time};

use crate::breaks::BREAKS;
use crate::store::lock;
use crate::subject::Disk;

/// Long enough for a machine under load.
const OWN: Time = Time::Own { unit: Duration::from_millis(200) };

/// A promise, and how to make the subject to prove it on from a number.
type Work = (Promise, fn(usize) -> Disk, usize);

/// Proves promises on several threads at once; the findings are in the order of the work.
fn prove_all(work: &[Work], threads: usize) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let findings: Mutex<Vec<(usize, Finding)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((promise, subject, argument)) = work.get(index) else { return };
                    let finding = promise.prove(subject(*argument));
                    lock(&findings).push((index, finding));
                }
            });
        }
    });
    let mut findings = findings.into_inner().unwrap();
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

#[test]
fn every_promise_has_a_backend_that_breaks_it() {
    let broken: Vec<&str> = BREAKS.iter().map(|(promise, _, _)| *promise).collect();
    let promises: Vec<&str> = PROMISES.iter().map(|promise| promise.name).collect();
    let distinct: BTreeSet<&str> = promises.iter().copied().collect();

    assert_eq!(broken.iter().copied().collect::<BTreeSet<_>>(), distinct);
    assert_eq!((promises.len(), broken.len()), (distinct.len(), distinct.len()), "each once");
}

#[test]
fn a_broken_backend_fails_its_promise_and_no_other() {
    let work: Vec<Work> = (0..BREAKS.len())
        .flat_map(|index| {
            let subject: fn(usize) -> Disk = |index| Disk::new(Some(BREAKS[index].1));
            PROMISES.iter().map(move |promise| (*promise, subject, index))
        })
        .collect();

    let findings = prove_all(&work, 8);

    println!("| promise | broken backend: what it does wrong | result |\n|---|---|---|");
    let mut wrong = Vec::new();
    for ((promise, fault, what), findings) in BREAKS.iter().zip(findings.chunks(PROMISES.len())) {
        let is_broken = |finding: &&Finding| finding.result == Kept::Broken;
        let failed: Vec<&Finding> = findings.iter().filter(is_broken).collect();
        let names: Vec<&str> = failed.iter().map(|finding| finding.name).collect();
        let is_exact = names == [*promise];
        let result = if is_exact { "fails it alone".to_owned() } else { format!("fails {names:?}") };
        println!("| {promise} | `{fault:?}`: {what} | {result} |");
        if !is_exact {
            let seen: Vec<_> = failed.iter().map(|f| format!("\n    {}: {}", f.name, f.message)).collect();
            wrong.push(format!("\n{fault:?} should fail {promise} alone, it fails:{}", seen.concat()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn a_backend_that_goes_by_a_clock_of_its_own_can_be_proven() {
    let subject: fn(usize) -> Disk = |_| Disk { time: OWN, ..Disk::new(None) };
    let work: Vec<Work> = PROMISES.iter().map(|promise| (*promise, subject, 0)).collect();

    // Nearly all of it is waiting.
    let findings = prove_all(&work, PROMISES.len());

    let broken: Vec<_> = findings.iter().filter(|finding| finding.result == Kept::Broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_broken_backend_that_goes_by_a_clock_of_its_own_fails_its_promise() {
    let subject: fn(usize) -> Disk = |index| Disk { time: OWN, ..Disk::new(Some(BREAKS[index].1)) };
    let promise = |name: &str| *PROMISES.iter().find(|promise| promise.name == name).unwrap();
    let work: Vec<Work> =
        BREAKS.iter().enumerate().map(|(index, (name, _, _))| (promise(name), subject, index)).collect();

    let findings = prove_all(&work, BREAKS.len());

    let unseen: Vec<_> = findings.iter().filter(|finding| finding.result != Kept::Broken).collect();
    assert!(unseen.is_empty(), "{unseen:#?}");
}
