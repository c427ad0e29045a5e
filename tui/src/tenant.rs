//! One tenant: what it bought and owes, what comes next, what runs for it, what it was written.

use crate::account;
use crate::deeds::{billing, flow, keys, life as data, retention, start};
use crate::event::{Answer, Door, Request, TenantAnswer};
use crate::keymap::Context;
use crate::life;
use crate::place::{self, Place, is_on};
use crate::retention as holds;
use crate::sections::{self, Section};
use crate::subject::{Offer, Subject, Target};
use crate::tree::{Folding, Node};
use chrono::TimeDelta;
use tenure_client::{EntitlementSource, Whoami};
use uuid::Uuid;

/// A tenant's page.
#[derive(Clone, Debug)]
pub struct TenantPage {
    pub(crate) tenant_id: Uuid,
    name: Option<String>,
    /// What the server said; `None` until the first answer.
    pub(crate) known: Option<TenantAnswer>,
    folding: Folding,
}

impl TenantPage {
    /// Opens the page of a tenant.
    pub(crate) fn open(tenant_id: Uuid, name: Option<String>) -> Self {
        Self {
            tenant_id,
            name,
            known: None,
            folding: Folding::default(),
        }
    }

    /// Its name, or what stands for it.
    pub(crate) fn name(&self) -> String {
        let known = self.known.as_ref().map(|known| known.tenant.name.clone());
        let name = known.or_else(|| self.name.clone());
        name.unwrap_or_else(|| format!("tenant {}", self.tenant_id))
    }

    fn sections(&self, columns: usize) -> Vec<Section> {
        let known = self.known.iter();
        known
            .flat_map(|known| sections::SECTIONS.map(|build| build(known, columns)))
            .collect()
    }

    /// What can be done to what the cursor is on: a subscription, an invoice, a hold, a feature, a debt.
    fn on_line(&self, who: &Whoami, known: &TenantAnswer, on: &str) -> Vec<Offer> {
        let (tenant, part) = (self.tenant_id, &known.billing);
        let plans = part.plans.as_deref().unwrap_or_default();
        let mut offers = Vec::new();
        for one in part.details.iter().flatten() {
            if is_on(on, &sections::subscription_id(&one.subscription)) {
                offers.extend(billing::on_subscription(who, one, plans));
            }
        }
        for one in known.invoices.iter().flatten() {
            if is_on(on, &sections::invoice_id(one)) {
                offers.extend(billing::on_invoice(who, tenant, one));
            }
        }
        for hold in part.holds.iter().flat_map(|holds| &holds.holds) {
            if is_on(on, &account::hold_id(hold)) {
                offers.push(billing::on_hold(who, hold));
            }
        }
        for debt in part.debts.iter().flatten() {
            let spared = debt.exemption.iter();
            let spared = spared.filter(|_| is_on(on, &account::debt_id(debt)));
            offers.extend(spared.map(|one| billing::on_exemption(who, tenant, one)));
        }
        for (feature, one) in part.entitlements.iter().flat_map(|all| &all.features) {
            let set = matches!(one.source, Some(EntitlementSource::Override { .. }));
            if set && is_on(on, &account::feature_id(feature)) {
                offers.push(billing::on_override(who, tenant, feature));
            }
        }
        offers
    }

    /// Everything on it that can be acted on and may change meanwhile.
    fn targets(&self) -> Vec<Target> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let (tenant, part) = (self.tenant_id, &known.billing);
        let holds = known.holds.iter().flatten();
        let holds = holds.map(|hold| Target::Hold(Box::new(hold.clone())));
        let bought = part.details.iter().flatten();
        let bought = bought.map(|one| Target::Subscription(Box::new(one.clone())));
        let billed = known.invoices.iter().flatten();
        let billed = billed.map(|one| Target::Invoice(tenant, Box::new(one.clone())));
        let held = part.holds.iter().flat_map(|holds| &holds.holds);
        let held = held.map(|hold| Target::ServiceHold(Box::new(hold.clone())));
        let spared = part.debts.iter().flatten();
        let spared = spared.filter_map(|debt| debt.exemption.as_ref());
        let spared = spared.map(|one| Target::Exemption(tenant, Box::new(one.clone())));
        let all = holds.chain(bought).chain(billed).chain(held);
        all.chain(spared).collect()
    }
}

impl Place for TenantPage {
    fn context(&self) -> Context {
        Context::Tenant
    }

    fn request(&self) -> Request {
        Request::Tenant(self.tenant_id)
    }

    fn take(&mut self, answer: Answer) -> bool {
        if let Answer::Tenant(known) = answer {
            self.known = Some(*known);
        }
        false
    }

    /// It is many questions to the server at once.
    fn pause(&self) -> TimeDelta {
        TimeDelta::seconds(3)
    }

    fn nodes(&self, columns: usize) -> Vec<Node> {
        let head = self.known.iter().flat_map(sections::head);
        let sections = self.sections(columns).into_iter().map(Section::into_node);
        head.chain(sections).collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    fn offers(&self, who: &Whoami, columns: usize) -> Vec<Offer> {
        let Some(known) = &self.known else {
            return Vec::new();
        };
        let (tenant_id, name) = (self.tenant_id, known.tenant.name.as_str());
        let on = place::cursor(self, columns).unwrap_or_default();
        let mut held = known.holds.iter().flatten();
        let held = held.find(|hold| is_on(&on, &holds::hold_id(hold)));
        let lift = held.and_then(|hold| {
            let target = Target::Hold(Box::new(hold.clone()));
            retention::offer(who, &target)
        });
        let subject = Subject::new(Target::Holds, name);
        let mut offers = self.on_line(who, known, &on);
        offers.extend(life::on_line(who, known, &on));
        offers.extend(billing::on_tenant(who, tenant_id, name, currency(known)));
        offers.extend([
            start::offer_run(who, Some((tenant_id, name)), None),
            start::offer_schedule(who, Some((tenant_id, name))),
            retention::place(who, &subject, Some(tenant_id), None),
        ]);
        offers.extend(lift);
        offers.extend(data::offers_on_tenant(who, tenant_id, name));
        offers.extend(flow::offers_on_tenant(who, tenant_id, name));
        let versions = known.keys.as_deref().unwrap_or_default();
        offers.extend(keys::offers(who, tenant_id, name, versions));
        offers
    }

    fn latest(&self, target: &Target) -> Option<String> {
        if let Target::Keys(tenant_id, _) = target {
            let keys = self.known.as_ref()?.keys.as_ref().ok()?;
            return Some(Target::Keys(*tenant_id, keys.len()).seen());
        }
        let data = self.known.as_ref();
        if let Some(now) = data.and_then(|known| life::latest(known, target)) {
            return Some(now);
        }
        let known = matches!(
            target,
            Target::Hold(_)
                | Target::Subscription(_)
                | Target::Invoice(..)
                | Target::ServiceHold(_)
                | Target::Exemption(..)
        );
        let mut now = self.targets().into_iter();
        known.then(|| {
            let found = now.find(|now| now.is_same(target));
            found.map_or_else(|| "gone".to_owned(), |now| now.seen())
        })
    }

    fn door(&self, columns: usize) -> Option<Door> {
        let cursor = place::cursor(self, columns)?;
        let sections = self.sections(columns).into_iter();
        let mut rows = sections.flat_map(|section| section.rows.unwrap_or_default());
        let (_, door) = rows.find(|(node, _)| is_on(&cursor, &node.id))?;
        door
    }
}

/// The currency that the tenant pays in, as far as is known.
fn currency(known: &TenantAnswer) -> &str {
    let of_one = known.subscriptions.iter().flatten().next();
    let of_one = of_one.map(|one| one.price.currency.as_str());
    let of_invoice = known.invoices.iter().flatten().next();
    let of_invoice = of_invoice.map(|one| one.total.currency.as_str());
    of_one.or(of_invoice).unwrap_or_default()
}
