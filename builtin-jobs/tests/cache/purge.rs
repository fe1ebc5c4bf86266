//! A cache that is emptied by a call.

use serde_json::{Value, json};

use crate::answering::answering;
use crate::stage::run;

fn args(address: &str, is_dry: bool) -> Value {
    let target = json!({"kind": "http", "url": format!("http://{address}/all?key=canary")});
    json!({"targets": [target], "dry_run": is_dry})
}

#[tokio::test]
async fn a_call_is_made_unless_the_run_is_dry() {
    let (address, seen) = answering("200 OK");

    let dry = run(&args(&address, true)).await;
    assert!(seen.lock().unwrap().is_empty());
    let real = run(&args(&address, false)).await;

    assert!(seen.lock().unwrap()[0].starts_with("PURGE /all?key=canary HTTP/1.1"));
    assert_eq!(dry.output["targets"][0]["listed"], real.output["targets"][0]["listed"]);
    assert_eq!(real.output["targets"][0]["name"], format!("PURGE http://{address}/all"));
    assert!(!format!("{dry:?} {real:?}").contains("canary"));
}

#[tokio::test]
async fn another_answer_is_a_fault() {
    let (address, _) = answering("405 Method Not Allowed");

    let told = run(&args(&address, false)).await;

    let error = told.error.clone().unwrap();
    assert!(error.contains("answered 405") && !format!("{told:?}").contains("canary"), "{told:?}");
    assert_eq!(told.output["removed"], 0);
}
