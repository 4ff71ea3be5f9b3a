//! Settings over the wire: 318 changes them, 319 gives all of them.

use config::UpdateRefused;
use net::Connection;
use protocol::Frame;

use crate::NameServer;
use crate::problem::Problem;

/// Keys of Apache's black list. They have no meaning here, or move a path; answered like Apache in any case.
const FIXED: [&str; 4] = ["configBlackList", "configStorePath", "kvConfigPath", "rocketmqHome"];

pub(crate) fn update(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Frame, Problem> {
    if request.body.is_empty() {
        return Ok(Frame::response_to(request));
    }
    let entries = config::properties::parse_bytes(&request.body).map_err(|error| Problem::Setting(error.to_string()))?;
    if let Some(entry) = entries.iter().find(|entry| FIXED.contains(&entry.key.trim())) {
        return Err(Problem::Fixed(format!("{} is fixed from the start", entry.key.trim())));
    }
    let changed = names.settings.update(&request.body).map_err(|refused| match refused {
        UpdateRefused::AtStart(_) => Problem::Fixed(refused.to_string()),
        other => Problem::Setting(other.to_string()),
    })?;
    for change in &changed {
        tracing::info!(peer = %conn.peer(), key = change.key, from = change.from, to = change.to, "setting changed");
    }
    if let Some(on_change) = names.on_change.as_ref().filter(|_| !changed.is_empty()) {
        on_change(&changed, &names.settings.text());
    }
    Ok(Frame::response_to(request))
}

pub(crate) fn all(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    Ok(Frame::response_to(request).with_body(names.settings.text()))
}
