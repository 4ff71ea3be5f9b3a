//! Settings: update (318) and list (319).

use std::sync::Arc;

use config::UpdateRefused;
use net::Connection;
use protocol::Frame;

use crate::error::RequestError;
use crate::server::{NameServer, Served};

/// On the `disk` thread, because changed settings are written to a file first.
pub(crate) fn update(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    if request.body.is_empty() {
        return Ok(Served::Now(Frame::response_to(request)));
    }
    let (body, peer) = (request.body.clone(), conn.peer());
    names.serve_on(&names.disk, conn, request, body.len(), move |names, mut answer| {
        let updated = names.settings.update(&body).map_err(|refused| match refused {
            UpdateRefused::AtStart(_) => RequestError::Fixed(refused.to_string()),
            other => RequestError::Setting(other.to_string()),
        })?;
        for change in &updated.changed {
            tracing::info!(%peer, key = change.key, from = change.from, to = change.to, "setting changed");
        }
        answer.remark = Some(updated.remark()).filter(|remark| !remark.is_empty());
        Ok(answer)
    })
}

/// A counter, not a setting; the list of settings is where operators of a name server look. See [`crate::routes::Routes::taken_over`].
const TAKEN_OVER: &str = "apogeeBrokersTakenOver";

pub(crate) fn all(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let taken_over = names.routes.read().taken_over();
    Ok(Frame::response_to(request).with_body(format!("{}{TAKEN_OVER}={taken_over}\n", names.settings.text())))
}
