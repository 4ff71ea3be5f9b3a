//! Messages of transactions that were given up.

use message::id;

use crate::change::Changes;
use crate::{Cluster, Error};

/// Has a given-up message checked again, at the broker that its offset id names.
///
/// # Errors
/// [`Error::Invalid`] if this is not an offset id.
pub async fn resume_check(cluster: &Cluster, offset_id: &str) -> Result<Changes, Error> {
    let (store_host, _) = id::parse_offset_id(offset_id).ok_or_else(|| {
        Error::Invalid(format!(
            "{offset_id} is not an offset id, which names the broker and the place in its log: see queryMsgByOffset"
        ))
    })?;
    let address = store_host.to_string();
    let resumed = cluster.client().resume_check(&address, offset_id).await;
    let mut changes = Changes::default();
    changes.note(&address, "resume the check of the transaction", resumed);
    Ok(changes)
}
