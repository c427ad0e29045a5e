//! What is done to tenants' data in the product: backfills, placements, deletions, holds, sweeps,
//! restores, exports. When a verb makes sense is told by what the server says of the thing; it checks
//! again.

use super::{Deed, Preview, retention};
use crate::event::{Act, LifeAct, Names};
use crate::form::{Arg, Form, Kind};
use crate::life;
use crate::subject::{Needs, Offer, Subject, Target};
use serde_json::Value;
use tenure_client::{
    ActOnBackfill, ActOnBackfillRange, BackOutPlacement, Backfill, BackfillRange, DataArchive,
    Deletion, DeletionAct, LiftDataHold, MovePlacement, Place, PlaceDataHold, Placement,
    PlacementStatus, RequestDeletion, Role, StartExport, StartRestore, StartSweep, TenancyModel,
    Whoami,
};
use uuid::Uuid;

const ADVANCE: &str = "advance";
const ROLL_OUT: &str = "roll-out";
const BACK: &str = "back";
const RETRY: &str = "retry";
const VERIFY: &str = "verify";
const PAUSE: &str = "pause";
const RESUME: &str = "resume";
const SKIP_RANGE: &str = "skip-range";
const RETRY_RANGE: &str = "retry-range";
const MOVE: &str = "move";
const BACK_OUT: &str = "back-out";
const APPROVE: &str = "approve";
const CANCEL: &str = "cancel";
const ACCEPT: &str = "accept";
const REQUEST: &str = "delete-tenant";
const EXPORT: &str = "start-export";
const SWEEP: &str = "start-sweep";
const HOLD: &str = "hold-data";
const LIFT: &str = "lift-data-hold";
const RESTORE: &str = "restore";
const RESTORE_SWEEP: &str = "restore-sweep";
const OPERATOR: Needs = Needs::all(Role::Operator);
const ADMIN: Needs = Needs::all(Role::Admin);

/// The phases that a backfill goes back to, in order.
const PHASES: [&str; 4] = ["expand", "dual-write", "fill", "verify"];
const MODELS: [TenancyModel; 3] = [
    TenancyModel::Shared,
    TenancyModel::Schema,
    TenancyModel::Database,
];

/// What can be done to a thing.
pub(crate) fn offers(who: &Whoami, target: &Target, names: &Names) -> Vec<Offer> {
    let offers_of = |title: String| Offers {
        who,
        subject: Subject::new(target.clone(), title),
    };
    match target {
        Target::Backfill(of) => on_backfill(&offers_of(of.name.clone()), of),
        Target::Range(_, of) => {
            let title = format!("rows of {}", life::named(names, of.tenant_id));
            on_range(&offers_of(title), of)
        }
        Target::Placement(of) => {
            let title = format!("rows of {}", life::named(names, of.tenant_id));
            on_placement(&offers_of(title), of)
        }
        Target::Deletion(of) => {
            let name = life::named(names, of.tenant_id);
            let mut offers = on_deletion(&offers_of(format!("deletion of {name}")), of);
            if of.ended_at.is_none() {
                let held = Subject::new(Target::Holds, name);
                offers.push(retention::place(who, &held, Some(of.tenant_id), None));
            }
            offers
        }
        Target::DataHold(of) => {
            let form = Form::new(
                LIFT,
                "Lifts the hold: what is past its time goes in the next sweep.",
                Vec::new(),
            );
            vec![offers_of(format!("hold for {}", of.case)).needs(form, OPERATOR)]
        }
        Target::Archive(_, of) => on_archive(&offers_of(format!("archive of {}", of.table)), of),
        _ => Vec::new(),
    }
}

/// What can be done to what the product keeps of a tenant.
pub(crate) fn offers_on_tenant(who: &Whoami, tenant: Uuid, name: &str) -> Vec<Offer> {
    let of = Offers {
        who,
        subject: Subject::new(Target::Data(tenant), name),
    };
    let export = Form::new(
        EXPORT,
        "Puts together all that the product keeps of the tenant. The link is told this once.",
        vec![Arg::needed("link_days", Kind::Number(1)).begins(7)],
    );
    let sweep = Form::new(
        SWEEP,
        "Takes out what is past its time, or only counts it.",
        vec![
            Arg::needed("do", choice(&["count", "sweep"])).begins("count"),
            Arg::optional("as_of", Kind::Time),
        ],
    );
    let hold = Form::new(
        HOLD,
        "Keeps rows of the tenant from being deleted: all, a table's, or those that match.",
        vec![
            Arg::needed("case", Kind::Text),
            Arg::optional("table", Kind::Text),
            Arg::optional("match", Kind::Json),
            Arg::optional("expires_at", Kind::Time),
        ],
    );
    let request = Form {
        dry_run: true,
        ..Form::new(
            REQUEST,
            "Asks for the deletion of the tenant. Nothing is done until another admin approves.",
            vec![
                Arg::needed("cooling_off_days", Kind::Number(0)).begins(14),
                Arg::needed("backup_days", Kind::Number(0)).begins(35),
                Arg::optional("export_link_days", Kind::Number(1)),
                Arg::needed("tenant_name", Kind::Exactly(name.trim().to_owned())),
            ],
        )
    };
    vec![
        of.needs(export, OPERATOR),
        of.needs(sweep, OPERATOR),
        of.needs(hold, OPERATOR),
        of.needs(request, ADMIN),
    ]
}

/// Offers to one thing.
struct Offers<'a> {
    who: &'a Whoami,
    subject: Subject,
}

impl Offers<'_> {
    fn needs(&self, form: Form, needs: Needs) -> Offer {
        Offer::of_role(form, &self.subject, self.who, needs)
    }

    /// The same unless something stands in its way.
    fn unless(&self, form: Form, hindrance: Option<String>) -> Offer {
        let offer = self.needs(form, OPERATOR);
        match hindrance {
            Some(why) => offer.unless(true, &why),
            None => offer,
        }
    }
}

fn choice(words: &[&str]) -> Kind {
    Kind::Choice(words.iter().map(ToString::to_string).collect())
}

fn why(fits: bool, words: &str) -> Option<String> {
    (!fits).then(|| words.to_owned())
}

fn on_backfill(offers: &Offers<'_>, of: &Backfill) -> Vec<Offer> {
    let (phase, status) = (of.phase.as_str(), of.status.as_str());
    let ended = matches!(status, "ended" | "terminated");
    let half = status == "terminated" && matches!(phase, "contract" | "undone" | "done");
    let waits = |phases: &[&str]| status == "waiting" && phases.contains(&phase);
    let switched = (phase, status) == ("switch", "working");
    let asks = |verb: &str, help: &str, args: Vec<Arg>| Form {
        dry_run: true,
        ..Form::new(verb, help, args)
    };
    let into = of.next.as_deref().unwrap_or("its next phase");
    let against = match (&of.next, of.refusals.is_empty()) {
        (None, _) => Some("it waits for nobody's word".to_owned()),
        (Some(_), true) => None,
        (Some(_), false) => Some(of.refusals.join("; ")),
    };
    let rests = waits(&["verify", "switch", "contract"]) || switched || status == "held" || half;
    vec![
        offers.unless(
            asks(ADVANCE, &format!("Lets {into} begin."), Vec::new()),
            against,
        ),
        offers.unless(
            asks(
                ROLL_OUT,
                "Lets so many tenants of a hundred read the new columns.",
                vec![Arg::needed("percent", Kind::Number(0)).begins(of.percent_reading)],
            ),
            why(switched, "reads have not switched"),
        ),
        offers.unless(
            asks(
                PAUSE,
                "Lets its ranges rest after the batch that they are in.",
                Vec::new(),
            ),
            why(!ended, "it has ended").or(why(!of.paused, "it is paused")),
        ),
        offers.unless(
            asks(RESUME, "Lets its ranges go on.", Vec::new()),
            why(!ended, "it has ended").or(why(of.paused, "it is not paused")),
        ),
        offers.unless(
            asks(
                RETRY,
                "Goes on where it was held, or fills again what is wrong or was skipped.",
                Vec::new(),
            ),
            why(rests, "nothing of it is held; a range is retried by itself"),
        ),
        offers.unless(
            asks(VERIFY, "Compares all rows again.", Vec::new()),
            why(
                waits(&["switch", "contract"]) || switched,
                "it does not rest after its fill",
            ),
        ),
        way_back(offers, of),
    ]
}

/// To go back to a phase that lies behind, or to how all was before.
fn way_back(offers: &Offers<'_>, of: &Backfill) -> Offer {
    let here = PHASES.iter().position(|one| *one == of.phase);
    let behind = PHASES
        .iter()
        .take(here.map_or(PHASES.len(), |here| here + 1));
    let to: Vec<&str> = match of.status.as_str() {
        // What a terminated one left is taken away as a whole.
        "terminated" => vec!["undone"],
        _ => behind.copied().chain(["undone"]).collect(),
    };
    let form = Form::new(
        BACK,
        "Goes back to a phase, or to how all was before (undone). Nobody reads the new columns then.",
        vec![Arg::needed("to", choice(&to))],
    );
    let refused = match (of.phase.as_str(), of.status.as_str()) {
        (_, "ended") => Some("there is no way back any more"),
        ("contract", status) if status != "waiting" => Some("there is no way back any more"),
        ("done" | "undone", "terminated") => Some("there is no way back any more"),
        (_, "stopping") => Some("it goes back already"),
        _ => None,
    };
    let form = Form {
        dry_run: true,
        ..form
    };
    offers.unless(form, refused.map(str::to_owned))
}

fn on_range(offers: &Offers<'_>, of: &BackfillRange) -> Vec<Offer> {
    let status = of.status.as_str();
    let is = format!("the range is {status}");
    let held = status == "held";
    let under_way = matches!(status, "held" | "filling" | "throttled" | "paused");
    vec![
        offers.unless(
            Form::new(
                RETRY_RANGE,
                "Goes on with the range where it was held.",
                Vec::new(),
            ),
            why(held && of.run_id.is_some(), &is),
        ),
        offers.unless(
            Form::new(
                SKIP_RANGE,
                "Leaves the range as it is. While rows of it are wrong the contract is refused.",
                Vec::new(),
            ),
            why(under_way && of.run_id.is_some(), &is),
        ),
    ]
}

fn on_placement(offers: &Offers<'_>, of: &Placement) -> Vec<Offer> {
    let models = MODELS.map(TenancyModel::as_str);
    let go = Form::new(
        MOVE,
        "Moves the tenant's rows, while it works, to a place that is there and empty. With SQL that makes the place, `tenure placement move` does it.",
        vec![
            Arg::needed("source", Kind::Text).begins(&of.place.source),
            Arg::needed("model", choice(&models)).begins(of.place.model.as_str()),
            Arg::optional("schema", Kind::Text),
            Arg::optional("database", Kind::Text),
            Arg::needed("key", Kind::Text).begins(&of.place.key),
            Arg::needed("keep_hours", Kind::Number(0)).begins(24),
        ],
    );
    let back = Form::new(
        BACK_OUT,
        "Leaves the tenant where it is, working, and empties the new place.",
        Vec::new(),
    );
    let on_its_way = matches!(of.status, PlacementStatus::Moving | PlacementStatus::Frozen);
    let back_refused = match of.status {
        PlacementStatus::Cleaning => Some("it has switched; move it back".to_owned()),
        _ => why(on_its_way, "it is not being moved"),
    };
    vec![
        offers.unless(
            go,
            why(
                of.status == PlacementStatus::Active,
                "it is on its way already",
            ),
        ),
        offers.unless(back, back_refused),
    ]
}

fn on_deletion(offers: &Offers<'_>, of: &Deletion) -> Vec<Offer> {
    let state = of.state.as_str();
    let it_is = format!("it is {}", state.replace('_', " "));
    let over = of.ended_at.map(|_| it_is.clone());
    let leftovers = of.detail.as_deref().unwrap_or_default();
    let acceptable = state == "failed_step" && leftovers.starts_with("leftovers");
    let asked = of.requested_by == offers.who.token_name;
    let plain = |verb: &str, help: &str| Form::new(verb, help, Vec::new());
    let approve = offers.needs(
        plain(
            APPROVE,
            "Agrees, as the second person. The tenant is shut at once, and can be taken back until it has cooled off.",
        ),
        ADMIN,
    );
    let approve = approve
        .unless(
            state != "requested",
            &format!("{it_is}, and waits for no approval"),
        )
        .unless(asked, "you asked for it; a second person has to approve it");
    let cancel = offers.unless(
        plain(CANCEL, "Takes it back: the tenant is as before."),
        over.clone().or(of
            .final_at
            .map(|_| format!("{it_is}: the point of no return has passed"))),
    );
    let retry = offers.unless(
        plain(RETRY, "Lets it go on, after what it names was mended."),
        over.or(why(
            matches!(state, "failed_step" | "held"),
            &format!("{it_is}: nothing has failed, and nothing holds it"),
        )),
    );
    let accept = offers.needs(
        plain(
            ACCEPT,
            "Accepts what was found after erasing. The certificate says what, who accepted it, and why.",
        ),
        ADMIN,
    );
    let accept = accept.unless(!acceptable, "nothing was found that could be accepted");
    // Who looks at what failed wants to mend it; to take it back is last.
    vec![approve, retry, accept, cancel]
}

fn on_archive(offers: &Offers<'_>, of: &DataArchive) -> Vec<Offer> {
    let there = of.status == "complete" || of.status == "restored";
    let hindrance = || why(there, &format!("it is {}", of.status));
    vec![
        offers.unless(
            Form::new(RESTORE, "Brings its rows back, as they were.", Vec::new()),
            hindrance(),
        ),
        offers.unless(
            Form::new(
                RESTORE_SWEEP,
                "Brings back all that the same sweep took out.",
                Vec::new(),
            ),
            hindrance(),
        ),
    ]
}

pub(super) fn act(deed: &Deed<'_>, dry_run: bool) -> Result<Act, String> {
    let act = match &deed.subject.target {
        Target::Backfill(of) => backfill(deed, of, dry_run)?,
        Target::Range(backfill, of) => {
            let verb = match deed.verb {
                RETRY_RANGE => "retry",
                SKIP_RANGE => "skip",
                _ => return Err(deed.unknown()),
            };
            let body = ActOnBackfillRange { reason: deed.why() };
            LifeAct::Range(*backfill, of.range_id, verb.to_owned(), body)
        }
        Target::Placement(of) => placement(deed, of)?,
        Target::Deletion(of) => {
            let body = DeletionAct { reason: deed.why() };
            LifeAct::Deletion(of.deletion_id, deed.verb.to_owned(), body)
        }
        Target::Data(tenant) => on_data(deed, *tenant)?,
        Target::DataHold(of) => {
            let body = LiftDataHold { reason: deed.why() };
            LifeAct::LiftHold(of.tenant_id, of.hold_id, body)
        }
        Target::Archive(tenant, of) => {
            let whole = deed.verb == RESTORE_SWEEP;
            let body = StartRestore {
                sweep_id: whole.then_some(of.sweep_id),
                archive_id: (!whole).then_some(of.archive_id),
                reason: deed.why(),
            };
            LifeAct::Restore(*tenant, body)
        }
        _ => return Err(deed.unknown()),
    };
    Ok(Act::Life { act, dry_run })
}

fn backfill(deed: &Deed<'_>, of: &Backfill, dry_run: bool) -> Result<LifeAct, String> {
    let to = deed.values.text("to");
    let percent = deed.values.number("percent")?;
    if percent.is_some_and(|percent: i16| percent > 100) {
        return Err("percent: at most 100".to_owned());
    }
    let body = ActOnBackfill {
        reason: deed.why(),
        percent,
        to: Some(to).filter(|to| !to.is_empty()),
        dry_run,
    };
    Ok(LifeAct::Backfill(
        of.backfill_id,
        deed.verb.to_owned(),
        body,
    ))
}

fn placement(deed: &Deed<'_>, of: &Placement) -> Result<LifeAct, String> {
    if deed.verb == BACK_OUT {
        let reason = deed.why();
        return Ok(LifeAct::BackOut(of.tenant_id, BackOutPlacement { reason }));
    }
    let values = deed.values;
    let text = |name: &str| Some(values.text(name)).filter(|text| !text.is_empty());
    let word = values.text("model");
    let model = MODELS.into_iter().find(|model| model.as_str() == word);
    let to = Place {
        model: model.ok_or("model: it is needed")?,
        source: values.text("source"),
        database: text("database"),
        schema: text("schema"),
        key: values.text("key"),
    };
    if to.model == TenancyModel::Schema && to.schema.is_none() {
        return Err("schema: which one is the tenant's?".to_owned());
    }
    if to == of.place {
        return Err("it is there already".to_owned());
    }
    let wanted = MovePlacement {
        to,
        sql: None,
        keep_hours: values.number("keep_hours")?,
        batch: None,
        reason: deed.why(),
    };
    Ok(LifeAct::Move(of.tenant_id, wanted))
}

fn on_data(deed: &Deed<'_>, tenant_id: Uuid) -> Result<LifeAct, String> {
    let (values, reason) = (deed.values, deed.why());
    let text = |name: &str| Some(values.text(name)).filter(|text| !text.is_empty());
    Ok(match deed.verb {
        EXPORT => {
            let link_days = values.number("link_days")?;
            LifeAct::Export(tenant_id, StartExport { link_days, reason })
        }
        SWEEP => {
            let dry_run = values.text("do") != "sweep";
            let start = StartSweep {
                dry_run,
                as_of: values.time("as_of"),
                reason: Some(reason),
            };
            LifeAct::Sweep(tenant_id, start)
        }
        HOLD => {
            let matches = match values.json("match") {
                None => None,
                Some(Value::Object(matches)) => Some(matches),
                Some(_) => return Err("match: such as {\"task_id\": \"0f00...\"}".to_owned()),
            };
            let place = PlaceDataHold {
                case: values.text("case"),
                table: text("table"),
                matches,
                expires_at: values.time("expires_at"),
                reason,
            };
            if place.matches.is_some() && place.table.is_none() {
                return Err("table: whose rows should match?".to_owned());
            }
            LifeAct::PlaceHold(tenant_id, place)
        }
        REQUEST => {
            let days = |name: &str| -> Result<i32, String> {
                values.number(name)?.ok_or(format!("{name}: it is needed"))
            };
            LifeAct::RequestDeletion(RequestDeletion {
                tenant_id,
                cooling_off_days: days("cooling_off_days")?,
                backup_days: days("backup_days")?,
                export_link_days: values.number("export_link_days")?,
                reason,
            })
        }
        _ => return Err(deed.unknown()),
    })
}

/// What a verb to a backfill that the server would accept comes to.
pub(crate) fn would(verb: &str, body: &ActOnBackfill, of: &Backfill) -> Vec<String> {
    let accepted = "The server would accept it now.".to_owned();
    let what = match (verb, of.next.as_deref(), body.percent, body.to.as_deref()) {
        (ADVANCE, Some("contract"), ..) => {
            "The contract begins: trigger and old columns go, and there is no way back.".to_owned()
        }
        (ADVANCE, Some(next), ..) => format!("{next} begins."),
        (ROLL_OUT, _, Some(percent), _) => format!(
            "{percent} % of the tenants read the new columns, {} % do now.",
            of.percent_reading
        ),
        (BACK, _, _, Some("undone")) => {
            "Trigger and new columns are taken away; all is as it was before.".to_owned()
        }
        (BACK, _, _, Some(to)) => {
            format!("It goes on from {to}; nobody reads the new columns from now on.")
        }
        (PAUSE, ..) => "Its ranges rest after the batch that they are in.".to_owned(),
        (RESUME, ..) => "Its ranges go on.".to_owned(),
        (VERIFY, ..) => "All rows are compared again.".to_owned(),
        _ => "It goes on where it was held.".to_owned(),
    };
    vec![what, accepted]
}

/// What a deed will do, where the server is not asked beforehand.
pub(super) fn preview(deed: &Deed<'_>, help: &str) -> Preview {
    let values = deed.values;
    let words = match (deed.verb, &deed.subject.target) {
        (MOVE, Target::Placement(of)) => {
            let to = format!("{} {}", values.text("source"), values.text("model"));
            return Preview::words([
                "Rows are copied while the tenant works; it is read only for the last part, until it has switched.",
                "Until then back-out leaves it where it is.",
            ])
            .changes("place", life::words(&of.place), to);
        }
        (BACK_OUT, _) => {
            vec!["What was copied is deleted there; the tenant stays where it is.".to_owned()]
        }
        (APPROVE, Target::Deletion(of)) => vec![
            "Changes, access and billing of the tenant are held at once, and its schedules rest."
                .to_owned(),
            match of.cooling_off_days {
                0 => "It does not cool off: there is no way back.".to_owned(),
                days => {
                    format!("For {days} days cancel restores it; after that there is no way back.")
                }
            },
        ],
        (SWEEP, _) if values.text("do") == "sweep" => vec![
            "Rows past their time are archived or deleted, as the policy says.".to_owned(),
            "`count` tells beforehand how many.".to_owned(),
        ],
        (SWEEP, _) => vec!["It is counted what would go; nothing is touched.".to_owned()],
        (HOLD, _) => {
            vec!["From the answer on nothing of that is deleted, archives included.".to_owned()]
        }
        (EXPORT, _) => vec![
            format!(
                "The link works for {} days once it is ready.",
                values.text_of("link_days")
            ),
            "Whoever has the link can read the export.".to_owned(),
        ],
        _ => vec![help.to_owned()],
    };
    Preview::words(words)
}
