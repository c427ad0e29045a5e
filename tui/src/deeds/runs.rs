//! Verbs on a run, as the server describes them. Nothing here knows a verb but `signal` and `reveal`, which
//! have paths of their own.

use super::Deed;
use crate::event::Act;
use serde_json::Value;
use tenure_client::ActOnRun;
use uuid::Uuid;

/// The verb that puts a message into the run's inbox.
pub(crate) const SIGNAL: &str = "signal";
/// The verb that shows a private field.
pub(crate) const REVEAL: &str = "reveal";
/// The verb that tries again.
pub(crate) const RETRY: &str = "retry";

pub(super) fn act(
    deed: &Deed<'_>,
    run_id: Uuid,
    revision: i64,
    dry_run: bool,
) -> Result<Act, String> {
    if deed.verb == SIGNAL {
        return Ok(Act::Signal {
            run_id,
            signal: deed.values.json(SIGNAL).unwrap_or_default(),
            reason: deed.why(),
        });
    }
    if deed.verb == REVEAL {
        return Ok(Act::Reveal {
            run_id,
            field: deed.values.text("field"),
            reason: deed.why(),
        });
    }
    let args = Value::Object(deed.values.0.clone());
    Ok(Act::Verb {
        run_id,
        verb: deed.verb.to_owned(),
        body: Box::new(ActOnRun {
            reason: deed.why(),
            revision,
            dry_run,
            args: serde_json::from_value(args).map_err(|_| deed.unknown())?,
        }),
    })
}
