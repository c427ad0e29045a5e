//! A queue in which tenants take turns: who asks for little waits for little, however much another
//! asks for. Each tenant's own requests stay in their order.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use crate::id::TenantId;

#[derive(Debug)]
pub(crate) struct Lanes<T> {
    /// None of them is empty.
    lanes: HashMap<TenantId, VecDeque<T>>,
    /// Each tenant with a lane once, in the order of their turns.
    turns: VecDeque<TenantId>,
    len: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Lanes<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, tenant: TenantId, item: T) {
        self.len += 1;
        match self.lanes.entry(tenant) {
            Entry::Occupied(mut lane) => lane.get_mut().push_back(item),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.turns.push_back(tenant);
            }
        }
    }

    /// Takes up to `most`, one of each tenant before the second of any. Whose turn is next stays so.
    pub(crate) fn take(&mut self, most: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(most.min(self.len));
        while taken.len() < most {
            let Some(tenant) = self.turns.pop_front() else {
                break;
            };
            let Entry::Occupied(mut lane) = self.lanes.entry(tenant) else {
                continue;
            };
            taken.extend(lane.get_mut().pop_front());
            if lane.get().is_empty() {
                lane.remove();
            } else {
                self.turns.push_back(tenant);
            }
        }
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    #[test]
    fn one_of_each_tenant_comes_before_the_second_of_any() {
        let mut lanes = Lanes::default();
        for number in 0..300 {
            lanes.push(tenant(1), (1, number));
        }
        lanes.push(tenant(2), (2, 0));
        lanes.push(tenant(2), (2, 1));
        lanes.push(tenant(3), (3, 0));
        assert_eq!(lanes.len(), 303);
        let first = lanes.take(4);
        assert_eq!(first, [(1, 0), (2, 0), (3, 0), (1, 1)]);
        // It is the second's turn still, and who comes now stands behind who waits.
        lanes.push(tenant(3), (3, 1));
        assert_eq!(lanes.take(3), [(2, 1), (1, 2), (3, 1)]);
        let rest = lanes.take(1000);
        let expected: Vec<_> = (3..300).map(|number| (1, number)).collect();
        assert_eq!(rest, expected);
        assert_eq!((lanes.len(), lanes.take(1)), (0, Vec::new()));
    }

    #[test]
    fn nothing_is_kept_of_a_tenant_that_asks_for_nothing() {
        let mut lanes = Lanes::default();
        for number in 0..100 {
            lanes.push(tenant(number), ());
        }
        assert_eq!(lanes.take(100).len(), 100);
        assert!(lanes.lanes.is_empty() && lanes.turns.is_empty());
    }
}
