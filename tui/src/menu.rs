//! The menu of acts: its cursor stays on the verb that the person looks at, whatever the server says
//! meanwhile. A place in the list would mean another verb once the list has changed.

use crate::subject::{Offer, Target};
use std::mem::discriminant;

/// The open menu.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Menu {
    verb: String,
    target: Target,
}

impl Menu {
    /// Opens it at the first verb that can be done; not at all where nothing is offered.
    pub(crate) fn open(offers: &[Offer]) -> Option<Self> {
        let able = offers.iter().find(|offer| offer.refused.is_none());
        able.or(offers.first()).map(Self::at)
    }

    fn at(offer: &Offer) -> Self {
        Self {
            verb: offer.form.verb.clone(),
            target: offer.subject.target.clone(),
        }
    }

    /// Where its verb is among what is offered now; `None` when it is not offered any more.
    pub(crate) fn position(&self, offers: &[Offer]) -> Option<usize> {
        offers.iter().position(|offer| {
            let target = &offer.subject.target;
            let alike = discriminant(target) == discriminant(&self.target);
            let same = self.target.is_same(target) || self.target.seen().is_empty();
            offer.form.verb == self.verb && alike && same
        })
    }

    /// Moves to another verb, stopping at the ends.
    pub(crate) fn step(&mut self, offers: &[Offer], by: isize) {
        let last = offers.len().saturating_sub(1);
        let place = match self.position(offers) {
            Some(place) => place.saturating_add_signed(by).min(last),
            None => 0,
        };
        if let Some(offer) = offers.get(place) {
            *self = Self::at(offer);
        }
    }

    /// Its verb.
    pub(crate) fn verb(&self) -> &str {
        &self.verb
    }
}
