use super::*;
use proptest::prelude::*;
use serde_json::{Map, json};

fn whole(header: &[u8], encoding: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
    out.extend_from_slice(&(u32::from(encoding) << 24 | header.len() as u32).to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out
}

fn decode_json(header: &str) -> Result<Frame, FrameError> {
    decode(&mut whole(header.as_bytes(), 0, b""), MAX_FRAME_LEN).map(|frame| frame.expect("a whole frame"))
}

#[test]
fn a_frame_is_decoded_only_when_complete() {
    let frame = Frame::request(310).with_field("b", "t").with_body(&b"hello"[..]);
    let bytes = frame.to_bytes();
    for cut in 0..bytes.len() {
        let mut partial = BytesMut::from(&bytes[..cut]);
        assert_eq!(decode(&mut partial, MAX_FRAME_LEN), Ok(None));
        assert_eq!(partial.len(), cut);
    }
    let mut twice = BytesMut::from(&[&bytes[..], &bytes[..]].concat()[..]);
    assert_eq!(decode(&mut twice, MAX_FRAME_LEN), Ok(Some(frame.clone())));
    assert_eq!(decode(&mut twice, MAX_FRAME_LEN), Ok(Some(frame)));
    assert!(twice.is_empty());
}

#[test]
fn impossible_lengths_are_refused_from_the_first_bytes() {
    let refused = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), 1 << 20).expect_err("refused");
    assert_eq!(
        refused(&[0x7f, 0xff, 0xff, 0xff]),
        FrameError::TooLong {
            len: 0x8000_0003,
            max: 1 << 20
        }
    );
    assert_eq!(
        refused(&[0xff, 0xff, 0xff, 0xff]),
        FrameError::TooLong {
            len: 0x1_0000_0003,
            max: 1 << 20
        }
    );
    assert_eq!(refused(&[0, 0, 0, 3]), FrameError::Lengths);
    assert_eq!(refused(&[0, 0, 0, 9, 0, 0, 0, 6]), FrameError::Lengths);
    assert_eq!(refused(&[0, 0, 0, 9, 7, 0, 0, 2]), FrameError::Encoding(7));
    assert_eq!(missing(&[0, 0, 0, 9, 0, 0, 0, 2], 1 << 20), Ok(5));
    assert_eq!(missing(&[0, 0, 0], 1 << 20), Ok(5));
}

#[test]
fn variants_of_clients_are_accepted() {
    let frame = decode_json(
        r#" { "opaque" : 7, "unknown":{"a":[1,{"b":null}],"c":-1.5e3}, "extFields":{"n":5,"t":true,"z":null,"s":"x"}, "code":"10",
            "language":"KLINGON", "remark":null } "#,
    )
    .expect("accepted");
    assert_eq!((frame.code, frame.opaque, frame.version, frame.flag), (10, 7, 0, 0));
    assert_eq!(frame.language, Language::Other);
    assert_eq!(frame.remark, None);
    assert_eq!(frame.ext, Ext::new().with("n", 5).with("t", true).with("s", "x"));
    assert_eq!(decode_json(r#"{"language":9}"#).expect("accepted").language, Language::Go);
    assert_eq!(decode_json("{}").expect("accepted"), Frame::blank());
    assert_eq!(decode_json(r#"{"extFields":null}"#).expect("accepted").ext.len(), 0);
}

#[test]
fn escapes_are_undone() {
    let frame = decode_json(r#"{"extFields":{"i":"K\u0001V\u0002é\uD83D\uDE00\ud83d!\/\n","\u0069\u0064":"x"},"remark":"a\"b"}"#)
        .expect("accepted");
    assert_eq!(frame.ext.text("i"), Some("K\u{1}V\u{2}é😀?!/\n"));
    assert_eq!(frame.ext.text("id"), Some("x"));
    assert_eq!(frame.remark.as_deref(), Some("a\"b"));
}

#[test]
fn fields_that_are_not_utf8_are_read_as_java_reads_them_except_message_properties() {
    const GBK: &[u8] = b"\xb6\xa9\xb5\xa5";
    let read = "\u{fffd}".repeat(4);
    let fields = |frame: &Frame| {
        assert_eq!(frame.ext.text("subscription"), Some(&*read));
        assert_eq!(frame.ext.text("topic"), Some("订"));
        assert_eq!(crate::kv::KvKeyHeader::decode(&frame.ext).map(|header| header.key), Ok(&*read));
        let mut pull = frame.ext.clone();
        for name in ["consumerGroup", "queueId", "queueOffset", "maxMsgNums", "sysFlag"] {
            pull.push(name, 0);
        }
        let pull = crate::pull::PullHeader::decode(&pull).expect("a pull");
        assert_eq!((pull.topic, pull.subscription), ("订", Some(&*read)));
        for name in ["i", "properties"] {
            assert_eq!(frame.ext.bytes(name), Some(&[b"TAGS\x01", GBK, b"\x02"].concat()[..]));
        }
    };
    let names: [(&[u8], &[u8]); 6] = [
        (b"subscription", GBK),
        (b"i", b"TAGS\\u0001\xb6\xa9\xb5\xa5\\u0002"),
        (b"properties", b"TAGS\x01\xb6\xa9\xb5\xa5\x02"),
        (b"key", GBK),
        (b"namespace", b"n"),
        (b"topic", "订".as_bytes()),
    ];
    let pairs: Vec<Vec<u8>> = names
        .iter()
        .map(|(name, value)| [b"\"", *name, b"\":\"", *value, b"\""].concat())
        .collect();
    let json = [&b"{\"code\":310,\"extFields\":{"[..], &pairs.join(&b','), &b"}}"[..]].concat();
    fields(&decode(&mut whole(&json, 0, b""), MAX_FRAME_LEN).expect("decoded").expect("whole"));

    let mut ext = Vec::new();
    for (name, value) in names {
        let value = if name == b"i" { names[2].1 } else { value };
        ext.extend((name.len() as u16).to_be_bytes().iter().chain(name));
        ext.extend((value.len() as u32).to_be_bytes().iter().chain(value));
    }
    let header = [&[0; 17][..], &(ext.len() as u32).to_be_bytes(), &ext].concat();
    fields(&decode(&mut whole(&header, 1, b""), MAX_FRAME_LEN).expect("decoded").expect("whole"));

    // Beyond the limit of replaced text a field is not text.
    let large = [&b"{\"extFields\":{\"x\":\""[..], &vec![0xff; 1 << 20], b"\"}}"].concat();
    let frame = decode(&mut whole(&large, 0, b""), MAX_FRAME_LEN).expect("decoded").expect("whole");
    assert_eq!(frame.ext.text("x"), None);
}

/// Measured with `RemotingCommand` of Apache 5.5.0.
#[test]
fn headers_are_read_in_fastjsons_notations_and_types() {
    let codes = [
        (r#"{"code":5.0}"#, 5),
        (r#"{"code":"5.0"}"#, 5),
        (r#"{"code":'5'}"#, 5),
        (r#"{"code":05}"#, 5),
        (r#"{"code":+5}"#, 5),
        (r#"{"code":5L}"#, 5),
        (r#"{"code":.5}"#, 0),
        (r#"{"code":""}"#, 0),
        (r#"{"code":null}"#, 0),
        (r#"{"code":true}"#, 1),
        (r#"{"code":[5]}"#, 5),
        (r#"{"code":{}}"#, 0),
        (r#"{"code":5,"code":6}"#, 6),
        (r#"{"code":5,}"#, 5),
        (r#"{"code":5},"#, 5),
        (r#"{"flag":1 "code":5}"#, 5),
        (r#"/*x*/{"code":5}//x"#, 5),
        (r#"{'x':"\q","code":5.0}"#, -1),
    ];
    for (header, code) in codes {
        let frame = decode_json(header);
        assert_eq!(frame.map_or(-1, |frame| frame.code), code, "{header}");
    }
    let frame = decode_json(
        r#"{"code":"5","flag":true,"opaque":"7","version":"455","language":"go","remark":{"a": 1},
            'extFields':{"a":5,"b":true,"c":null,"d":1.50,"e":1e3,"f":[1, "x"],"g":["x"],"h":"","\x69":'it"s',"a":6,}}"#,
    )
    .expect("accepted");
    assert_eq!((frame.code, frame.flag, frame.opaque, frame.version), (5, 1, 7, 455));
    assert_eq!((frame.language, frame.remark.as_deref()), (Language::Go, Some(r#"{"a":1}"#)));
    let fields = [
        ("a", "6"),
        ("b", "true"),
        ("d", "1.50"),
        ("e", "1000.0"),
        ("f", r#"[1,"x"]"#),
        ("g", "x"),
        ("h", ""),
        ("i", "it\"s"),
    ];
    assert_eq!(
        frame.ext,
        fields.iter().fold(Ext::new(), |ext, (name, value)| ext.with(name, *value))
    );
    for absent in ["null", "\"\""] {
        let frame = decode_json(&format!("{{'code':5,'extFields':{absent}}}")).expect("accepted");
        assert!(frame.code == 5 && frame.ext.is_empty());
    }
    for (language, read) in [
        ("\"5\"", Language::Erlang),
        ("5", Language::Erlang),
        ("\"x\"", Language::Other),
        ("99", Language::Other),
    ] {
        assert_eq!(
            decode_json(&format!("{{\"language\":{language}}}")).expect("accepted").language,
            read
        );
    }
    let long = format!("{{'code':5,'remark':'{}'}}", "x".repeat(300_000));
    assert!(decode_json(&long).is_err(), "too long for the lenient parser");
}

#[test]
fn malformed_json_is_refused() {
    for header in [
        "",
        "{",
        "}",
        "[]",
        "{}x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"code\":99999999999}",
        "{\"extFields\":5}",
        "{\"extFields\":{\"a\":\"\\q\"}}",
        "{\"extFields\":{\"a\":\"\\u12\"}}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"code\":\" 5\"}",
        "{\"code\":NaN}",
        "{\"code\":5}x",
        "{\"opaque\":\"x\"}",
        "{\"extFields\":[]}",
        "{\"extFields\":{\"a\":abc}}",
        "{\"a\":nul}",
    ] {
        assert!(decode_json(header).is_err(), "{header}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(decode_json(&deep), Err(FrameError::Header("JSON nested too deep")));
    let many: Vec<String> = (0..1000).map(|n| format!("\"{n}\":\"\"")).collect();
    assert_eq!(
        decode_json(&format!("{{\"extFields\":{{{}}}}}", many.join(","))),
        Err(FrameError::Header("too many ext fields"))
    );
}

#[test]
fn binary_lengths_cannot_reach_outside_the_header() {
    let mut header = vec![0, 10, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    header.extend_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(decode(&mut whole(&header, 1, b""), MAX_FRAME_LEN).is_err());
    header.truncate(13);
    header.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 7, 0, 1, b'a', 0, 0, 0, 9]);
    assert!(decode(&mut whole(&header, 1, b"0123456789"), MAX_FRAME_LEN).is_err());
}

#[test]
fn a_pop_request_survives_the_binary_header() {
    let mut frame = Frame::request(200_050).with_field("topic", "t");
    frame.encoding = Encoding::Binary;
    let decoded = decode(&mut BytesMut::from(&frame.to_bytes()[..]), MAX_FRAME_LEN);
    assert_eq!(decoded, Ok(Some(frame)));
}

#[test]
fn a_response_head_equals_the_encoded_frame() {
    for encoding in [Encoding::Json, Encoding::Binary] {
        let mut request = Frame::request(310);
        (request.opaque, request.encoding) = (42, encoding);
        let slow = Frame::response_to(&request)
            .with_code(17)
            .with_remark("no \"t\"\n\u{1}")
            .with_field("q", 3)
            .with_field("m", "x")
            .with_field("f", true);
        let mut out = BytesMut::from(&b"before"[..]);
        let fields = [("q", Value::Int(3)), ("m", Value::Text("x")), ("f", Value::Bool(true))];
        encode_response_head(&mut out, encoding, 42, 17, Some("no \"t\"\n\u{1}"), &fields, 4);
        out.extend_from_slice(b"body");
        assert_eq!(&out[6..], &slow.with_body(&b"body"[..]).to_bytes()[..]);
    }
}

#[test]
fn json_keys_have_the_order_of_the_java_broker() {
    let mut out = BytesMut::new();
    encode_response_head(&mut out, Encoding::Json, 5, 0, None, &[("queueId", Value::Int(1))], 0);
    let text =
        r#"{"code":0,"extFields":{"queueId":"1"},"flag":1,"language":"JAVA","opaque":5,"serializeTypeCurrentRPC":"JSON","version":513}"#;
    assert_eq!(&out[8..], text.as_bytes());
}

prop_compose! {
    fn any_frame()(
        code in 0..4000i32, language in 0..14u8, version in 0..613i32, opaque in any::<i32>(), flag in 0..4i32,
        remark in proptest::option::of(".{1,20}"), binary in any::<bool>(),
        fields in proptest::collection::vec((".{0,10}", "(.|\u{1}|\u{2}|\"|\\\\){1,30}"), 0..20),
        body in proptest::collection::vec(any::<u8>(), 0..50),
    ) -> Frame {
        let mut ext = Ext::new();
        for (key, value) in &fields {
            ext.push(key, value);
        }
        let encoding = if binary { Encoding::Binary } else { Encoding::Json };
        let code = if (3442..=3471).contains(&code) || code == 3543 { 10 } else { code };
        Frame { code, language: Language::from_code(language), version, opaque, flag, remark, encoding, ext, body: body.into() }
    }
}

#[test]
fn text_of_any_length_is_escaped_wherever_it_has_to_be() {
    for len in 0..35 {
        for special in [None, Some('"'), Some('\\'), Some('\u{1}'), Some('\n'), Some('\u{1f}')] {
            for at in 0..len {
                let text: String = (0..len).map(|n| special.filter(|_| n == at).unwrap_or('~')).collect();
                let bytes = Frame::request(1).with_field(&text, &text).to_bytes();
                let header: serde_json::Value = serde_json::from_slice(&bytes[PREFIX_LEN..]).expect("JSON");
                assert_eq!(header["extFields"], json!({ &text: text }));
                assert_eq!(header["version"], json!(version::CURRENT));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_header_is_longer_than_its_computed_maximum(frame in any_frame(), raw in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut frame = frame;
        frame.ext.set_header(raw.clone().into());
        frame.ext.push_span(crate::ext::Span::header(0, raw.len()), crate::ext::Span::header(0, raw.len()));
        let header = frame.to_bytes().len() - PREFIX_LEN - frame.body.len();
        prop_assert!(header <= frame.most_header_bytes(), "{} > {}", header, frame.most_header_bytes());
    }

    #[test]
    fn decoding_undoes_encoding(frame in any_frame()) {
        let mut bytes = BytesMut::from(&frame.to_bytes()[..]);
        prop_assert_eq!(decode(&mut bytes, MAX_FRAME_LEN), Ok(Some(frame)));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn what_we_write_is_valid_json(frame in any_frame()) {
        let frame = Frame { encoding: Encoding::Json, ..frame };
        let bytes = frame.to_bytes();
        let header = &bytes[8..bytes.len() - frame.body.len()];
        let value: serde_json::Value = serde_json::from_slice(header).expect("JSON");
        prop_assert_eq!(&value["code"], &json!(frame.code));
        prop_assert_eq!(value["remark"].as_str(), frame.remark.as_deref());
        for (key, _) in frame.ext.iter() {
            let key = std::str::from_utf8(key).expect("text");
            prop_assert_eq!(value["extFields"][key].as_str(), frame.ext.text(key));
        }
    }

    #[test]
    fn the_scanner_reads_what_serde_json_reads(
        fields in proptest::collection::vec((".{0,12}", "(.|\u{1}|\n|\"|\\\\|😀){0,60}"), 0..12),
        (code, opaque) in (any::<i32>(), any::<i32>()),
        remark in ".{0,30}",
        pretty in any::<bool>(),
    ) {
        let ext: Map<String, serde_json::Value> = fields.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        let value = json!({"code": code, "extFields": ext, "opaque": opaque, "remark": remark, "other": [ext, null, 1.5]});
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("text");
        let frame = decode_json(&text).expect("accepted");
        prop_assert_eq!((frame.code, frame.opaque, frame.remark.as_deref()), (code, opaque, Some(remark.as_str())));
        prop_assert_eq!(frame.ext.len(), ext.len());
        for (key, value) in &ext {
            prop_assert_eq!(frame.ext.text(key), value.as_str());
        }
    }

    #[test]
    fn the_scanner_accepts_every_header_that_serde_json_accepts(text in r#"[\{\}\[\]":,0-9a-c\\un\. -]{0,40}"#) {
        let text = format!("{{\"x\":{text}}}");
        if serde_json::from_str::<Map<String, serde_json::Value>>(&text).is_ok_and(|map| map.len() == 1) {
            prop_assert!(decode_json(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME_LEN);
        for encoding in [0, 1] {
            let _ = decode(&mut whole(&bytes, encoding, b""), MAX_FRAME_LEN);
        }
    }

    #[test]
    fn a_damaged_frame_never_panics(frame in any_frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = frame.to_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME_LEN);
        bytes.truncate(cut.index(bytes.len()));
        let _ = decode(&mut BytesMut::from(&bytes[..]), MAX_FRAME_LEN);
    }
}

/// A frame of these header bytes.
fn of_header(encoding: u8, header: &[u8], body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&((4 + header.len() + body.len()) as u32).to_be_bytes());
    bytes.extend_from_slice(&(u32::from(encoding) << 24 | header.len() as u32).to_be_bytes());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes
}

fn forwarded(frame: &Frame, opaque: i32) -> BytesMut {
    let mut out = BytesMut::from(&b"before"[..]);
    frame.encode_head_as_read(opaque, &mut out);
    out.extend_from_slice(&frame.body);
    out.split_off(6)
}

#[test]
fn a_forwarded_frame_has_the_bytes_that_were_read() {
    let unusual = b"{ \"code\":10, \"opaque\" : 7 ,\"language\":\"KLINGON\",\"more\":[1,{}],\"extFields\":{\"i\":\"a\x01\xff\xfe\",\"opaque\":\"9\"}}";
    let bytes = of_header(0, unusual, b"body");
    let frame = decode(&mut bytes.clone(), MAX_FRAME_LEN).unwrap().unwrap();
    assert_eq!(forwarded(&frame, 7), bytes);
    let other = String::from_utf8_lossy(unusual).replace(": 7 ,", ": -12345678 ,");
    let patched = forwarded(&frame, -12_345_678);
    assert_eq!(String::from_utf8_lossy(&patched[PREFIX_LEN..]), other + "body");
    let read = decode(&mut patched.clone(), MAX_FRAME_LEN).unwrap().unwrap();
    assert_eq!((read.opaque, read.ext.bytes("i")), (-12_345_678, Some(&b"a\x01\xff\xfe"[..])));
}

#[test]
fn a_binary_frame_is_forwarded_with_another_opaque() {
    let sent = Frame {
        encoding: Encoding::Binary,
        opaque: 5,
        ..Frame::request(10).with_field("bname", "b").with_body(&b"x"[..])
    };
    let frame = decode(&mut BytesMut::from(&sent.to_bytes()[..]), MAX_FRAME_LEN).unwrap().unwrap();
    assert_eq!(forwarded(&frame, 5), sent.to_bytes());
    let read = decode(&mut forwarded(&frame, i32::MIN), MAX_FRAME_LEN).unwrap().unwrap();
    assert_eq!(read, Frame { opaque: i32::MIN, ..frame });
}

#[test]
fn a_frame_without_fields_or_opaque_is_forwarded_too() {
    for header in [
        &b"{\"code\":34}"[..],
        b"{\"code\":34,\"extFields\":{\"a\":\"b\"}}",
        b"{}",
        b"{code:34,extFields:{a:'b'}}",
    ] {
        let frame = decode(&mut of_header(0, header, b"b"), MAX_FRAME_LEN).unwrap().unwrap();
        let read = decode(&mut forwarded(&frame, 42), MAX_FRAME_LEN).unwrap().unwrap();
        assert_eq!(read, Frame { opaque: 42, ..frame });
    }
}
