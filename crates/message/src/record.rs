//! The stored record: the unit of the commit log and of a pull reply. All integers big-endian.
//!
//! | # | field | bytes | notes |
//! |---|---|---|---|
//! | 1 | total size | 4 | itself included |
//! | 2 | magic | 4 | V1 or V2; a filler has its own |
//! | 3 | body CRC | 4 | CRC-32 with the top bit cleared |
//! | 4 | queue id | 4 | |
//! | 5 | flag | 4 | the user's |
//! | 6 | queue offset | 8 | |
//! | 7 | log offset | 8 | |
//! | 8 | system flag | 4 | [`crate::sys_flag`] |
//! | 9 | born timestamp | 8 | |
//! | 10 | born host | 8 or 20 | address, port as 4 bytes |
//! | 11 | store timestamp | 8 | |
//! | 12 | store host | 8 or 20 | |
//! | 13 | reconsume times | 4 | |
//! | 14 | prepared transaction offset | 8 | |
//! | 15 | body length, body | 4 + n | |
//! | 16 | topic length, topic | 1 (V1) or 2 (V2) + n | V2 when the topic has more than 127 bytes |
//! | 17 | properties length, properties | 2 + n | |
//!
//! A log file ends with a filler: the number of remaining bytes (4) and its magic (4). A size of zero marks
//! space that was never written.
//!
//! The CRC covers the body only, so a torn record is also recognised by impossible field values: see
//! [`Record::is_plausible`].

use crate::{LogOffset, QueueOffset, sys_flag};
use bytes::{BufMut, BytesMut};
use std::net::{IpAddr, SocketAddr};

/// Magic of a record whose topic length is one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of a record whose topic length is two bytes.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the filler at a log file's end.
const MAGIC_FILLER: u32 = 0xCBD4_3194;
/// Bytes of a filler's header, which every log file reserves.
pub const FILLER_LEN: usize = 8;
/// Bytes of the smallest record: IPv4 hosts, no body, topic or properties.
pub const MIN_LEN: usize = 91;
/// Highest queue offset: the file positions of its entry, and of the file after it, still fit into an `i64`.
const MAX_QUEUE_OFFSET: i64 = i64::MAX / 32;
/// Position of the store timestamp in a record with an IPv4 born host.
const STORE_TIMESTAMP_AT_V4: usize = 56;
/// Bytes of a record up to and including its store timestamp, for hosts of any length: what
/// [`peek_store_timestamp`] needs.
pub const STORE_TIMESTAMP_END: usize = STORE_TIMESTAMP_AT_V4 + 12 + 8;

/// Bytes of a record up to its body, for hosts of any length: what [`Front::parse`] needs.
pub const FRONT_LEN: usize = MIN_LEN - 3 + 24;

/// A message to be appended: everything but what the log assigns.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Topic name, at most 32,767 bytes.
    pub topic: &'a str,
    /// Queue of the topic, not negative.
    pub queue_id: i32,
    /// The user's flag.
    pub flag: i32,
    /// System flag; host bits are set by [`Draft::encode`] from the addresses.
    pub sys_flag: i32,
    /// When the producer created the message, epoch milliseconds.
    pub born_timestamp: i64,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// This broker's address.
    pub store_host: SocketAddr,
    /// How many times it was consumed before.
    pub reconsume_times: i32,
    /// Log offset of the half message of a committed transaction, else 0.
    pub prepared_offset: i64,
    /// The body as sent.
    pub body: &'a [u8],
    /// The encoded properties, with `added_properties` at most [`crate::properties::MAX_BYTES`].
    pub properties: &'a [u8],
    /// Properties that the broker appends to them. The caller adds the separator if one is needed.
    pub added_properties: &'a [u8],
    /// CRC of the body, from [`body_crc`].
    pub body_crc: u32,
}

/// What the log assigns to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Position in its queue.
    pub queue_offset: QueueOffset,
    /// Position in the log.
    pub log_offset: LogOffset,
    /// When it was stored, epoch milliseconds.
    pub store_timestamp: i64,
}

/// The CRC that a record stores of its body.
#[must_use]
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

const fn host_len(v6: bool) -> usize {
    if v6 { 20 } else { 8 }
}

impl<'a> Draft<'a> {
    /// A message without flags, properties, timestamps and hosts. Callers set the fields that they know.
    #[must_use]
    pub fn new(topic: &'a str, queue_id: i32, body: &'a [u8]) -> Self {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            topic,
            queue_id,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: unspecified,
            store_host: unspecified,
            reconsume_times: 0,
            prepared_offset: 0,
            body,
            properties: b"",
            added_properties: b"",
            body_crc: body_crc(body),
        }
    }

    /// A copy of a stored message, without what the log assigns and without its transaction.
    #[must_use]
    pub fn of(record: &Record<'a>) -> Self {
        Self {
            topic: record.topic,
            queue_id: record.queue_id,
            flag: record.flag,
            sys_flag: record.sys_flag,
            born_timestamp: record.born_timestamp,
            born_host: record.born_host,
            store_host: record.store_host,
            reconsume_times: record.reconsume_times,
            prepared_offset: 0,
            body: record.body,
            properties: record.properties,
            added_properties: b"",
            body_crc: record.body_crc,
        }
    }

    /// Bytes of the record.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let hosts = host_len(self.born_host.is_ipv6()) + host_len(self.store_host.is_ipv6());
        let topic = if self.is_v2() { 2 } else { 1 } + self.topic.len();
        4 * 5 + 8 * 2 + 4 + 8 + 8 + hosts + 4 + 8 + 4 + self.body.len() + topic + 2 + self.properties_len()
    }

    fn properties_len(&self) -> usize {
        self.properties.len() + self.added_properties.len()
    }

    fn is_v2(&self) -> bool {
        self.topic.len() > 127
    }

    /// Writes the record at the end of `out`.
    pub fn encode(&self, placement: Placement, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        out.put_u32(self.encoded_len() as u32);
        out.put_u32(if self.is_v2() { MAGIC_V2 } else { MAGIC_V1 });
        out.put_u32(self.body_crc);
        out.put_i32(self.queue_id);
        out.put_i32(self.flag);
        out.put_i64(placement.queue_offset.0);
        out.put_i64(placement.log_offset.0);
        out.put_i32(self.sys_flag_with_hosts());
        out.put_i64(self.born_timestamp);
        put_host(out, self.born_host);
        out.put_i64(placement.store_timestamp);
        put_host(out, self.store_host);
        out.put_i32(self.reconsume_times);
        out.put_i64(self.prepared_offset);
        out.put_u32(self.body.len() as u32);
        out.put_slice(self.body);
        if self.is_v2() {
            out.put_u16(self.topic.len() as u16);
        } else {
            out.put_u8(self.topic.len() as u8);
        }
        out.put_slice(self.topic.as_bytes());
        out.put_u16(self.properties_len() as u16);
        out.put_slice(self.properties);
        out.put_slice(self.added_properties);
    }

    fn sys_flag_with_hosts(&self) -> i32 {
        let bit = |v6: bool, bit: i32| if v6 { bit } else { 0 };
        (self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6))
            | bit(self.born_host.is_ipv6(), sys_flag::BORN_HOST_V6)
            | bit(self.store_host.is_ipv6(), sys_flag::STORE_HOST_V6)
    }
}

/// Writes the filler of a log file with `left` remaining bytes: the first eight of them.
pub fn encode_filler(left: usize, out: &mut BytesMut) {
    out.put_u32(left as u32);
    out.put_u32(MAGIC_FILLER);
}

fn put_host(out: &mut BytesMut, host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_i32(i32::from(host.port()));
}

/// What is at a position of the log, judged by its first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A record of that many bytes; nothing else of it was checked.
    Record {
        /// Its total size.
        size: usize,
    },
    /// The rest of this log file is empty.
    Filler,
    /// Never written.
    End,
    /// Neither a record, nor a filler, nor unwritten space.
    Corrupt,
}

/// Examines the first eight bytes; fewer count as [`Peek::End`].
#[must_use]
pub fn peek(bytes: &[u8]) -> Peek {
    let Some((size, magic)) = u32_at(bytes, 0).zip(u32_at(bytes, 4)) else {
        return Peek::End;
    };
    match magic {
        MAGIC_V1 | MAGIC_V2 if size as usize >= MIN_LEN && size <= i32::MAX as u32 => Peek::Record { size: size as usize },
        MAGIC_FILLER => Peek::Filler,
        0 if size == 0 => Peek::End,
        _ => Peek::Corrupt,
    }
}

/// The store timestamp of the record that starts `bytes`, if enough of it is there.
#[must_use]
pub fn peek_store_timestamp(bytes: &[u8]) -> Option<i64> {
    let v6 = u32_at(bytes, 36)? as i32 & sys_flag::BORN_HOST_V6 != 0;
    let at = STORE_TIMESTAMP_AT_V4 + if v6 { 12 } else { 0 };
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The fields of a record before its body, for readers that do not need the body yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Bytes of the whole record.
    pub size: usize,
    /// Queue of the topic.
    pub queue_id: i32,
    /// Position in its queue.
    pub queue_offset: QueueOffset,
    /// Position of the topic length, in bytes from the start of the record.
    pub topic_at: usize,
    /// The length of the topic has two bytes.
    is_v2: bool,
}

impl Front {
    /// Reads the first [`FRONT_LEN`] bytes of a record, or all of a shorter one.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes do not start a record or its lengths are impossible.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        let Peek::Record { size } = peek(bytes) else {
            return Err(RecordError::Magic);
        };
        let mut fields = Fields {
            rest: bytes.get(12..).ok_or(RecordError::Short)?,
        };
        let queue_id = fields.i32()?;
        fields.take(4)?;
        let queue_offset = QueueOffset(fields.i64()?);
        fields.take(8)?;
        let flag = fields.i32()?;
        fields.take(8 + host_len(flag & sys_flag::BORN_HOST_V6 != 0))?;
        fields.take(8 + host_len(flag & sys_flag::STORE_HOST_V6 != 0) + 4 + 8)?;
        let body_len = usize::try_from(fields.i32()?).map_err(|_| RecordError::Lengths)?;
        let topic_at = bytes.len() - fields.rest.len() + body_len;
        if topic_at >= size {
            return Err(RecordError::Lengths);
        }
        Ok(Self {
            size,
            queue_id,
            queue_offset,
            topic_at,
            is_v2: u32_at(bytes, 4) == Some(MAGIC_V2),
        })
    }

    /// The topic, from the bytes at `topic_at`; more may follow it.
    ///
    /// # Errors
    /// [`RecordError`] if the topic is incomplete or not UTF-8.
    pub fn topic<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, RecordError> {
        let mut fields = Fields { rest: bytes };
        let len = if self.is_v2 {
            fields.u16()?.into()
        } else {
            fields.take(1)?[0].into()
        };
        std::str::from_utf8(fields.take(len)?).map_err(|_| RecordError::Topic)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the record's total size.
    #[error("record is cut short")]
    Short,
    /// Not a record's magic.
    #[error("record has a wrong magic number")]
    Magic,
    /// Inner lengths do not add up to the size.
    #[error("record's inner lengths do not add up")]
    Lengths,
    /// The topic is not UTF-8.
    #[error("record's topic is not UTF-8")]
    Topic,
}

/// A view of a stored record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes of the whole record.
    pub size: usize,
    /// CRC as stored.
    pub body_crc: u32,
    /// Queue of the topic.
    pub queue_id: i32,
    /// The user's flag.
    pub flag: i32,
    /// Position in its queue.
    pub queue_offset: QueueOffset,
    /// Position in the log.
    pub log_offset: LogOffset,
    /// System flag.
    pub sys_flag: i32,
    /// When the producer created it.
    pub born_timestamp: i64,
    /// The producer's address.
    pub born_host: SocketAddr,
    /// When it was stored.
    pub store_timestamp: i64,
    /// The broker's address.
    pub store_host: SocketAddr,
    /// How many times it was consumed before.
    pub reconsume_times: i32,
    /// Log offset of a committed transaction's half message.
    pub prepared_offset: i64,
    /// The body as sent.
    pub body: &'a [u8],
    /// The topic.
    pub topic: &'a str,
    /// The encoded properties.
    pub properties: &'a [u8],
}

impl<'a> Record<'a> {
    /// Reads the record that starts `bytes`; more bytes may follow it. Every length is checked.
    ///
    /// # Errors
    /// [`RecordError`] if the bytes are not a complete, well-formed record. The CRC is not checked.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let size = u32_at(bytes, 0).ok_or(RecordError::Short)? as usize;
        let v2 = match u32_at(bytes, 4).ok_or(RecordError::Short)? {
            MAGIC_V1 => false,
            MAGIC_V2 => true,
            _ => return Err(RecordError::Magic),
        };
        let mut fields = Fields {
            rest: bytes.get(8..size).ok_or(RecordError::Short)?,
        };
        let body_crc = fields.u32()?;
        let queue_id = fields.i32()?;
        let flag = fields.i32()?;
        let queue_offset = QueueOffset(fields.i64()?);
        let log_offset = LogOffset(fields.i64()?);
        let sys_flag = fields.i32()?;
        let born_timestamp = fields.i64()?;
        let born_host = fields.host(sys_flag & sys_flag::BORN_HOST_V6 != 0)?;
        let store_timestamp = fields.i64()?;
        let store_host = fields.host(sys_flag & sys_flag::STORE_HOST_V6 != 0)?;
        let reconsume_times = fields.i32()?;
        let prepared_offset = fields.i64()?;
        let body_len = fields.i32()?;
        let body = fields.take(usize::try_from(body_len).map_err(|_| RecordError::Lengths)?)?;
        let topic_len = if v2 {
            usize::from(fields.u16()?)
        } else {
            usize::from(fields.take(1)?[0])
        };
        let topic = std::str::from_utf8(fields.take(topic_len)?).map_err(|_| RecordError::Topic)?;
        let properties_len = usize::from(fields.u16()?);
        let properties = fields.take(properties_len)?;
        if !fields.rest.is_empty() {
            return Err(RecordError::Lengths);
        }
        Ok(Self {
            size,
            body_crc,
            queue_id,
            flag,
            queue_offset,
            log_offset,
            sys_flag,
            born_timestamp,
            born_host,
            store_timestamp,
            store_host,
            reconsume_times,
            prepared_offset,
            body,
            topic,
            properties,
        })
    }

    /// Whether the stored CRC is that of the body.
    #[must_use]
    pub fn crc_matches(&self) -> bool {
        self.body_crc == body_crc(self.body)
    }

    /// Whether the fields that the CRC does not cover have possible values. Recovery checks this for records that may be torn.
    /// A page that never reached the disk reads as zeros, and neither a topic nor a property string contains one.
    #[must_use]
    pub fn is_plausible(&self, at: LogOffset) -> bool {
        self.log_offset == at
            && self.queue_id >= 0
            && (0..=MAX_QUEUE_OFFSET).contains(&self.queue_offset.0)
            && self.store_timestamp > 0
            && !self.topic.is_empty()
            && memchr::memchr(0, self.topic.as_bytes()).is_none()
            && memchr::memchr(0, self.properties).is_none()
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(RecordError::Lengths)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| RecordError::Lengths)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn host(&mut self, v6: bool) -> Result<SocketAddr, RecordError> {
        let ip = if v6 {
            IpAddr::from(self.array::<16>()?)
        } else {
            IpAddr::from(self.array::<4>()?)
        };
        Ok(SocketAddr::new(ip, self.i32()? as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn draft<'a>(topic: &'a str, body: &'a [u8], properties: &'a [u8], host: &str) -> Draft<'a> {
        Draft {
            flag: 9,
            sys_flag: sys_flag::COMPRESSED,
            born_timestamp: 1_700_000_000_000,
            born_host: host.parse().unwrap(),
            store_host: "10.0.0.1:10911".parse().unwrap(),
            reconsume_times: 2,
            prepared_offset: 5,
            properties,
            ..Draft::new(topic, 3, body)
        }
    }

    const PLACEMENT: Placement = Placement {
        queue_offset: QueueOffset(11),
        log_offset: LogOffset(4096),
        store_timestamp: 1_700_000_000_001,
    };

    #[test]
    fn a_record_has_the_size_it_says_and_is_read_back() {
        for host in ["1.2.3.4:5", "[2001:db8::1]:6"] {
            for topic in ["orders".to_owned(), "t".repeat(200)] {
                let d = draft(&topic, b"hello", b"A\x011\x02", host);
                let mut out = BytesMut::new();
                d.encode(PLACEMENT, &mut out);
                assert_eq!(out.len(), d.encoded_len());
                assert_eq!(peek(&out), Peek::Record { size: out.len() });
                assert_eq!(peek_store_timestamp(&out), Some(PLACEMENT.store_timestamp));
                let r = Record::parse(&out).unwrap();
                assert_eq!(
                    (r.topic, r.body, r.properties, r.queue_offset),
                    (topic.as_str(), d.body, d.properties, PLACEMENT.queue_offset)
                );
                assert_eq!((r.born_host, r.store_host), (d.born_host, d.store_host));
                assert!(r.crc_matches() && r.is_plausible(LogOffset(4096)) && !r.is_plausible(LogOffset(1)));
            }
        }
    }

    #[test]
    fn a_copy_of_a_stored_message_has_no_transaction() {
        let mut first = BytesMut::new();
        draft("orders", b"hello", b"A\x011\x02", "[2001:db8::1]:6").encode(PLACEMENT, &mut first);
        let record = Record::parse(&first).unwrap();
        let mut second = BytesMut::new();
        Draft::of(&record).encode(PLACEMENT, &mut second);
        let without = Record {
            prepared_offset: 0,
            ..record
        };
        assert_eq!(Record::parse(&second).unwrap(), without);
    }

    #[test]
    fn the_smallest_record_has_the_least_length() {
        let d = draft("", b"", b"", "1.2.3.4:5");
        assert_eq!(d.encoded_len(), MIN_LEN);
    }

    #[test]
    fn a_queue_offset_beyond_any_file_position_is_not_plausible() {
        let d = draft("t", b"x", b"", "1.2.3.4:5");
        for (offset, is_plausible) in [
            (MAX_QUEUE_OFFSET, true),
            (MAX_QUEUE_OFFSET + 1, false),
            (i64::MAX, false),
            (-1, false),
        ] {
            let mut out = BytesMut::new();
            let place = Placement {
                queue_offset: QueueOffset(offset),
                ..PLACEMENT
            };
            d.encode(place, &mut out);
            assert_eq!(
                Record::parse(&out).unwrap().is_plausible(PLACEMENT.log_offset),
                is_plausible,
                "{offset}"
            );
        }
    }

    #[test]
    fn zeroed_properties_are_not_plausible() {
        let d = draft("t", b"x", b"A\x011\0\0", "1.2.3.4:5");
        let mut out = BytesMut::new();
        d.encode(PLACEMENT, &mut out);
        assert!(!Record::parse(&out).unwrap().is_plausible(PLACEMENT.log_offset));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(mut bytes: Vec<u8>, magic: bool) {
            if magic && bytes.len() > 8 {
                let len = bytes.len() as u32;
                bytes[..4].copy_from_slice(&len.to_be_bytes());
                bytes[4..8].copy_from_slice(&MAGIC_V1.to_be_bytes());
            }
            let _ = Record::parse(&bytes);
            let _ = peek(&bytes);
            let _ = peek_store_timestamp(&bytes);
        }

        #[test]
        fn every_draft_is_read_back(topic in "[a-z]{1,300}", body: Vec<u8>, properties in "[a-z\u{1}\u{2}]{0,300}") {
            let d = draft(&topic, &body, properties.as_bytes(), "1.2.3.4:5");
            let mut out = BytesMut::new();
            d.encode(PLACEMENT, &mut out);
            let r = Record::parse(&out).unwrap();
            prop_assert_eq!((r.topic, r.body, r.properties), (d.topic, d.body, d.properties));
            for cut in [0, 1, out.len() / 2, out.len() - 1] {
                prop_assert!(Record::parse(&out[..cut]).is_err());
            }
        }
    }
}
