//! Properties of messages, names, ids, handles of popped messages, and Java's properties files.

use crate::Target;
use message::properties::{self, Builder, Indexed};
use message::{id, names};
use protocol::pop::handle::Handle;

/// See the module.
pub const TARGET: Target = Target {
    name: "properties",
    run,
    seeds,
};

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 8] = [
        b"UNIQ_KEY\x01C0A80001000018B4AAC216F2A9F40000\x02WAIT\x01true\x02TAGS\x01TagA\x02KEYS\x01a b\x02",
        b"a\x01b",
        b"# comment\nlistenPort=10911\nbrokerName: \\u0041\\\n  more\n! x\nkey with\\ blank value\n",
        b"7F00000100002A9F0000000000001234",
        b"%RETRY%group",
        b"%DLQ%group%ns",
        b"SCHEDULE_TOPIC_XXXX",
        b"100 1700000000000 60000 3 2 broker-a 5 107",
    ];
    texts.iter().map(|text| text.to_vec()).collect()
}

fn run(data: &[u8]) {
    let found = Indexed::of(data);
    for (name, value) in properties::iter(data) {
        assert!(name.len() + value.len() <= data.len());
        if let Ok(name) = std::str::from_utf8(name) {
            assert!(properties::find(data, name).is_some());
        }
        assert!(!value.is_empty());
    }
    let built = Builder::from_bytes_without(data, &["KEYS"]).with("KEYS", "k").build();
    assert_eq!(properties::find(&built, "KEYS"), Some(&b"k"[..]));
    let _ = (found.tags, config::properties::parse_bytes(data));
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = (names::check_topic(text), names::check_group(text), names::is_system_topic(text));
        let _ = id::parse_offset_id(text);
        if let Ok(handle) = Handle::parse(text) {
            let written = handle.to_string();
            assert_eq!(Handle::parse(&written), Ok(handle));
        }
        let _ = names::popped_topic(text, text);
    }
}
