//! Name servers: settings, key-value configuration, write permission of brokers. They do not share state, so changes go to each.

use crate::broker::{Tables, parsed, setting, table};
use crate::{Changes, Cluster};

/// The settings of each name server.
pub async fn settings(cluster: &Cluster) -> Tables {
    let mut servers = Vec::new();
    for address in cluster.name_servers() {
        let answer = cluster.client().name_server_config(address).await;
        servers.push(table(address.clone(), answer.map(|text| parsed(&text))));
    }
    Tables { servers }
}

/// Changes a setting of each name server.
pub async fn update(cluster: &Cluster, key: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = cluster
            .client()
            .update_name_server_config(address, &format!("{key}={value}\n"))
            .await;
        changes.note(address, setting(key, value, &outcome), outcome);
    }
    changes
}

/// Sets a key of the key-value configuration.
pub async fn put_kv(cluster: &Cluster, namespace: &str, key: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = cluster.client().put_kv(address, namespace, key, value).await;
        changes.note(address, format!("set {namespace}/{key} to {value}"), outcome);
    }
    changes
}

/// Deletes a key of the key-value configuration.
pub async fn delete_kv(cluster: &Cluster, namespace: &str, key: &str) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = cluster.client().delete_kv(address, namespace, key).await;
        changes.note(address, format!("delete {namespace}/{key}"), outcome);
    }
    changes
}

/// Removes or restores the write permission of a broker's topics.
pub async fn set_writeable(cluster: &Cluster, broker: &str, writeable: bool) -> Changes {
    let mut changes = Changes::default();
    for address in cluster.name_servers() {
        let outcome = match writeable {
            true => cluster.client().add_write_perm(address, broker).await,
            false => cluster.client().wipe_write_perm(address, broker).await,
        };
        let word = if writeable { "allow" } else { "forbid" };
        let step = match &outcome {
            Ok(topics) => format!("{word} writing to broker {broker}: {topics} topics changed"),
            Err(_) => format!("{word} writing to broker {broker}"),
        };
        changes.note(address, step, outcome);
    }
    changes
}
