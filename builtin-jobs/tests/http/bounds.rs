//! Whatever a server does, an attempt ends, and it takes no more memory than it was given.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::server::{Server, answer};
use crate::stage::{args, args_with, fails, output};

/// What the buffers of two sockets may hold besides what was read.
const BUFFERS: u64 = 32 * 1024 * 1024;

/// Sends `head`, then `piece` again and again until the client has left; counts what it could send.
async fn endless(head: &'static [u8], piece: Vec<u8>) -> (Server, Arc<AtomicU64>, Arc<Notify>) {
    let (sent, left) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (count, gone) = (Arc::clone(&sent), Arc::clone(&left));
    let piece = Arc::new(piece);
    let server = Server::with("127.0.0.1", move |_, mut wire| {
        let (count, gone, piece) = (Arc::clone(&count), Arc::clone(&gone), Arc::clone(&piece));
        async move {
            let _ = wire.write_all(head).await;
            while wire.write_all(&piece).await.is_ok() {
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            gone.notify_one();
        }
    })
    .await;
    (server, sent, left)
}

async fn is_cut(head: &'static [u8], piece: Vec<u8>, code: &str) {
    let (server, sent, left) = endless(head, piece).await;
    fails(&args(&server.url("/")), "Abort", code, "1048576 bytes (`max_response`)").await;
    left.notified().await;
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < BUFFERS, "the server could send {sent} bytes");
}

#[tokio::test]
async fn an_answer_of_ten_gigabytes_is_cut() {
    let declared = b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n";
    is_cut(declared, vec![b'x'; 65536], "http/too_large").await;
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    is_cut(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 65536], "http/too_large").await;
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 65536], b"\r\n"].concat();
    is_cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk, "http/too_large").await;
}

#[tokio::test]
async fn a_compressed_answer_that_unpacks_to_nothing_for_ever_is_cut() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff";
    // A stored block of no bytes, which is not the last one.
    is_cut(head, b"\0\0\0\xff\xff".repeat(13_000), "http/too_large").await;
}

#[tokio::test]
async fn a_bomb_does_not_explode() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    (0..64).for_each(|_| encoder.write_all(&[0; 1024 * 1024]).unwrap());
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 1024 * 1024);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    let server = Server::saying([head.as_bytes(), &bomb].concat()).await;

    fails(&args(&server.url("/")), "Abort", "http/too_large", "1048576 bytes (`max_response`)").await;
}

#[tokio::test]
async fn endless_headers_are_cut() {
    let (server, sent, left) = endless(b"HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(1000)).await;
    fails(&args(&server.url("/")), "Retry", "http/no_answer", "no answer from").await;
    left.notified().await;
    assert!(sent.load(Ordering::Relaxed) < BUFFERS);
}

#[tokio::test]
async fn the_bound_itself_is_not_too_large() {
    let server = Server::saying(answer("200 OK", &[], "12345678")).await;
    let fits = json!({"max_response": 8, "max_output": 3});
    assert_eq!(output(&args_with(&server.url("/"), fits)).await["body"], "123");
    let short = json!({"max_response": 7});
    fails(&args_with(&server.url("/"), short), "Abort", "http/too_large", "more than 7 bytes").await;
}

#[tokio::test]
async fn a_server_that_lies_about_its_length_is_found_out() {
    let short = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort").await;
    fails(&args(&short.url("/")), "Retry", "http/cut_short", "ended early").await;
    let chunks = Server::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n").await;
    fails(&args(&chunks.url("/")), "Retry", "http/cut_short", "ended early").await;
    let long = Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nlonger").await;
    assert_eq!(output(&args(&long.url("/"))).await["body"], "lon");
    let both =
        Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 6\r\n\r\nlonger").await;
    fails(&args(&both.url("/")), "Retry", "http/no_answer", "no answer from").await;
}

#[tokio::test]
async fn a_damaged_or_unknown_encoding_is_an_error() {
    let cases: [(&[u8], &str); 4] = [
        (b"Content-Encoding: gzip\r\n\r\nno gzip at all", "its gzip is damaged"),
        (b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff", "its gzip is damaged"),
        (b"Content-Encoding: br\r\n\r\nx", "another way than the accepted one"),
        (b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\nx", "another way"),
    ];
    for (rest, part) in cases {
        let server = Server::saying([b"HTTP/1.1 200 OK\r\n", rest].concat()).await;
        fails(&args(&server.url("/")), "Retry", "http/bad_encoding", part).await;
    }
}

/// Sends `head`, then whatever `drip` says, at its pace, until the client has left.
async fn dripping(head: &'static str, drip: &'static str) -> Server {
    Server::with("127.0.0.1", move |_, mut wire| async move {
        let _ = wire.write_all(head.as_bytes()).await;
        if drip.is_empty() {
            let _ = wire.read(&mut [0; 1]).await;
        }
        while wire.write_all(drip.as_bytes()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let limits = || json!({"idle_timeout": "50ms"});
    for head in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"] {
        let server = dripping(head, "").await;
        let args = args_with(&server.url("/"), limits());
        fails(&args, "Retry", "http/timed_out", "sent nothing for 50ms (`idle_timeout`)").await;
    }
}

#[tokio::test]
async fn a_server_that_drips_is_left_when_the_whole_takes_too_long() {
    let drips: [(&str, Value); 2] = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
            json!({"timeout": "100ms", "max_response": 200_000_000}),
        ),
        ("HTTP/1.1 200 OK\r\nx-drip: ", json!({"timeout": "100ms"})),
    ];
    for (head, limits) in drips {
        let server = dripping(head, "x").await;
        let args = args_with(&server.url("/"), limits);
        fails(&args, "Retry", "http/timed_out", "within 100ms (`timeout`)").await;
    }
}
