use super::*;
use crate::heartbeat::{MessageModel, ProducerData};
use crate::queue::MessageQueue;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, PartialEq, Serialize, Deserialize, Default)]
#[serde(default)]
struct Body {
    ints: BTreeMap<i64, String>,
    names: BTreeMap<String, i64>,
    #[serde(with = "object_keys")]
    queues: BTreeMap<MessageQueue, i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn keys_are_written_as_java_writes_them() {
    let body = Body {
        ints: [(0, "a".to_owned()), (-1, "b".to_owned())].into(),
        names: [("5".to_owned(), 1), ("\"q\\".to_owned(), 2), (String::new(), 3)].into(),
        queues: [(MessageQueue::new("t\"", "b\\", 0), 9)].into(),
        text: None,
    };
    let java = r#"{"ints":{-1:"b",0:"a"},"names":{"":3,"\"q\\":2,"5":1},"queues":{{"brokerName":"b\\","queueId":0,"topic":"t\""}:9}}"#;
    assert_eq!(text(write(&body)), java);
    assert_eq!(read::<Body>(java.as_bytes()), Ok(body));
    assert_eq!(
        text(write_standard(&Body {
            ints: [(7, "a".to_owned())].into(),
            ..Body::default()
        })),
        r#"{"ints":{"7":"a"},"names":{},"queues":{}}"#
    );
}

#[test]
fn null_members_and_loose_whitespace_are_read() {
    let body = read::<Body>(b" { \"ints\" : null, \"text\" : \"x\" , \"unknown\": [null, 1, {}] } ").expect("read");
    assert_eq!(
        body,
        Body {
            text: Some("x".to_owned()),
            ..Body::default()
        }
    );
}

/// A field of each kind that bodies have.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Kinds {
    int: i32,
    long: i64,
    flag: bool,
    float: f64,
    text: String,
    maybe: Option<String>,
    model: MessageModel,
    #[serde(deserialize_with = "named_enum::known")]
    maybe_model: Option<MessageModel>,
    codes: Vec<i32>,
    tags: BTreeSet<String>,
    groups: Vec<ProducerData>,
    group: ProducerData,
    table: BTreeMap<String, String>,
    offsets: BTreeMap<i32, i64>,
}

/// Different from what null or empty text mean, so that tests see the difference.
impl Default for Kinds {
    fn default() -> Self {
        Self {
            int: 16,
            long: 16,
            flag: true,
            float: 16.0,
            text: "default".to_owned(),
            maybe: None,
            model: MessageModel::Clustering,
            maybe_model: Some(MessageModel::Broadcasting),
            codes: vec![16],
            tags: ["default".to_owned()].into(),
            groups: Vec::new(),
            group: ProducerData::default(),
            table: BTreeMap::new(),
            offsets: BTreeMap::new(),
        }
    }
}

/// Reads a body with one field in one form, as measured with Apache; `None` if it is refused. The field after it
/// must be read, too.
fn form<T>(name: &str, form: &str, field: impl Fn(Kinds) -> T) -> Option<T> {
    let body = format!(r#"{{"{name}":{form},"maybe":"behind"}}"#);
    let kinds = read::<Kinds>(body.as_bytes()).ok()?;
    assert!(name == "maybe" || kinds.maybe.as_deref() == Some("behind"), "{body}");
    Some(field(kinds))
}

#[test]
fn integers_are_accepted_in_all_forms_of_fastjson() {
    let both = [
        ("5", Some(5)),
        (r#""5""#, Some(5)),
        ("'5'", Some(5)),
        (r#""+5""#, Some(5)),
        (r#""-5""#, Some(-5)),
        ("+5", Some(5)),
        ("-0", Some(0)),
        ("05", Some(5)),
        ("5.0", Some(5)),
        ("5.5", Some(5)),
        ("-5.5", Some(-5)),
        ("5e2", Some(500)),
        ("1.5E1", Some(15)),
        (r#""5.0""#, Some(5)),
        (r#""5.5""#, Some(5)),
        (r#""5e2""#, Some(500)),
        (r#""1,000""#, Some(1000)),
        (r#""""#, Some(0)),
        ("null", Some(0)),
        (r#""null""#, Some(0)),
        ("true", Some(1)),
        ("false", Some(0)),
        (r#""true""#, Some(1)),
        ("[5]", Some(5)),
        ("{}", Some(0)),
        ("5L", Some(5)),
        ("5D", Some(5)),
        (".5", Some(0)),
        ("5.", Some(5)),
        ("-", Some(0)),
        ("5 ", Some(5)),
        ("[]", None),
        ("[5,6]", None),
        (r#"" 5 ""#, None),
        (r#""NULL""#, None),
        (r#""abc""#, None),
        (r#""inf""#, None),
        (r#""NaN""#, None),
        ("NaN", None),
        ("Infinity", None),
        ("undefined", None),
        ("0x1F", None),
        (r#""0x1F""#, None),
        ("1_000", None),
        ("99999999999999999999", None),
        (r#""99999999999999999999""#, None),
        (r#""٣""#, None),
        ("{\"a\":5}", None),
    ];
    for (text, wanted) in both {
        assert_eq!(form("int", text, |kinds| kinds.int), wanted, "{text}");
        assert_eq!(form("long", text, |kinds| kinds.long), wanted.map(i64::from), "{text}");
    }
    for text in ["2147483648", r#""2147483648""#] {
        assert_eq!(form("int", text, |kinds| kinds.int), None, "{text}");
        assert_eq!(form("long", text, |kinds| kinds.long), Some(1 << 31), "{text}");
    }
    assert_eq!(form("int", "123456789012.0", |kinds| kinds.int), Some(-1_097_262_572));
    assert_eq!(form("long", "1700000000000.0", |kinds| kinds.long), Some(1_700_000_000_000));
    assert_eq!(form("long", "9007199254740993.9", |kinds| kinds.long), Some(9_007_199_254_740_993));
    assert_eq!(form("long", r#""9223372036854775807""#, |kinds| kinds.long), Some(i64::MAX));
    assert_eq!(form("long", "9223372036854775808", |kinds| kinds.long), None);
}

#[test]
fn booleans_are_accepted_in_all_forms_of_fastjson() {
    let forms = [
        ("true", Some(true)),
        ("false", Some(false)),
        (r#""true""#, Some(true)),
        (r#""False""#, Some(false)),
        (r#""TRUE""#, Some(true)),
        ("'true'", Some(true)),
        ("1", Some(true)),
        ("01", Some(true)),
        ("-1", Some(true)),
        ("0", Some(false)),
        ("2", Some(false)),
        ("10", Some(false)),
        ("1.0", Some(false)),
        ("1.5", Some(false)),
        ("1e0", Some(false)),
        (r#""1""#, Some(true)),
        (r#""0""#, Some(false)),
        (r#""Y""#, Some(true)),
        (r#""N""#, Some(false)),
        (r#""""#, Some(false)),
        ("null", Some(false)),
        (r#""null""#, Some(false)),
        ("TRUE", None),
        (r#""2""#, None),
        (r#""y""#, None),
        (r#""yes""#, None),
        (r#"" ""#, None),
        ("[]", None),
        ("{}", None),
    ];
    for (text, wanted) in forms {
        assert_eq!(form("flag", text, |kinds| kinds.flag), wanted, "{text}");
    }
}

#[test]
fn floats_are_accepted_in_all_forms_of_fastjson() {
    let forms = [
        ("5", Some(5.0)),
        (r#""5.5""#, Some(5.5)),
        (r#""""#, Some(0.0)),
        ("null", Some(0.0)),
        ("true", Some(1.0)),
        ("[5]", Some(5.0)),
        ("1e400", Some(f64::INFINITY)),
        (r#""x""#, None),
        (r#""1,000.5""#, None),
        ("{}", None),
    ];
    for (text, wanted) in forms {
        assert_eq!(form("float", text, |kinds| kinds.float), wanted, "{text}");
    }
    assert!(form("float", "NaN", |kinds| kinds.float).unwrap().is_nan());
}

#[test]
fn texts_are_accepted_in_all_forms_of_fastjson() {
    let forms = [
        (r#""a""#, Some("a")),
        ("'a\"b'", Some("a\"b")),
        ("5", Some("5")),
        ("00", Some("0")),
        ("-0", Some("0")),
        ("+007", Some("7")),
        ("-3", Some("-3")),
        ("100L", Some("100")),
        ("5.0", Some("5.0")),
        ("1.50", Some("1.50")),
        ("123456789.123456789123", Some("123456789.123456789123")),
        ("12345678901234567890123", Some("12345678901234567890123")),
        ("1e3", Some("1000.0")),
        ("1.0E10", Some("1.0E10")),
        ("1E-5", Some("1.0E-5")),
        ("1e400", Some("Infinity")),
        ("true", Some("true")),
        ("null", Some("")),
        ("[]", Some("[]")),
        ("{}", Some("{}")),
        (r#"["a"]"#, Some("a")),
        ("[null]", Some("")),
        ("[5]", Some("[5]")),
        (r#"[["a"]]"#, Some(r#"[["a"]]"#)),
        (r#"[1, 2.50, true, null, "\u00e9/"]"#, Some(r#"[1,2.50,true,null,"é/"]"#)),
        (r#"{"a" : "x", "b":1}"#, Some(r#"{"a":"x","b":1}"#)),
        (r#""\u0041\x41\/\'\v\0\7\F\#\~""#, Some("AA/'\u{b}\0\u{7}\u{c}#~")),
        (r#""\xe9""#, Some("é")),
        (r#""\ud83d\ude00""#, Some("😀")),
        (r#""\ud83d""#, Some("?")),
        (r#""\ud83d\u0041""#, Some("?A")),
        (r#""\ude00x""#, Some("?x")),
        ("\"a\u{1}b\nc\td\0\"", Some("a\u{1}b\nc\td\0")),
        (r#""\q""#, None),
        (r#""\u12""#, None),
        ("abc", None),
        ("NaN", Some("NaN")),
        ("undefined", None),
        ("TRUE", None),
    ];
    for (text, wanted) in forms {
        assert_eq!(form("text", text, |kinds| kinds.text).as_deref(), wanted, "{text}");
        let maybe = form("maybe", text, |kinds| kinds.maybe).map(Option::unwrap_or_default);
        // A repeated field: the last one counts.
        assert_eq!(maybe.as_deref(), wanted.map(|_| "behind"), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_the_text_that_java_reads() {
    let body = b"{\"text\":\"\xb6\xa9\",\"\xb5\":1,\"maybe\":\"\xe8\xae\\t\"}";
    let kinds = read::<Kinds>(body).unwrap();
    assert_eq!((&*kinds.text, kinds.maybe.as_deref()), ("\u{fffd}\u{fffd}", Some("\u{fffd}\t")));
}

#[test]
fn enums_are_names_in_any_case_and_ordinals_and_fall_back() {
    use MessageModel::{Broadcasting, Clustering, LiteSelective};
    let forms = [
        (r#""BROADCASTING""#, Some(Broadcasting)),
        (r#""clustering""#, Some(Clustering)),
        (r#""Clustering""#, Some(Clustering)),
        (r#""lite_selective""#, Some(LiteSelective)),
        ("'CLUSTERING'", Some(Clustering)),
        ("0", Some(Broadcasting)),
        ("1", Some(Clustering)),
        ("1.0", Some(Clustering)),
        (r#""0""#, Some(Broadcasting)),
        (r#""1""#, Some(Clustering)),
        (r#""01""#, Some(Clustering)),
        (r#""+1""#, Some(Clustering)),
        (r#""-1""#, None),
        (r#""x""#, None),
        (r#""""#, None),
        (r#""null""#, None),
        (r#"" CLUSTERING ""#, None),
        (r#""CLUSTER""#, None),
        (r#""9""#, None),
        ("9", None),
        ("-1", None),
        ("null", None),
        ("true", None),
    ];
    for (text, wanted) in forms {
        assert_eq!(
            form("model", text, |kinds| kinds.model),
            Some(wanted.unwrap_or(Clustering)),
            "{text}"
        );
        assert_eq!(form("maybe_model", text, |kinds| kinds.maybe_model), Some(wanted), "{text}");
    }
    for text in ["[]", "{}", r#"["CLUSTERING"]"#] {
        assert_eq!(form("model", text, |kinds| kinds.model), None, "{text}");
    }
}

#[test]
fn lists_are_accepted_in_all_forms_of_fastjson() {
    let codes = [
        ("[1,2]", Some(vec![1, 2])),
        (r#"["1","2"]"#, Some(vec![1, 2])),
        ("[1.0,1.5,true,[1],+1,-1,1L,5e2]", Some(vec![1, 1, 1, 1, 1, -1, 1, 500])),
        (r#"["+1","1.5"]"#, Some(vec![1, 1])),
        ("[1,]", Some(vec![1])),
        ("[1 2]", Some(vec![1, 2])),
        ("[null]", Some(vec![])),
        ("[]", Some(vec![])),
        ("null", Some(vec![])),
        (r#""""#, Some(vec![])),
        ("1", Some(vec![1])),
        (r#""1""#, Some(vec![1])),
        (r#"["abc"]"#, None),
        (r#"[" 1"]"#, None),
        ("[2147483648]", None),
        ("[,1]", None),
        ("[1,,2]", None),
    ];
    for (text, wanted) in codes {
        assert_eq!(form("codes", text, |kinds| kinds.codes), wanted, "{text}");
    }
    let tags = [
        (r#"["a","b","a"]"#, Some(vec!["a", "b"])),
        (
            r#"[1,true,2.5,["a"],{"a":1},null]"#,
            Some(vec!["1", "2.5", "a", "true", r#"{"a":1}"#]),
        ),
        (r#""a,b""#, Some(vec!["a,b"])),
        (r#"{"a":1}"#, Some(vec![r#"{"a":1}"#])),
        ("['a',]", Some(vec!["a"])),
        ("null", Some(vec![])),
    ];
    for (text, wanted) in tags {
        let wanted = wanted.map(|tags| tags.into_iter().map(str::to_owned).collect());
        assert_eq!(form("tags", text, |kinds| kinds.tags), wanted, "{text}");
    }
}

#[test]
fn objects_are_accepted_in_all_forms_of_fastjson() {
    let names = |kinds: Kinds| kinds.groups.into_iter().map(|group| group.group_name).collect::<Vec<_>>();
    let lists = [
        (r#"[{"groupName":"g"},{"groupName":5},null,{},""]"#, Some(vec!["g", "5", "", ""])),
        (r#"[{'groupName':'g'}{'groupName':'h'},]"#, Some(vec!["g", "h"])),
        (r#"[{"groupName":"g","x":{"y":[1,{"z":null}]}}]"#, Some(vec!["g"])),
        (r#"{"groupName":"g"}"#, Some(vec!["g"])),
        (r#""""#, Some(vec![])),
        ("null", Some(vec![])),
        (r#""x""#, None),
        (r#"["g"]"#, None),
        ("[5]", None),
        ("5", None),
    ];
    for (text, wanted) in lists {
        let wanted = wanted.map(|names| names.into_iter().map(str::to_owned).collect());
        assert_eq!(form("groups", text, names), wanted, "{text}");
    }
    for (text, is_taken) in [("null", true), (r#""""#, true), ("{}", true), (r#""x""#, false), ("5", false)] {
        assert_eq!(
            form("group", text, |kinds| kinds.group),
            is_taken.then(ProducerData::default),
            "{text}"
        );
    }
}

#[test]
fn maps_are_accepted_in_all_forms_of_fastjson() {
    let tables = [
        (r#"{"a":"b","c":5,"d":true,"e":1.50,"f":{},"g":["x"],"h":"","i":null}"#, true),
        (r#"{'a':'b',"c":"1","c":"5","d":'true',"e":"1.50","f":"{}","g":"x","h":"",}"#, true),
        ("[]", false),
        (r#""x""#, false),
        ("5", false),
    ];
    let wanted = [
        ("a", "b"),
        ("c", "5"),
        ("d", "true"),
        ("e", "1.50"),
        ("f", "{}"),
        ("g", "x"),
        ("h", ""),
    ];
    let wanted: BTreeMap<_, _> = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for (text, is_taken) in tables {
        assert_eq!(form("table", text, |kinds| kinds.table), is_taken.then(|| wanted.clone()), "{text}");
    }
    for nothing in ["null", r#""""#, "{}"] {
        assert_eq!(form("table", nothing, |kinds| kinds.table), Some(BTreeMap::new()), "{nothing}");
    }
    let offsets = [
        (r#"{0:5,"1":"6",'2':7.0,"3":true}"#, Some(vec![(0, 5), (1, 6), (2, 7), (3, 1)])),
        (
            r#"{"+0":5,"1.0":6,2.0:7,-1:8,03:9}"#,
            Some(vec![(-1, 8), (0, 5), (1, 6), (2, 7), (3, 9)]),
        ),
        ("{0:5,0:6}", Some(vec![(0, 6)])),
        (r#"{0:null,1:1}"#, Some(vec![(1, 1)])),
        (r#"{"x":5}"#, None),
        (r#"{" 0":5}"#, None),
        (r#"{2147483648:5}"#, None),
        (r#"{0:{"a":1}}"#, None),
    ];
    for (text, wanted) in offsets {
        let wanted = wanted.map(|offsets| offsets.into_iter().collect());
        assert_eq!(form("offsets", text, |kinds| kinds.offsets), wanted, "{text}");
    }
    let body = read::<Body>(br#"{"queues":{{'queueId':"1","topic":"t",}:"5",{"queueId":2.0}:true}}"#).unwrap();
    assert_eq!(
        body.queues,
        [(MessageQueue::new("t", "", 1), 5), (MessageQueue::new("", "", 2), 1)].into()
    );
}

#[test]
fn bodies_are_accepted_in_all_notations_of_fastjson() {
    let taken = [
        r#"{"text":"a"} "#,
        r#"{"text":"a"},"#,
        r#"{"text":"a",}"#,
        r#"{'text':'a'}"#,
        r#"{text:"a"}"#,
        r#"{"text":"x","text":"a"}"#,
        r#"{"maybe":"b" "text":"a"}"#,
        r#"/*c*/{"text":"a"}"#,
        r#"{/*c*/"text":"a"/*d**/}//x"#,
        "//x\n{\"text\":\"a\"}",
        r#"{"te\u0078t":"a"}"#,
        r#"{"unknown":[1,{"x":null},],"text":"a"}"#,
        r#"{"unknown":'it"s',"text":"a"}"#,
        r#"{"unknown":1L,"text":"a"}"#,
        r#"{"@type":"java.lang.String","$ref":"$","":5,"text":"a"}"#,
        "\0{\u{c}\"text\":\u{8}\"a\"}\0",
    ];
    for text in taken {
        assert_eq!(read::<Kinds>(text.as_bytes()).unwrap().text, "a", "{text}");
    }
    // Names are compared exactly: neither case nor separators are guessed.
    for other in ["Text", "TEXT", "te_xt", " text"] {
        let body = format!(r#"{{"{other}":"a","maybe":'b'}}"#);
        assert_eq!(read::<Kinds>(body.as_bytes()).unwrap().text, "default", "{body}");
    }
}

#[test]
fn an_error_names_the_value_and_the_expected_type() {
    let told = |body: &str| read::<Kinds>(body.as_bytes()).unwrap_err().to_string();
    assert_eq!(told(r#"{"int":"abc"}"#), r#"malformed JSON: "abc" is not an integer of 32 bits"#);
    let long = format!(r#"{{"flag":"{}"}}"#, "x".repeat(1 << 20));
    assert!(told(&long).len() < 100, "{}", told(&long).len());
    assert!(told("{").contains("EOF"));
}

#[test]
fn invalid_json_is_refused() {
    for bad in [
        "",
        " ",
        "null",
        "5",
        "\"x\"",
        "{",
        "{0:1",
        "{0:1}}",
        "{,}",
        "[1,2",
        "{\"a\"1}",
        "{\"a\"=1}",
        "{\"a\";1}",
        "{{}:1",
        "x",
        "{\"a\":1,,}",
        "{}{}",
        "/*{}",
        "\u{feff}{}",
    ] {
        assert!(read::<Body>(bad.as_bytes()).is_err(), "{bad}");
    }
    assert!(read::<serde_json::Value>("[".repeat(1 << 20).as_bytes()).is_err());
    assert!(read::<serde_json::Value>(format!("{{0:[{}0]}}", "0,".repeat(2 << 20)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn reading_undoes_writing(
        ints in proptest::collection::btree_map(any::<i64>(), ".*", 0..5),
        names in proptest::collection::btree_map(".*", any::<i64>(), 0..5),
        queues in proptest::collection::btree_map((".*", ".*", any::<i32>()), any::<i64>(), 0..5),
        text in proptest::option::of(".*"),
    ) {
        let queues = queues.into_iter().map(|((topic, broker, id), offset)| (MessageQueue::new(topic, broker, id), offset)).collect();
        let body = Body { ints, names, queues, text };
        prop_assert_eq!(read::<Body>(&write(&body)), Ok(body));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), like in r#"[\{\}\[\]":,0-9a-c\\un. -]{0,60}"#) {
        let _ = read::<Body>(&bytes);
        let _ = read::<serde_json::Value>(like.as_bytes());
    }
}
