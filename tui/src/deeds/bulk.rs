//! One verb to many runs: prepare, confirm the number, abort.

use super::flow::runs;
use super::{Deed, Preview};
use crate::event::{Act, BulkAct};
use crate::form::{Arg, Form, Kind};
use crate::subject::{Needs, Offer, Subject, Target, is_open};
use serde_json::Value;
use tenure_client::{
    AbortBulk, AllowedAction, BulkOperation, BulkStatus, ConfirmBulk, PrepareBulk, Role, Whoami,
};

/// The verb that begins.
pub(crate) const CONFIRM: &str = "confirm";
const ABORT: &str = "abort";
const PACE: &str = "pace";
const STOP_AFTER: &str = "stop_after";
/// Runs per second where nothing else is said.
const PACE_BEGIN: i64 = 10;

/// A verb of the server's to all runs that pass a filter.
pub(crate) fn offer(action: &AllowedAction, filter: &str) -> Offer {
    let title = format!("all runs of {filter}");
    let subject = Subject::new(Target::Many(filter.to_owned()), title);
    let mut offer = Offer::of_server(action, &subject, None);
    offer.form.dry_run = false;
    offer.form.args.extend([
        Arg::needed(PACE, Kind::Number(1)).begins(PACE_BEGIN),
        Arg::optional(STOP_AFTER, Kind::Number(1)),
    ]);
    offer
}

/// What can be done to an operation. Which role that needs depends on its verb, so the server says.
pub(crate) fn offers(who: &Whoami, bulk: &BulkOperation) -> Vec<Offer> {
    let title = format!("{} to {}", bulk.verb, runs(i64::from(bulk.selected)));
    let subject = Subject::new(Target::Bulk(Box::new(bulk.clone())), title);
    let number = Kind::Exactly(bulk.selected.to_string());
    let confirm = Form {
        because: bulk.reason.clone(),
        ..Form::new(
            CONFIRM,
            "Confirms how many runs it acts on, and begins.",
            vec![Arg::needed("runs", number)],
        )
    };
    let abort = Form::new(
        ABORT,
        "Ends it before its time. What was done stays done; the rest is left alone.",
        Vec::new(),
    );
    let needs = Needs::role(Role::Support);
    let prepared = bulk.status == BulkStatus::Prepared;
    vec![
        Offer::of_role(confirm, &subject, who, needs)
            .unless(!prepared, "it was confirmed or ended"),
        Offer::of_role(abort, &subject, who, needs).unless(!is_open(bulk.status), "it has ended"),
    ]
}

pub(super) fn prepare(deed: &Deed<'_>, filter: &str) -> Result<Act, String> {
    let mut args = deed.values.0.clone();
    args.remove(PACE);
    args.remove(STOP_AFTER);
    Ok(Act::Bulk(BulkAct::Prepare(Box::new(PrepareBulk {
        filter: filter.to_owned(),
        verb: deed.verb.to_owned(),
        args: serde_json::from_value(Value::Object(args)).map_err(|_| deed.unknown())?,
        reason: deed.why(),
        pace: deed.values.number(PACE)?.ok_or("pace: it is needed")?,
        stop_after: deed.values.number(STOP_AFTER)?,
    }))))
}

pub(super) fn act(deed: &Deed<'_>, bulk: &BulkOperation) -> Result<Act, String> {
    let (id, reason) = (bulk.bulk_operation_id, deed.why());
    Ok(Act::Bulk(match deed.verb {
        CONFIRM => {
            let typed = deed.values.text("runs").parse();
            let runs = typed.map_err(|_| "runs: not a number")?;
            BulkAct::Confirm(id, ConfirmBulk { runs, reason })
        }
        ABORT => BulkAct::Abort(id, AbortBulk { reason }),
        _ => return Err(deed.unknown()),
    }))
}

pub(super) fn preview_prepare(deed: &Deed<'_>, filter: &str) -> Preview {
    Preview::words([
        format!("The server freezes the runs that pass {filter} at that moment, and counts them."),
        format!(
            "Nothing is done to them: {} begins when you confirm their number.",
            deed.verb
        ),
    ])
}

pub(super) fn preview(deed: &Deed<'_>, bulk: &BulkOperation) -> Preview {
    let left = i64::from(bulk.selected) - bulk.done - bulk.moved - bulk.refused;
    if deed.verb == ABORT {
        return Preview::words([
            format!("What was done to {} stays done.", runs(bulk.done)),
            format!("{} are left alone.", runs(left)),
        ]);
    }
    let seconds = left / i64::from(bulk.pace.max(1)) + 1;
    let mut effects = vec![
        format!(
            "{} is done to {}, {} a second, oldest first: about {seconds} s.",
            bulk.verb,
            runs(left),
            bulk.pace
        ),
        "Runs that have moved on since they were selected are left alone.".to_owned(),
    ];
    effects.extend(
        bulk.stop_after
            .map(|count| format!("It stops when {} have refused.", runs(i64::from(count)))),
    );
    Preview::words(effects)
}
