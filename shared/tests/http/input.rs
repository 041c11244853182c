//! Bodies, paths and queries are accepted as meant, or refused with the place of the mistake.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{ask, exchange, post_json, read_answer};
use crate::server::{PATIENT, SHORT, with_server};

const POST_JSON: &str = "POST /order HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";

#[tokio::test]
async fn a_body_above_the_limit_is_refused_declared_or_not() {
    with_server(PATIENT, async |server| {
        let declared = format!("{POST_JSON}content-length: 10000000\r\n\r\n");
        assert_eq!(exchange(server.address, declared).await.code(), "body_too_large");

        let mut endless = TcpStream::connect(server.address).await.unwrap();
        endless.write_all(format!("{POST_JSON}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
        let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
        for _ in 0..=64 {
            endless.write_all(chunk.as_bytes()).await.unwrap();
        }
        assert_eq!(read_answer(&mut endless).await.code(), "body_too_large");
    })
    .await;
}

#[tokio::test]
async fn a_body_of_just_the_limit_is_read() {
    with_server(PATIENT, async |server| {
        let order = br#"{"money":5}"#;
        let padded = [order.as_slice(), &vec![b' '; PATIENT.body_bytes - order.len()]].concat();
        assert_eq!(post_json(server.address, &padded).await.body, "5 0");
        assert_eq!(post_json(server.address, &[padded.as_slice(), b" "].concat()).await.status, 413);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    with_server(SHORT, async |server| {
        let begun = format!("{POST_JSON}content-length: 50\r\n\r\n{{");
        assert_eq!(exchange(server.address, begun).await.code(), "body_too_slow");
    })
    .await;
}

#[tokio::test]
async fn a_body_is_taken_as_meant_or_refused_under_its_field() {
    with_server(PATIENT, async |server| {
        assert_eq!(post_json(server.address, br#"{"money":5,"lines":[1]}"#).await.body, "5 1");
        for (body, field) in [
            (r#"{"money":5,"color":"red"}"#, "color"),
            (r#"{"money":5,"money":6}"#, "money"),
            (r#"{"lines":[]}"#, "money"),
            (r#"{"money":"5"}"#, "money"),
            (r#"{"money":-5}"#, "money"),
            (r#"{"money":5.5}"#, "money"),
            (r#"{"money":5,"lines":[1,2,300]}"#, "lines[2]"),
            (r#"{"money":5} x"#, ""),
            (r#"{"money":5"#, ""),
            ("7", ""),
            ("[5]", ""),
            (" [5,[1]]", ""),
            ("null", ""),
            ("", ""),
            ("\u{0}", ""),
        ] {
            let answer = post_json(server.address, body.as_bytes()).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "validation_failed"), "{body}");
            assert_eq!(answer.field(), field, "{body}: {}", answer.body);
        }
        assert_eq!(post_json(server.address, &b"[".repeat(60_000)).await.status, 400);
        assert_eq!(post_json(server.address, b"{\"money\":\"\xff\"}").await.status, 400);
    })
    .await;
}

#[tokio::test]
async fn a_refusal_says_what_is_wanted_and_names_no_type_of_the_program() {
    with_server(PATIENT, async |server| {
        for (body, message) in [
            ("null", "must be a JSON object"),
            ("[5]", "must be a JSON object"),
            ("hello", "invalid JSON: expected value at line 1 column 1"),
            ("[5", "invalid JSON: EOF while parsing a list at line 1 column 2"),
            ("\u{feff}{\"money\":5}", "must not begin with a byte order mark: save it as UTF-8 without one"),
            (r#"{"money":5.5}"#, "must be a whole number from 0 to 18446744073709551615"),
            (r#"{"money":5,"lines":7}"#, "must be a list"),
        ] {
            assert_eq!(post_json(server.address, body.as_bytes()).await.message(), message, "{body}");
        }
        for limit in ["x", "-1", "70000", ""] {
            let answer = ask(server.address, "GET", &format!("/list?limit={limit}")).await;
            assert_eq!(answer.message(), "must be a whole number from 0 to 65535", "{limit}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_a_route_does_not_take_is_refused_whatever_it_is() {
    with_server(PATIENT, async |server| {
        for (rest, status) in [
            ("\r\n", 200),
            ("content-length: 0\r\n\r\n", 200),
            ("content-type: text/plain\r\ncontent-length: 0\r\n\r\n", 200),
            ("transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 200),
            ("content-length: 1\r\n\r\nx", 400),
            ("content-type: application/json\r\ncontent-length: 2\r\n\r\n{}", 200),
            ("content-type: application/json\r\ncontent-length: 7\r\n\r\n{\"a\":1}", 400),
            ("transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 400),
        ] {
            let request = format!("POST /bare HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{rest}");
            assert_eq!(exchange(server.address, request).await.status, status, "{rest}");
        }
    })
    .await;
}

#[tokio::test]
async fn only_json_is_taken_for_json() {
    with_server(PATIENT, async |server| {
        for (header, status) in [
            ("content-type: application/json\r\n", 200),
            ("content-type: Application/JSON; charset=UTF-8\r\n", 200),
            ("content-type: application/json\r\ncontent-encoding: Identity\r\n", 200),
            ("content-type: application/json\r\ncontent-encoding: gzip\r\n", 415),
            ("content-type: application/json\r\ncontent-encoding: identity\r\ncontent-encoding: gzip\r\n", 415),
            ("content-type: text/plain\r\n", 415),
            ("content-type: application/json; charset=latin1\r\n", 415),
            ("content-type: application/json\r\ncontent-type: text/plain\r\n", 415),
            ("content-type: \u{fc}\r\n", 415),
            ("", 415),
        ] {
            let request = format!(
                "POST /order HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}content-length: 11\r\n\r\n{{\"money\":5}}"
            );
            assert_eq!(exchange(server.address, request).await.status, status, "{header}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_taken_for_json_is_told_what_to_send_instead() {
    with_server(PATIENT, async |server| {
        for (headers, field, message) in [
            (
                "content-type: application/x-www-form-urlencoded",
                "content-type",
                "must be application/json, once and in UTF-8; curl sends it with --json",
            ),
            (
                "content-type: application/json\r\ncontent-encoding: gzip",
                "content-encoding",
                "must be omitted: send the body uncompressed",
            ),
        ] {
            let request = format!(
                "POST /order HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\ncontent-length: 2\r\n\r\n{{}}"
            );
            let answer = exchange(server.address, request).await;
            assert_eq!(answer.code(), "unsupported_media_type", "{headers}");
            assert_eq!((answer.field().as_str(), answer.message().as_str()), (field, message));
        }
    })
    .await;
}

#[tokio::test]
async fn an_id_in_a_path_has_one_spelling() {
    with_server(PATIENT, async |server| {
        let id = "0198c1a2-7f00-7000-8000-000000000001";
        assert_eq!(ask(server.address, "GET", &format!("/accounts/{id}")).await.body, id);
        for path in ["/accounts/7", "/accounts/%ff", "/accounts/0198c1a27f0070008000000000000001", "/accounts/%00"] {
            let answer = ask(server.address, "GET", path).await;
            assert_eq!((answer.status, answer.field().as_str()), (400, "id"), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_query_is_taken_as_meant_or_refused_under_its_parameter() {
    with_server(PATIENT, async |server| {
        let found = ask(server.address, "GET", "/list?owner=Z%C3%B6e+B%26&limit=7").await;
        assert_eq!(found.body, r#"Some("Zöe B&") Some(7)"#);
        for (query, field) in [
            ("limit=7&limit=8", "limit"),
            ("limit=7&color=red", "color"),
            ("limit=70000", "limit"),
            ("limit=-1", "limit"),
            ("limit=+1", "limit"),
            ("limit=", "limit"),
            ("limit", "limit"),
            ("limit=1e1", "limit"),
            ("owner=%ff", "owner"),
            ("owner=%4", "owner"),
            ("owner=%zz", "owner"),
            ("%ff=1", ""),
        ] {
            let answer = ask(server.address, "GET", &format!("/list?{query}")).await;
            assert_eq!((answer.status, answer.field().as_str()), (400, field), "{query}: {}", answer.body);
        }
    })
    .await;
}
