//! How states of older versions are lifted. Pure.

use serde_json::{Map, Value, json};

/// Version 1 knew one price, and a wish to end as a flag.
pub(super) fn from_1(state: Value) -> Result<Value, String> {
    let Value::Object(variants) = state else {
        return Err("a state is an object".to_owned());
    };
    let (name, data) = variants.into_iter().next().ok_or("a state has a name")?;
    let Value::Object(mut data) = data else {
        return Err(format!("{name} holds no object"));
    };
    let terms = match data.remove("terms") {
        Some(Value::Object(terms)) => lift_terms(terms)?,
        _ => return Err(format!("{name} holds no terms")),
    };
    if let Some(Value::Bool(true)) = data.remove("cancelled") {
        let end = match data.get("period") {
            Some(period) => period["end"].clone(),
            None => terms["trial_ends_at"].clone(),
        };
        let cancel =
            json!({"act": {"cancel": {"credit": "none"}}, "when": "period_end", "at": end});
        data.insert("intents".to_owned(), json!([cancel]));
    }
    data.insert("terms".to_owned(), terms);
    Ok(json!({ name: data }))
}

fn lift_terms(mut terms: Map<String, Value>) -> Result<Value, String> {
    let price = terms.remove("price").ok_or("the terms hold no price")?;
    let plan = terms.remove("plan").unwrap_or_else(|| json!(""));
    let item = json!({
        "item": super::terms::PLAN,
        "name": terms.get("plan_name").cloned().unwrap_or_default(),
        "unit_price": price["amount"],
        "quantity": 1,
    });
    terms.insert("currency".to_owned(), price["currency"].clone());
    terms.insert("plan".to_owned(), plan);
    terms.insert("plan_version".to_owned(), json!(1));
    terms.insert("billing".to_owned(), json!("in_advance"));
    terms.insert("proration".to_owned(), json!("day"));
    terms.insert("items".to_owned(), json!([item]));
    Ok(Value::Object(terms))
}
