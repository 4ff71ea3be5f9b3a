//! Route of a topic (105). Every client asks for each of its topics every 30 s, so encoded answers are cached.

use std::borrow::Cow;

use bytes::Bytes;
use net::Connection;
use protocol::kv::ORDER_TOPIC_CONFIG;
use protocol::route::{RouteHeader, TopicRoute};
use protocol::{Frame, json, version};

use super::broker::ZONE_NAME;
use crate::NameServer;
use crate::answer::send_body;
use crate::cache::RouteVariant;
use crate::embedded::AddressRewrite;
use crate::error::RequestError;
use crate::routes::retain_zone;

/// Ext field: the client wants only brokers of its zone.
const ZONE_MODE: &str = "__ZONE_MODE";

pub(crate) fn by_topic(names: &NameServer, conn: &Connection, request: &Frame) {
    let body = body(names, conn, request).and_then(|body| names.fits(body.len(), request.code).map(|()| body));
    if request.is_oneway() {
        return;
    }
    match body {
        Ok(body) => {
            send_body(conn, request, body);
        }
        Err(error) => {
            conn.send_frame(&error.reply(request));
        }
    }
}

fn body(names: &NameServer, conn: &Connection, request: &Frame) -> Result<Bytes, RequestError> {
    let header = RouteHeader::decode(&request.ext)?;
    let settings = names.settings.current();
    if !names.is_ready(&settings) {
        return Err(RequestError::NotReady);
    }
    let no_route = || RequestError::no_route(header.topic);
    let rewrite = AddressRewrite::new(names.local_broker.as_ref(), conn.local().ip());
    // Before `routes` is locked: see the lock order in `NameServer`.
    let order = settings
        .order_message_enable
        .then(|| names.kv.value(ORDER_TOPIC_CONFIG, header.topic))
        .flatten();
    let routes = names.routes.read();
    let variant = RouteVariant {
        stamp: routes.stamp(header.topic).ok_or_else(no_route)?,
        // Compat: clients before 4.9.4 expect broker ids as bare numbers.
        standard: request.version >= version::V4_9_4 || header.accept_standard_json_only.unwrap_or(false),
        acting_master: settings.support_acting_master,
        order,
        shown: rewrite.as_ref().map(|rewrite| rewrite.shown().to_owned()),
    };
    let zone = zone(request);
    if zone.is_none()
        && let Some(body) = names.route_cache.get(header.topic, &variant)
    {
        return Ok(body);
    }
    let mut route = routes.route(header.topic, variant.acting_master).ok_or_else(no_route)?;
    drop(routes);
    route.order_topic_conf = variant.order.clone();
    if let Some(rewrite) = rewrite {
        route.broker_datas.iter_mut().for_each(|data| rewrite.broker(data));
    }
    if let Some(zone) = zone {
        retain_zone(&mut route, &zone);
        // Compat: a route of a zone has unquoted keys for every client version.
        return Ok(json::write(&route).into());
    }
    let body = encode(&route, variant.standard);
    names.route_cache.insert(header.topic, variant, body.clone());
    Ok(body)
}

fn encode(route: &TopicRoute, standard: bool) -> Bytes {
    if standard {
        json::write_standard(route).into()
    } else {
        json::write(route).into()
    }
}

/// The zone that the client wants brokers of, if it asks for one.
fn zone(request: &Frame) -> Option<Cow<'_, str>> {
    let zone = request.ext.text(ZONE_NAME).filter(|zone| !zone.trim().is_empty())?;
    request.ext.bool(ZONE_MODE)?.then_some(Cow::Borrowed(zone))
}
