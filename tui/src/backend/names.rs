//! What people call tenants. The shelves have their ids only, and names hardly change: each is asked
//! for once.

use super::visible;
use crate::event::Names;
use std::sync::{Arc, Mutex};
use tenure_client::{Client, ClientError};
use uuid::Uuid;

/// Names asked for at once; the others follow with the next answers.
const AT_ONCE: usize = 16;

/// The names that are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<Names>>);

impl Known {
    /// The names of these tenants, as far as they are known by now.
    pub(super) async fn names(
        &self,
        client: &Client,
        tenants: &[Uuid],
    ) -> Result<Names, ClientError> {
        let mut unknown: Vec<Uuid> = {
            let known = self.read();
            let unknown = tenants.iter().filter(|id| !known.contains_key(*id));
            unknown.copied().collect()
        };
        unknown.sort_unstable();
        unknown.dedup();
        let asked = unknown.into_iter().take(AT_ONCE);
        let asked = asked.map(|id| async move { visible(client.tenant(id).await) });
        let found = futures_util::future::try_join_all(asked).await?;
        let found = found.into_iter().flatten();
        let mut known = self.read();
        known.extend(found.map(|tenant| (tenant.tenant_id, tenant.name)));
        let named = tenants.iter().filter_map(|id| {
            let name = known.get(id)?;
            Some((*id, name.clone()))
        });
        Ok(named.collect())
    }

    fn read(&self) -> std::sync::MutexGuard<'_, Names> {
        // A name is written whole or not at all.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
