//! Every event shape ever released decodes for ever (law C2 of the codec).
//!
//! Each file in `golden/` holds one event as it was stored, and the data it has in today's shape. A new schema number
//! adds a file; none is ever changed or removed.
#![expect(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use shared::event::{EncodedEvents, codec};

/// Every pair of type and schema number that was ever written.
const RELEASED: [(&str, u16); 8] = [
    ("AccountOpened", 1),
    ("AccountOpened", 2),
    ("MoneyDeposited", 1),
    ("MoneyWithdrawn", 1),
    ("TransferSent", 1),
    ("TransferReceived", 1),
    ("OwnerRenamed", 1),
    ("AccountClosed", 1),
];

fn golden_file(type_name: &str, schema: u16) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{type_name}.{schema}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn stored(events: &Value) -> EncodedEvents {
    EncodedEvents { count: 1, json: Bytes::from(serde_json::to_vec(events).unwrap()) }
}

#[test]
fn every_released_shape_decodes_to_todays_event_and_back() {
    for (type_name, schema) in RELEASED {
        let golden = golden_file(type_name, schema);
        let events = codec::decode(&stored(&golden["stored"])).unwrap();
        let written: Value = serde_json::from_slice(&codec::encode(&events).json).unwrap();
        assert_eq!(written[0]["data"], golden["today"], "{type_name} {schema}");
        for field in ["id", "type", "time"] {
            assert_eq!(written[0][field], golden["stored"][0][field], "{type_name} {schema} {field}");
        }
        assert_eq!(codec::decode(&codec::encode(&events)).unwrap(), events);
    }
}

#[test]
fn the_golden_folder_holds_exactly_the_released_shapes_and_todays_are_among_them() {
    let folder = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")).unwrap();
    let found: BTreeSet<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let released = RELEASED.iter().map(|(type_name, schema)| format!("{type_name}.{schema}.json"));
    assert_eq!(found, released.collect());
    for (type_name, schema) in RELEASED {
        let event = &codec::decode(&stored(&golden_file(type_name, schema)["stored"])).unwrap()[0].event;
        assert!(RELEASED.contains(&(event.type_name(), event.schema())), "today's {type_name} has no golden file");
    }
}

#[test]
fn unknown_shapes_are_named_and_never_guessed() {
    for (type_name, schema) in [("MoneyDeposited", 2), ("MoneyMinted", 1), ("AccountOpened", 0)] {
        let mut events = golden_file("MoneyDeposited", 1)["stored"].clone();
        events[0]["type"] = json!(type_name);
        events[0]["schema"] = json!(schema);
        let error = codec::decode(&stored(&events)).unwrap_err().to_string();
        assert!(error.contains(type_name) && error.contains(&schema.to_string()), "{error}");
    }
}

#[test]
fn a_count_that_differs_and_money_that_is_no_amount_are_refused() {
    let golden = golden_file("MoneyDeposited", 1);
    let two = EncodedEvents { count: 2, ..stored(&golden["stored"]) };
    assert!(codec::decode(&two).unwrap_err().to_string().contains("1 events found, 2 expected"));
    for amount in [json!(0), json!(-5), json!(1.5), json!("5"), json!(9_007_199_254_740_992_i64)] {
        let mut events = golden["stored"].clone();
        events[0]["data"]["amount"] = amount;
        assert!(codec::decode(&stored(&events)).is_err());
    }
}
