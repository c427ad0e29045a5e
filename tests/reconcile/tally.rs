//! What came about, and what was asked for: counted by the customers, compared with the books.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rust_decimal::Decimal;
use tenure_client::ClientError;
use uuid::Uuid;

use super::kinds::Kind;

/// What one customer was told is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) subscriptions: u64,
    pub(super) credit_notes: u64,
    /// By currency.
    pub(super) granted: BTreeMap<String, Decimal>,
}

/// The counts of all customers.
#[derive(Default)]
pub(super) struct Tally {
    came_about: Mutex<BTreeMap<Kind, u64>>,
    refused: Mutex<BTreeMap<(Kind, String), u64>>,
    done: Mutex<BTreeMap<Uuid, Done>>,
}

impl Tally {
    pub(super) fn count(&self, kind: Kind) {
        *self.came_about.lock().unwrap().entry(kind).or_default() += 1;
    }

    /// The answer to a request. A refusal is one; that the server could not answer is none.
    pub(super) fn answered<T>(&self, kind: Kind, answer: Result<T, ClientError>) -> Option<T> {
        match answer {
            Ok(done) => Some(done),
            Err(ClientError::Problem(problem)) if problem.status < 500 => {
                let refusal = (kind, problem.code);
                *self.refused.lock().unwrap().entry(refusal).or_default() += 1;
                None
            }
            Err(error) => panic!("{kind:?}: {error:?}"),
        }
    }

    /// The same, where an answer is all there is to it.
    pub(super) fn counted<T>(&self, kind: Kind, answer: Result<T, ClientError>) -> Option<T> {
        let done = self.answered(kind, answer);
        if done.is_some() {
            self.count(kind);
        }
        done
    }

    /// Notes what a customer was told is done.
    pub(super) fn note(&self, tenant: Uuid, note: impl FnOnce(&mut Done)) {
        note(self.done.lock().unwrap().entry(tenant).or_default());
    }

    pub(super) fn done(&self) -> BTreeMap<Uuid, Done> {
        self.done.lock().unwrap().clone()
    }

    /// The kinds that never came about.
    pub(super) fn missing(&self) -> Vec<Kind> {
        let came_about = self.came_about.lock().unwrap();
        let mut all = Kind::ALL.to_vec();
        all.retain(|kind| !came_about.contains_key(kind));
        all
    }

    /// All counts, for people.
    pub(super) fn told(&self) -> String {
        let came_about = self.came_about.lock().unwrap();
        let refused = self.refused.lock().unwrap();
        format!("came about: {came_about:?}\nrefused: {refused:?}")
    }
}
