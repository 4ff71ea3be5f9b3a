//! Settings over the wire: 318 changes them, 319 gives all of them.

use config::UpdateRefused;
use net::Connection;
use protocol::Frame;

use crate::NameServer;
use crate::problem::Problem;

pub(crate) fn update(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    if request.body.is_empty() {
        return Ok(Frame::response_to(request));
    }
    let updated = names.settings.update(&request.body).map_err(|refused| match refused {
        UpdateRefused::AtStart(_) => Problem::Fixed(refused.to_string()),
        other => Problem::Setting(other.to_string()),
    })?;
    for change in &updated.changed {
        tracing::info!(peer = %conn.peer(), key = change.key, from = change.from, to = change.to, "setting changed");
    }
    let mut response = Frame::response_to(request);
    response.remark = Some(updated.remark()).filter(|remark| !remark.is_empty());
    Ok(response)
}

pub(crate) fn all(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    Ok(Frame::response_to(request).with_body(names.settings.text()))
}
