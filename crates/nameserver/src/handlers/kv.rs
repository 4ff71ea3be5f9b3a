//! The KV configuration: 100 put, 101 get, 102 delete, 219 list. Changes wait for the disk, so the `disk` thread makes them.

use std::sync::Arc;

use net::Connection;
use protocol::Frame;
use protocol::kv::{KvKeyHeader, KvNamespaceHeader, KvValueReply, PutKvHeader};

use crate::error::RequestError;
use crate::names::{checked, truncated};
use crate::server::{NameServer, Served};

pub(crate) fn put(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    let header = PutKvHeader::decode(&request.ext)?;
    let namespace = checked("namespace", header.namespace)?.to_owned();
    let key = checked("key", header.key)?.to_owned();
    let value = header.value.to_owned();
    names.serve_on(&names.disk, conn, request, value.len(), move |names, answer| {
        if names.kv.put(&namespace, &key, &value)? {
            tracing::info!(namespace, key, value = truncated(&value), "KV configuration changed");
        }
        Ok(answer)
    })
}

pub(crate) fn value(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = KvKeyHeader::decode(&request.ext)?;
    let Some(value) = names.kv.value(header.namespace, header.key) else {
        return Err(RequestError::NoKey {
            namespace: truncated(header.namespace).to_owned(),
            key: truncated(header.key).to_owned(),
        });
    };
    let mut reply = Frame::response_to(request);
    KvValueReply { value: Some(&value) }.encode(&mut reply.ext);
    Ok(reply)
}

pub(crate) fn delete(names: &NameServer, conn: &Arc<Connection>, request: &Frame) -> Result<Served, RequestError> {
    let header = KvKeyHeader::decode(&request.ext)?;
    if names.kv.value(header.namespace, header.key).is_none() {
        return Ok(Served::Now(Frame::response_to(request)));
    }
    let (namespace, key) = (header.namespace.to_owned(), header.key.to_owned());
    names.serve_on(&names.disk, conn, request, 0, move |names, answer| {
        if names.kv.delete(&namespace, &key)? {
            tracing::info!(namespace, key, "KV configuration deleted");
        }
        Ok(answer)
    })
}

pub(crate) fn list(names: &NameServer, request: &Frame) -> Result<Frame, RequestError> {
    let header = KvNamespaceHeader::decode(&request.ext)?;
    let list = names.kv.list(header.namespace);
    let body = list.ok_or_else(|| RequestError::NoNamespace(truncated(header.namespace).to_owned()))?;
    Ok(Frame::response_to(request).with_body(body))
}
