//! The KV configuration: 100 put, 101 get, 102 delete, 219 list. Changes wait for the disk, so they are made aside.

use std::sync::Arc;

use net::Connection;
use protocol::Frame;
use protocol::kv::{KvKeyHeader, KvNamespaceHeader, KvValueReply, PutKvHeader};

use crate::names::{checked, shortened};
use crate::problem::Problem;
use crate::server::{NameServer, Served};

pub(crate) fn put(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    let header = PutKvHeader::decode(&request.ext)?;
    let namespace = checked("namespace", header.namespace)?.to_owned();
    let key = checked("key", header.key)?.to_owned();
    let value = header.value.to_owned();
    names.aside(&names.disk, conn, request, value.len(), move |names, answer| {
        if names.kv.put(&namespace, &key, &value)? {
            tracing::info!(namespace, key, value = shortened(&value), "KV configuration changed");
        }
        Ok(answer)
    })
}

pub(crate) fn value(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = KvKeyHeader::decode(&request.ext)?;
    let Some(value) = names.kv.value(header.namespace, header.key) else {
        return Err(Problem::NoKey {
            namespace: shortened(header.namespace).to_owned(),
            key: shortened(header.key).to_owned(),
        });
    };
    let mut reply = Frame::response_to(request);
    KvValueReply { value: Some(&value) }.encode(&mut reply.ext);
    Ok(reply)
}

pub(crate) fn delete(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, Problem> {
    let header = KvKeyHeader::decode(&request.ext)?;
    if names.kv.value(header.namespace, header.key).is_none() {
        return Ok(Served::Now(Frame::response_to(request)));
    }
    let (namespace, key) = (header.namespace.to_owned(), header.key.to_owned());
    names.aside(&names.disk, conn, request, 0, move |names, answer| {
        if names.kv.delete(&namespace, &key)? {
            tracing::info!(namespace, key, "KV configuration deleted");
        }
        Ok(answer)
    })
}

pub(crate) fn list(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = KvNamespaceHeader::decode(&request.ext)?;
    let list = names.kv.list(header.namespace);
    let body = list.ok_or_else(|| Problem::NoNamespace(shortened(header.namespace).to_owned()))?;
    Ok(Frame::response_to(request).with_body(body))
}
