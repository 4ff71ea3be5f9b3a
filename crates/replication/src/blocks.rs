//! Cuts what a master sends into headers and data.

use crate::epochs::Epoch;
use crate::slave::Ended;
use crate::wire::{EPOCH_HEADER_LEN, EpochHeader, HEADER_LEN, parse_header};

/// See the module.
#[derive(Debug)]
pub(crate) struct BlockReader {
    header: [u8; EPOCH_HEADER_LEN],
    /// Bytes of a header.
    len: usize,
    /// Bytes of the header that are there.
    there: usize,
    /// Bytes of data that follow.
    data: usize,
}

/// A part of what a master sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'b> {
    Header {
        offset: i64,
        size: i32,
        /// Under a controller: the epoch, and up to where the log is confirmed.
        epoch: Option<(Epoch, i64)>,
    },
    Data(&'b [u8]),
}

impl BlockReader {
    /// With epochs in the headers or without.
    pub(crate) fn new(has_epochs: bool) -> Self {
        Self {
            header: [0; EPOCH_HEADER_LEN],
            len: if has_epochs { EPOCH_HEADER_LEN } else { HEADER_LEN },
            there: 0,
            data: 0,
        }
    }

    /// Takes the next part from `bytes`; `None` if its rest is missing.
    pub(crate) fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Part<'b>>, Ended> {
        if self.data > 0 {
            let (data, rest) = bytes.split_at(self.data.min(bytes.len()));
            *bytes = rest;
            self.data -= data.len();
            return Ok(Some(Part::Data(data)));
        }
        let (some, rest) = bytes.split_at((self.len - self.there).min(bytes.len()));
        self.header[self.there..self.there + some.len()].copy_from_slice(some);
        self.there += some.len();
        *bytes = rest;
        if self.there < self.len {
            return Ok(None);
        }
        self.there = 0;
        let (offset, size, epoch) = match self.header.first_chunk().filter(|_| self.len == HEADER_LEN) {
            Some(header) => {
                let (offset, size) = parse_header(header);
                (offset, size, None)
            }
            None => {
                let header = EpochHeader::parse(&self.header).ok_or(Ended::NoHandshake)?;
                (header.offset, header.size, Some((header.epoch, header.confirmed)))
            }
        };
        self.data = usize::try_from(size).map_err(|_| Ended::BadBlock(size))?;
        Ok(Some(Part::Header { offset, size, epoch }))
    }
}
