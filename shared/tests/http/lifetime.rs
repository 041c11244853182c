//! Connections and requests begin, take their time, and end.

use std::pin::pin;
use std::time::Duration;

use shared::http::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{ask, exchange, read_answer};
use crate::server::{PATIENT, SHORT, with_server};

/// How long to wait before there is certainly no answer: far longer than an answer takes.
const UNANSWERED: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_header_that_never_ends_is_cut_off() {
    with_server(SHORT, async |server| {
        let answer = exchange(server.address, "GET /list HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        assert_ne!(answer.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_stay() {
    with_server(SHORT, async |server| {
        assert_eq!(exchange(server.address, "").await.status, 0);
    })
    .await;
}

#[tokio::test]
async fn a_header_above_the_limit_is_refused() {
    with_server(PATIENT, async |server| {
        let request = format!("GET /list HTTP/1.1\r\nhost: x\r\nx-big: {}\r\n\r\n", "a".repeat(100_000));
        assert_ne!(exchange(server.address, request).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn what_no_handler_answers_is_a_problem_too() {
    with_server(PATIENT, async |server| {
        assert_eq!(ask(server.address, "GET", "/nowhere").await.code(), "route_not_found");
        let wrong = ask(server.address, "DELETE", "/order").await;
        assert_eq!(wrong.code(), "method_not_allowed");
        assert!(wrong.head.contains("allow: post"), "{}", wrong.head);
        assert!(wrong.body.contains("; /openapi.json lists all paths"), "{}", wrong.body);
        assert_eq!(ask(server.address, "BREW", "/order").await.status, 405);
    })
    .await;
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    with_server(PATIENT, async |server| {
        for _ in 0..3 {
            assert_eq!(ask(server.address, "GET", "/panic").await.code(), "internal");
        }
        assert_eq!(ask(server.address, "POST", "/panic").await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_hangs_is_given_up_and_the_client_learns_what_that_means() {
    with_server(SHORT, async |server| {
        let read = ask(server.address, "GET", "/stuck").await;
        assert_eq!((read.status, read.code().as_str()), (503, "unavailable"));
        let write = ask(server.address, "POST", "/stuck").await;
        assert_eq!((write.status, write.code().as_str()), (503, "outcome_unknown"));
        assert!(read.head.contains("retry-after: 1"), "{}", read.head);
        assert!(!write.head.contains("retry-after"), "a repeat could do it twice: {}", write.head);
    })
    .await;
}

#[tokio::test]
async fn a_get_that_takes_effect_is_not_called_harmless_when_it_hangs() {
    with_server(SHORT, async |server| {
        let order = ask(server.address, "GET", "/stuck-order").await;
        assert_eq!((order.status, order.code().as_str()), (503, "outcome_unknown"));
        assert!(!order.head.contains("retry-after"), "a repeat could do it twice: {}", order.head);
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_waits_on_purpose_has_the_time_it_asked_for() {
    with_server(SHORT, async |server| {
        assert_eq!(ask(server.address, "GET", "/patient").await.body, "waited");
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_begun_is_answered_at_shutdown() {
    with_server(PATIENT, async |server| {
        let held = ask(server.address, "GET", "/held");
        let stop = async {
            server.begun.notified().await;
            server.shutdown.cancel();
            server.release.notify_one();
        };
        let (answer, ()) = tokio::join!(held, stop);
        assert_eq!(answer.body, "finished");
    })
    .await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    with_server(Limits { drain: Duration::from_millis(200), ..PATIENT }, async |server| {
        let mut stuck = TcpStream::connect(server.address).await.unwrap();
        stuck.write_all(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        server.begun.notified().await;
        server.shutdown.cancel();
        assert_eq!(read_answer(&mut stuck).await.status, 0);
    })
    .await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_its_turn() {
    with_server(Limits { connections: 1, ..PATIENT }, async |server| {
        let idle = TcpStream::connect(server.address).await.unwrap();
        let mut second = pin!(ask(server.address, "GET", "/list"));
        assert!(timeout(UNANSWERED, second.as_mut()).await.is_err(), "answered beyond the limit");
        drop(idle);
        assert_eq!(second.await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_does_not_keep_its_place() {
    with_server(Limits { connections: 1, ..SHORT }, async |server| {
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        idle.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(ask(server.address, "GET", "/list").await.status, 200);
        drop(idle);
    })
    .await;
}
