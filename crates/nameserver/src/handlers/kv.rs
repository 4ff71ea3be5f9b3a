//! The KV configuration: 100 put, 101 get, 102 delete, 219 list.

use protocol::kv::{KvKeyHeader, KvNamespaceHeader, KvValueReply, PutKvHeader};
use protocol::{Frame, json};

use crate::NameServer;
use crate::problem::Problem;

pub(crate) fn put(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = PutKvHeader::decode(&request.ext)?;
    names.kv.put(header.namespace, header.key, header.value)?;
    tracing::info!(
        namespace = header.namespace,
        key = header.key,
        value = header.value,
        "KV configuration changed"
    );
    Ok(Frame::response_to(request))
}

pub(crate) fn value(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = KvKeyHeader::decode(&request.ext)?;
    let Some(value) = names.kv.value(header.namespace, header.key) else {
        return Err(Problem::NoKey {
            namespace: header.namespace.to_owned(),
            key: header.key.to_owned(),
        });
    };
    let mut reply = Frame::response_to(request);
    KvValueReply { value: Some(&value) }.encode(&mut reply.ext);
    Ok(reply)
}

pub(crate) fn delete(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = KvKeyHeader::decode(&request.ext)?;
    names.kv.delete(header.namespace, header.key)?;
    tracing::info!(namespace = header.namespace, key = header.key, "KV configuration deleted");
    Ok(Frame::response_to(request))
}

pub(crate) fn list(names: &NameServer, request: &Frame) -> Result<Frame, Problem> {
    let header = KvNamespaceHeader::decode(&request.ext)?;
    let table = names
        .kv
        .namespace(header.namespace)
        .ok_or_else(|| Problem::NoNamespace(header.namespace.to_owned()))?;
    Ok(Frame::response_to(request).with_body(json::write(&table)))
}
