//! All schedules, and closely the one under the cursor: its coming slots and what became of the last.

use crate::deeds::{schedule, start};
use crate::event::{Answer, Request};
use crate::keymap::Context;
use crate::place::Place;
use crate::slots;
use crate::subject::{Offer, Target};
use crate::tree::{Folding, Node};
use std::collections::BTreeMap;
use tenure_client::{Schedule, ScheduleDetail, Whoami};
use uuid::Uuid;

/// All schedules.
#[derive(Clone, Debug, Default)]
pub struct Schedules {
    /// The schedules; `None` until the first answer.
    pub(crate) all: Option<Vec<Schedule>>,
    /// What is folded.
    folding: Folding,
    /// Those that the cursor was on, as the server described them last.
    details: BTreeMap<Uuid, ScheduleDetail>,
}

impl Schedules {
    fn detail(&self) -> Option<&ScheduleDetail> {
        self.details.get(&self.chosen()?.schedule_id)
    }

    /// The schedule that the cursor is on, or in.
    fn chosen(&self) -> Option<&Schedule> {
        let nodes = self.nodes(0);
        let rows = self.folding.rows(&nodes);
        let id = &rows.get(self.folding.position(&rows))?.node.id;
        let mut all = self.all.iter().flatten();
        all.find(|schedule| id.starts_with(&slots::id(schedule)))
    }
}

impl Place for Schedules {
    fn context(&self) -> Context {
        Context::Schedules
    }

    fn request(&self) -> Request {
        Request::Schedules(self.chosen().map(|schedule| schedule.schedule_id))
    }

    /// After the first answer the one under the cursor is still to be asked for.
    fn take(&mut self, answer: Answer) -> bool {
        let Answer::Schedules(all, detail) = answer else {
            return false;
        };
        let is_first = self.all.replace(all).is_none();
        let detail = detail.map(|detail| (detail.schedule.schedule_id, *detail));
        self.details.extend(detail);
        is_first
    }

    fn nodes(&self, _columns: usize) -> Vec<Node> {
        let all = self.all.iter().flatten();
        all.map(|schedule| {
            let detail = self.details.get(&schedule.schedule_id);
            slots::node(schedule, detail)
        })
        .collect()
    }

    fn folding(&self) -> Folding {
        self.folding.clone()
    }

    fn folding_mut(&mut self) -> &mut Folding {
        &mut self.folding
    }

    /// What can be done to the one under the cursor, and to make another.
    fn offers(&self, who: &Whoami, _columns: usize) -> Vec<Offer> {
        let mut offers = Vec::new();
        if let (Some(detail), Some(chosen)) = (self.detail(), self.chosen()) {
            offers.extend(schedule::offers(detail, &slots::owner(chosen)));
        }
        offers.push(start::offer_schedule(who, None));
        offers
    }

    fn latest(&self, target: &Target) -> Option<String> {
        let mut all = self.all.iter().flatten();
        all.find_map(|schedule| {
            let now = Target::Schedule(Box::new(schedule.clone()));
            now.is_same(target).then(|| now.seen())
        })
    }

    /// Whether the one under the cursor is not known closely.
    fn lacks(&self) -> bool {
        self.chosen().is_some() && self.detail().is_none()
    }
}
