//! A server that answers everything alike.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A server that gives this status line and these headers to everybody; returns its address and the requests.
pub(crate) fn answering(head: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
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
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = wire.write_all(answer.as_bytes());
        }
    });
    (address, seen)
}
