//! A certificate holds as it was signed, and in no other way.

use serde_json::{Value, json};

use super::*;

fn chain(bodies: Vec<Value>) -> Vec<Record> {
    let mut before = ROOT.to_owned();
    (1..)
        .zip(bodies)
        .map(|(seq, body)| {
            before = link(&before, &body);
            Record {
                seq,
                body,
                hash: before.clone(),
            }
        })
        .collect()
}

fn table(name: &str, erased: i64) -> Table {
    Table {
        realm: "product".to_owned(),
        name: name.to_owned(),
        action: "delete".to_owned(),
        found: erased,
        erased,
        masked: 0,
        kept: 0,
        basis: None,
    }
}

fn done(table: &Table) -> Value {
    let mut body = json!(table);
    body["kind"] = json!("table");
    body["at"] = json!("2027-03-16T09:05:00Z");
    body
}

async fn signed(key: &LocalSigningKey) -> Certificate {
    let tables = [table("work.task", 7), table("work.org", 1)];
    let records = chain(vec![
        json!({ "kind": "approved", "by": "grace" }),
        done(&tables[0]),
        done(&tables[1]),
    ]);
    let facts = json!({ "deletion_id": "d1", "subject": "a1" });
    sign(document(facts, &tables, &records), key).await.unwrap()
}

fn text(certificate: &Certificate) -> String {
    serde_json::to_string_pretty(certificate).unwrap()
}

#[tokio::test]
async fn a_certificate_holds_until_anything_in_it_is_another() {
    let secret = LocalSigningKey::generate("2027").unwrap();
    let key = LocalSigningKey::parse(&secret).unwrap();
    let public = PublicKey::parse(&key.public().to_string()).unwrap();
    let certificate = signed(&key).await;
    let held = verify(&text(&certificate), &public).unwrap();
    assert_eq!(
        (held.deletion.as_str(), held.subject.as_str()),
        ("d1", "a1")
    );
    assert_eq!(held.records, 3);
    assert_eq!(held.tables[0].erased, 7);

    for place in ["subject", "chain", "tables", "records"] {
        let mut changed = certificate.clone();
        changed.document[place] = json!("another");
        assert_eq!(
            verify(&text(&changed), &public),
            Err(Broken::Signature),
            "{place}"
        );
    }
    let other = LocalSigningKey::generate("2027").unwrap();
    let other = LocalSigningKey::parse(&other).unwrap().public();
    assert_eq!(verify(&text(&certificate), &other), Err(Broken::Signature));
    let named = LocalSigningKey::generate("2028").unwrap();
    let named = LocalSigningKey::parse(&named).unwrap().public();
    assert!(matches!(
        verify(&text(&certificate), &named),
        Err(Broken::OtherKey { .. })
    ));
    assert!(matches!(verify("{}", &public), Err(Broken::Unreadable(_))));
}

type Change = fn(&mut Value);

#[tokio::test]
async fn even_who_holds_the_key_cannot_sign_a_chain_that_breaks_or_counts_that_differ() {
    let secret = LocalSigningKey::generate("2027").unwrap();
    let key = LocalSigningKey::parse(&secret).unwrap();
    let good = signed(&key).await.document;
    let changes: [(&str, Change, Broken); 5] = [
        (
            "a body",
            |it| it["records"][1]["body"]["erased"] = json!(6),
            Broken::Chain(2),
        ),
        (
            "a record is taken out",
            |it| drop(it["records"].as_array_mut().unwrap().remove(0)),
            Broken::Chain(1),
        ),
        ("the end", |it| it["chain"] = json!(ROOT), Broken::Chain(3)),
        (
            "a count",
            |it| it["tables"][0]["erased"] = json!(8),
            Broken::Table("work.task".to_owned()),
        ),
        (
            "a table is left out",
            |it| drop(it["tables"].as_array_mut().unwrap().pop()),
            Broken::Table("work.org".to_owned()),
        ),
    ];
    for (what, change, expected) in changes {
        let mut document = good.clone();
        change(&mut document);
        let certificate = sign(document, &key).await.unwrap();
        assert_eq!(
            verify(&text(&certificate), &key.public()),
            Err(expected),
            "{what}"
        );
    }
}

#[test]
fn canonical_bytes_do_not_hang_on_the_order_or_the_space() {
    let one: Value =
        serde_json::from_str(r#"{"b": [1, {"z": null, "a": "é\n"}], "a": true}"#).unwrap();
    let other: Value = serde_json::from_str(r#"{"a":true,"b":[1,{"a":"é\n","z":null}]}"#).unwrap();
    assert_eq!(
        canonical(&one),
        r#"{"a":true,"b":[1,{"a":"é\n","z":null}]}"#
    );
    assert_eq!(canonical(&one), canonical(&other));
    assert_eq!(link(ROOT, &one), link(ROOT, &other));
    assert_ne!(link(ROOT, &one), link(&link(ROOT, &one), &one));
}

#[test]
fn what_is_no_key_is_refused_and_not_shown() {
    for (text, says) in [
        ("", "the signing key is no name:key"),
        ("c2VjcmV0", "the signing key is no name:key"),
        ("a b:AAAA", "the name of the signing key"),
        ("a:c2VjcmV0", "the signing key \"a\" is not 32 bytes"),
    ] {
        let error = LocalSigningKey::parse(text).unwrap_err();
        assert!(error.starts_with(says), "{text:?}: {error}");
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
}
