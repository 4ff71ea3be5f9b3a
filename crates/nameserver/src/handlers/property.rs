//! Settings over the wire: 318 changes them, 319 gives all of them.

use std::sync::Arc;

use config::UpdateRefused;
use net::Connection;
use protocol::Frame;

use crate::problem::Problem;
use crate::server::{NameServer, Served};

/// Aside, because what is kept over a restart is written to a file first.
pub(crate) fn update(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    if request.body.is_empty() {
        return Ok(Served::Now(Frame::response_to(request)));
    }
    let (body, peer) = (request.body.clone(), conn.peer());
    names.aside(&names.disk, conn, request, body.len(), move |names, mut answer| {
        let updated = names.settings.update(&body).map_err(|refused| match refused {
            UpdateRefused::AtStart(_) => Problem::Fixed(refused.to_string()),
            other => Problem::Setting(other.to_string()),
        })?;
        for change in &updated.changed {
            tracing::info!(%peer, key = change.key, from = change.from, to = change.to, "setting changed");
        }
        answer.remark = Some(updated.remark()).filter(|remark| !remark.is_empty());
        Ok(answer)
    })
}

/// No setting, but this is where an operator of a name server looks: see [`crate::routes::Routes::taken_over`].
const TAKEN_OVER: &str = "apogeeBrokersTakenOver";

pub(crate) fn all(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let taken_over = names.routes.read().taken_over();
    Ok(Frame::response_to(request).with_body(format!("{}{TAKEN_OVER}={taken_over}\n", names.settings.text())))
}
