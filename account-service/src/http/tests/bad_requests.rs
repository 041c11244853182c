//! Thousands of requests that are wrong in one way each: all are refused in the same form, and none leaves a trace.

use axum::body::Body;
use axum::http::Request;
use shared::coordinate::Version;

use super::Http;

/// Values that are no amount of money, as they stand in JSON.
const NOT_MONEY: &[&str] = &[
    "-1",
    "-0",
    "0.0",
    "1.0",
    "1.5",
    "0.1",
    "1e2",
    "1E2",
    "1e400",
    "-1e2",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "340282366920938463463374607431768211456",
    "\"100\"",
    "\"\"",
    "\"abc\"",
    "null",
    "true",
    "false",
    "[]",
    "[1]",
    "{}",
    "{\"a\":1}",
    "1_000",
    "0x10",
    "+1",
    "01",
    ".5",
    "1.",
    "NaN",
    "Infinity",
    "-Infinity",
    "--1",
    "1 2",
    "\"1e2\"",
    "٣",
    "１",
    "1,5",
    "1;",
];

const NOT_IDS: &[&str] = &[
    "\"\"",
    "\"1\"",
    "\"not-an-id\"",
    "1",
    "null",
    "true",
    "[]",
    "{}",
    "\"0198c1a27f0070008000000000000001\"",
    "\"{0198c1a2-7f00-7000-8000-000000000001}\"",
    "\"urn:uuid:0198c1a2-7f00-7000-8000-000000000001\"",
    "\"0198c1a2-7f00-7000-8000-00000000000g\"",
    "\"0198c1a2-7f00-7000-8000-0000000000011\"",
    "\" 0198c1a2-7f00-7000-8000-000000000001\"",
    "\"../../etc/passwd\"",
    "\"' OR 1=1 --\"",
    "\"\\u0000\"",
];

const NOT_OWNERS: &[&str] = &[
    "\"\"",
    "\" \"",
    "\"\\u00a0\"",
    "\"a\\u0000b\"",
    "\"a\\nb\"",
    "\"a\\r\\nb\"",
    "\"\\u202eabc\"",
    "\"a\\u2066b\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "1",
    "null",
    "true",
    "[]",
    "{}",
    "[\"Paulo\"]",
    "\"a\\u007f\"",
    "\"a\\u0085b\"",
    "\"a\\u2028b\"",
    "\"a\\u061cb\"",
    "\"tab\\there\"",
];

const NOT_CURRENCIES: &[&str] =
    &["\"eur\"", "\"EURO\"", "\"XXQ\"", "\"\"", "\"E\"", "1", "null", "[]", "\"€\"", "true"];

/// Texts that are no JSON object of any command.
const NOT_BODIES: &[&str] = &[
    "",
    " ",
    "null",
    "1",
    "\"text\"",
    "true",
    "[]",
    "[{}]",
    "{",
    "}",
    "{}}",
    "{\"",
    "{\"money\"}",
    "{\"money\":}",
    "{money:1}",
    "{'money':1}",
    "{\"money\":1,}",
    "<xml/>",
    "money=1",
    "\u{feff}{}",
    "{\"a\":1}{\"b\":2}",
    "// {}",
    "\0",
    "{\"money\":1 /* much */}",
    "undefined",
];

/// A route, its fields with values that are right, and how the fields may be wrong.
struct Route {
    method: &'static str,
    path: String,
    fields: Vec<(&'static str, String, &'static [&'static str])>,
}

fn routes(account: &str, other: &str) -> Vec<Route> {
    let (account_json, other_json) = (format!("\"{account}\""), format!("\"{other}\""));
    let money = ("money", "1".to_owned(), NOT_MONEY);
    let owner = ("owner", "\"Paulo\"".to_owned(), NOT_OWNERS);
    let open = |path: &str| Route {
        method: "POST",
        path: path.to_owned(),
        fields: vec![
            owner.clone(),
            money.clone(),
            ("currency", "\"EUR\"".to_owned(), NOT_CURRENCIES),
            ("overdraft_limit", "0".to_owned(), NOT_MONEY),
        ],
    };
    let one_sided = |path: &str| Route {
        method: "POST",
        path: path.to_owned(),
        fields: vec![("id", account_json.clone(), NOT_IDS), money.clone()],
    };
    let two_sided = |path: &str, wrong: &'static [&'static str]| Route {
        method: "POST",
        path: path.to_owned(),
        fields: vec![("from", account_json.clone(), wrong), ("to", other_json.clone(), wrong), money.clone()],
    };
    // Where a side may be empty or null, these are not wrong.
    let not_sides: &'static [&'static str] = &NOT_IDS[5..];
    vec![
        open("/create"),
        open("/accounts"),
        one_sided("/deposit"),
        one_sided("/withdraw"),
        two_sided("/transfer", NOT_IDS),
        two_sided("/transactions", not_sides),
        Route { method: "PATCH", path: format!("/accounts/{account}"), fields: vec![owner.clone()] },
    ]
}

impl Route {
    /// The body with some of its fields written in another way.
    fn body(&self, changed: &[(&str, String)]) -> String {
        let written = |(name, right, _): &(&'static str, String, _)| {
            let change = changed.iter().find(|(field, _)| field == name);
            change.map_or_else(|| format!("\"{name}\":{right}"), |(_, text)| text.clone())
        };
        format!("{{{}}}", self.fields.iter().map(written).collect::<Vec<_>>().join(","))
    }

    /// Bodies that are wrong in one way each.
    fn wrong_bodies(&self) -> Vec<String> {
        let mut bodies: Vec<String> = NOT_BODIES.iter().map(|&text| text.to_owned()).collect();
        for (name, right, wrongs) in &self.fields {
            bodies.extend(wrongs.iter().map(|wrong| self.body(&[(name, format!("\"{name}\":{wrong}"))])));
            bodies.push(self.body(&[(name, format!("\"{name}\":{right},\"{name}\":{right}"))]));
            for twisted in [name.to_uppercase(), format!("{name} "), format!("_{name}")] {
                bodies.push(self.body(&[(name, format!("\"{twisted}\":{right}"))]));
            }
        }
        let right = self.body(&[]);
        let inner = &right[1..right.len() - 1];
        for extra in ["\"x\":1", "\"__proto__\":{}", "\"version\":1", "\"\":null", "\"total\":1000000"] {
            bodies.push(format!("{{{inner},{extra}}}"));
            bodies.push(format!("{{{extra},{inner}}}"));
        }
        let values: Vec<&str> = self.fields.iter().map(|(_, value, _)| value.as_str()).collect();
        bodies.push(format!("[{}]", values.join(",")));
        // Broken off anywhere, and with something behind it.
        bodies.extend((1..right.len()).map(|end| right[..end].to_owned()));
        bodies.extend(["x", "{}", "]", "\0", ",", "null"].map(|rest| format!("{right}{rest}")));
        bodies.push("[".repeat(10_000));
        bodies.push(format!("{{\"money\":{}1{}}}", "[".repeat(200), "]".repeat(200)));
        bodies.push(format!("{{\"owner\":\"{}\"}}", "x".repeat(60_000)));
        bodies
    }

    /// Bodies with two wrong fields, in every combination.
    fn twice_wrong_bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for pair in self.fields.windows(2) {
            let [(first, _, firsts), (second, _, seconds)] = pair else { continue };
            for one in *firsts {
                let other = |other: &&str| format!("\"{second}\":{other}");
                let both = |other| self.body(&[(first, format!("\"{first}\":{one}")), (second, other)]);
                bodies.extend(seconds.iter().map(other).map(both));
            }
        }
        bodies
    }
}

async fn assert_refused(http: &Http, request: Request<Body>, what: &str) -> u16 {
    let reply = http.send(request).await;
    let status = reply.status.as_u16();
    assert!((400..500).contains(&status), "{what} was answered with {status}: {}", reply.body);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{what}");
    assert_eq!(reply.body["status"], status, "{what}");
    for member in ["type", "title", "detail", "code"] {
        assert!(reply.body[member].is_string(), "{what}: {member} is missing");
    }
    status
}

fn json_request(path: &str, route: &Route) -> axum::http::request::Builder {
    Request::builder().method(route.method).uri(path).header("content-type", "application/json")
}

#[tokio::test]
async fn thousands_of_bad_requests_are_refused_as_problems_and_leave_no_event() {
    let http = Http::new();
    let account = http.create(r#"{"owner":"Paulo","money":1000}"#).await;
    let other = http.create(r#"{"owner":"Ana","money":1000}"#).await;
    let before = http.bank.events().await;
    let mut asked = 0_usize;
    for route in routes(&account, &other) {
        for body in route.wrong_bodies().into_iter().chain(route.twice_wrong_bodies()) {
            let shown: String = body.chars().take(200).collect();
            let what = format!("{} {} {shown}", route.method, route.path);
            let request = json_request(&route.path, &route).body(Body::from(body)).unwrap();
            assert_eq!(assert_refused(&http, request, &what).await, 400, "{what}");
            asked += 1;
        }
        for query in ["?money=1", "?x", "?=", "?owner=Paulo&owner=Paulo", "?%ff=1"] {
            let path = format!("{}{query}", route.path);
            let request = json_request(&path, &route).body(Body::from(route.body(&[]))).unwrap();
            assert_eq!(assert_refused(&http, request, &path).await, 400, "{path}");
            asked += 1;
        }
        asked += wrong_headers(&http, &route).await;
        asked += wrong_bytes(&http, &route).await;
    }
    asked += wrong_paths(&http, &account).await;
    assert!(asked >= 5_000, "only {asked} requests were made");
    assert_eq!(http.bank.events().await, before, "a refused request left an event behind");
    let account = account.parse().unwrap();
    assert_eq!(http.bank.version(account).await, Version::new(1));
}

async fn wrong_headers(http: &Http, route: &Route) -> usize {
    let long = "k".repeat(256);
    let mut wrong: Vec<(&str, &str)> = vec![
        ("idempotency-key", ""),
        ("idempotency-key", "two words"),
        ("idempotency-key", &long),
        ("idempotency-key", "tab\there"),
        ("if-match", ""),
        ("if-match", "1"),
        ("if-match", "\"\""),
        ("if-match", "\"one\""),
        ("if-match", "\"-1\""),
        ("if-match", "W/\"1\""),
        ("if-match", "\"1\", \"2\""),
        ("if-match", "\"99999999999999999999\""),
        ("if-match", "\"7777\""),
    ];
    let types = ["", "text/plain", "application/x-www-form-urlencoded", "application/xml", "application/jsonx", "json"];
    wrong.extend(types.map(|media| ("content-type", media)));
    wrong.push(("content-type", "application/json; charset=latin1"));
    wrong.push(("content-encoding", "gzip"));
    for (name, value) in &wrong {
        let mut request = Request::builder().method(route.method).uri(&route.path).header(*name, *value);
        if *name != "content-type" {
            request = request.header("content-type", "application/json");
        }
        assert_refused(
            http,
            request.body(Body::from(route.body(&[]))).unwrap(),
            &format!("{} {name}: {value}", route.path),
        )
        .await;
    }
    for name in ["idempotency-key", "if-match", "content-type"] {
        let request = json_request(&route.path, route).header(name, "\"1\"").header(name, "\"1\"");
        assert_refused(
            http,
            request.body(Body::from(route.body(&[]))).unwrap(),
            &format!("{} {name} twice", route.path),
        )
        .await;
    }
    wrong.len() + 3
}

/// Every byte of the body in turn replaced by one that UTF-8 never has.
async fn wrong_bytes(http: &Http, route: &Route) -> usize {
    let right = route.body(&[]).into_bytes();
    for place in 0..right.len() {
        let mut bytes = right.clone();
        bytes[place] = 0xff;
        let request = json_request(&route.path, route).body(Body::from(bytes)).unwrap();
        assert_refused(http, request, &format!("{} with a byte 0xff at {place}", route.path)).await;
    }
    let request = json_request(&route.path, route).body(Body::from(vec![b' '; 70_000])).unwrap();
    assert_eq!(assert_refused(http, request, "a body of 70,000 bytes").await, 413);
    right.len() + 1
}

async fn wrong_paths(http: &Http, account: &str) -> usize {
    let ids = ["1", "x", "%00", "%ff", "..%2f..%2fetc", "0198c1a27f0070008000000000000001", "' OR 1=1", "null"];
    let mut asked = 0;
    for id in ids.map(|id| id.replace(' ', "%20")) {
        let paths = [
            ("GET", format!("/{id}")),
            ("GET", format!("/accounts/{id}")),
            ("GET", format!("/accounts/{id}/statement")),
            ("GET", format!("/transactions/{id}")),
            ("POST", format!("/accounts/{id}/close")),
            ("PATCH", format!("/accounts/{id}")),
        ];
        for (method, path) in paths {
            let request = Request::builder().method(method).uri(&path).header("content-type", "application/json");
            let body = Body::from(r#"{"owner":"Eve"}"#);
            let what = format!("{method} {path}");
            assert_eq!(assert_refused(http, request.body(body).unwrap(), &what).await, 400, "{what}");
            asked += 1;
        }
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "POST", "OPTIONS", "TRACE", "BREW"] {
        for path in ["/", "/accounts/a/b/c", "/no/where", &format!("/accounts/{account}/open"), "/balance/x"] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            assert_eq!(assert_refused(http, request, &format!("{method} {path}")).await, 404);
            asked += 1;
        }
        for path in ["/deposit", "/withdraw", "/transfer"] {
            if method != "POST" && method != "GET" {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                assert_eq!(assert_refused(http, request, &format!("{method} {path}")).await, 405);
                asked += 1;
            }
        }
    }
    asked
}
