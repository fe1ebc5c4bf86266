//! A cache that is emptied by a call.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::stage::run;

/// A server that answers everything with a status; returns its address and the requests.
fn server(status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&seen);
    std::thread::spawn(move || {
        for wire in listener.incoming() {
            let Ok(mut wire) = wire else { return };
            let mut request = [0; 4096];
            let count = wire.read(&mut request).unwrap_or(0);
            heard.lock().unwrap().push(String::from_utf8_lossy(&request[..count]).into_owned());
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = wire.write_all(answer.as_bytes());
        }
    });
    (address, seen)
}

fn args(address: &str, is_dry: bool) -> Value {
    let target = json!({"kind": "http", "url": format!("http://{address}/all?key=canary")});
    json!({"targets": [target], "dry_run": is_dry})
}

#[tokio::test]
async fn a_call_is_made_unless_the_run_is_dry() {
    let (address, seen) = server("200 OK");

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
    let (address, _) = server("405 Method Not Allowed");

    let told = run(&args(&address, false)).await;

    let error = told.error.clone().unwrap();
    assert!(error.contains("answered 405") && !format!("{told:?}").contains("canary"), "{told:?}");
    assert_eq!(told.output["removed"], 0);
}
