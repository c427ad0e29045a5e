//! Acts on what a tenant bought, owes and has: each is one call, and what it came to in words.

use crate::event::{BillingAct, Done};
use chrono_tz::Tz;
use tenure_client::{Client, ClientError, IdempotencyKey, SubscriptionAct};
use uuid::Uuid;

/// Carries out a change, or asks what it would come to.
pub(super) async fn change(
    client: &Client,
    tenant: Uuid,
    act: BillingAct,
    dry_run: bool,
    key: &IdempotencyKey,
) -> Result<Done, ClientError> {
    let told = match act {
        BillingAct::Change(id, mut asked) => {
            asked.dry_run = dry_run;
            let act = client.change_subscription(tenant, id, &asked, key).await?;
            of(client, tenant, act).await?
        }
        BillingAct::Cancel(id, mut asked) => {
            asked.dry_run = dry_run;
            let act = client.cancel_subscription(tenant, id, &asked, key).await?;
            of(client, tenant, act).await?
        }
        BillingAct::Pause(id, mut asked) => {
            asked.dry_run = dry_run;
            let act = client.pause_subscription(tenant, id, &asked, key).await?;
            of(client, tenant, act).await?
        }
        BillingAct::Resume(id, mut asked) => {
            asked.dry_run = dry_run;
            let act = client.resume_subscription(tenant, id, &asked, key).await?;
            of(client, tenant, act).await?
        }
        BillingAct::MoveAnchor(id, mut asked) => {
            asked.dry_run = dry_run;
            let act = client.move_anchor(tenant, id, &asked, key).await?;
            of(client, tenant, act).await?
        }
        BillingAct::Invoice(id, verb, mut asked) => {
            asked.dry_run = dry_run;
            let act = client
                .act_on_invoice(tenant, id, &verb, &asked, key)
                .await?;
            (act.words(), "The invoice's run has been told.".to_owned())
        }
        BillingAct::CreditNote(id, mut asked) => {
            asked.dry_run = dry_run;
            let note = client.give_credit_note(tenant, id, &asked, key).await?;
            let done = format!("Credit note {} gives back {}.", note.number, note.total);
            (note.words(), done)
        }
        BillingAct::ChangeZone(mut asked) => {
            asked.dry_run = dry_run;
            let told = client.change_zone(tenant, &asked, key).await?;
            let zone = |name: &str| name.parse().unwrap_or(Tz::UTC);
            let words = told.words(&zone(&told.zone_before), &zone(&told.zone));
            (words, format!("Its days begin in {} now.", told.zone))
        }
        BillingAct::ChangeLegalEntity(mut asked) => {
            asked.dry_run = dry_run;
            let told = client.change_legal_entity(tenant, &asked, key).await?;
            let done = format!("Its next invoice is {}.", told.next_number);
            (told.words(), done)
        }
        BillingAct::ChangeTax(mut asked) => {
            asked.dry_run = dry_run;
            let told = client.change_tax(tenant, &asked, key).await?;
            let done = match &told.tax {
                Some(tax) => format!("It is billed with {tax} now."),
                None => "It is billed without tax now.".to_owned(),
            };
            (told.words(), done)
        }
        other => return settle(client, tenant, other, key).await.map(Done::Did),
    };
    Ok(match told {
        (words, _) if dry_run => Done::Told(words),
        (_, done) => Done::Did(done),
    })
}

/// What an act on a subscription comes to, in the tenant's zone and with invoices by their numbers, and
/// that it was asked for.
async fn of(
    client: &Client,
    tenant: Uuid,
    act: SubscriptionAct,
) -> Result<(Vec<String>, String), ClientError> {
    let (known, invoices) = tokio::try_join!(client.tenant(tenant), client.list_invoices(tenant))?;
    let zone: Tz = known.zone.parse().unwrap_or(Tz::UTC);
    let mut words = act.words(&zone);
    for invoice in invoices.iter().filter(|invoice| invoice.number.is_some()) {
        let (id, number) = (invoice.invoice_id.to_string(), invoice.number.as_deref());
        for line in &mut words {
            *line = line.replace(&id, number.unwrap_or(&id));
        }
    }
    let at = act.at.with_timezone(&zone).format("%d %b %Y %H:%M");
    let done = format!("The subscription's run has been told: {at}.");
    Ok((words, done))
}

/// The changes that cost nothing.
async fn settle(
    client: &Client,
    tenant: Uuid,
    act: BillingAct,
    key: &IdempotencyKey,
) -> Result<String, ClientError> {
    Ok(match act {
        BillingAct::Undo(id, asked) => {
            client.undo_intent(tenant, id, &asked, key).await?;
            "The subscription's run has been told to forget it.".to_owned()
        }
        BillingAct::Grant(asked) => {
            client.grant_credit(tenant, &asked, key).await?;
            format!("{} is granted.", asked.amount)
        }
        BillingAct::Hold(asked) => {
            let placed = client.place_hold(tenant, &asked, key).await?;
            format!("The {} hold stands.", placed.kind.as_str())
        }
        BillingAct::LiftHold(id, asked) => {
            let lifted = client.lift_hold(tenant, id, &asked, key).await?;
            format!("The {} hold is lifted.", lifted.kind.as_str())
        }
        BillingAct::Override(feature, asked) => {
            let set = client.set_override(tenant, &feature, &asked, key).await?;
            format!("{} is {} now.", set.feature, set.value)
        }
        BillingAct::ClearOverride(feature, asked) => {
            client.clear_override(tenant, &feature, &asked, key).await?;
            format!("{feature} is what was bought again.")
        }
        BillingAct::Attach(asked) => {
            client.attach_payment_method(tenant, &asked, key).await?;
            "The tenant's run has been told of its payment method.".to_owned()
        }
        BillingAct::Exempt(asked) => {
            let spared = client.exempt_from_dunning(tenant, &asked, key).await?;
            let until = spared.ends_at.format("%d %b %Y");
            format!("It is spared the steps of dunning until {until}.")
        }
        BillingAct::LiftExemption(id, asked) => {
            client.lift_exemption(tenant, id, &asked, key).await?;
            "Dunning goes on.".to_owned()
        }
        BillingAct::Change(..)
        | BillingAct::Cancel(..)
        | BillingAct::Pause(..)
        | BillingAct::Resume(..)
        | BillingAct::MoveAnchor(..)
        | BillingAct::Invoice(..)
        | BillingAct::CreditNote(..)
        | BillingAct::ChangeZone(..)
        | BillingAct::ChangeLegalEntity(..)
        | BillingAct::ChangeTax(..) => String::new(),
    })
}
