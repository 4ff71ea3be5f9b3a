//! Messages of a stream from bytes and to bytes, with small buffers.
//!
//! A stream keeps its buffers as long as it is open, and the telemetry stream of an idle client is open for days. The usual ones have 8 KiB
//! each. Larger messages make them grow, once for each message.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// Bytes of a new buffer.
const BUFFER: usize = 512;
/// A stream hands over what it has encoded when it has so many bytes: tonic's usual number.
const HAND_OVER: usize = 32 << 10;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER, HAND_OVER)
}

/// Encodes messages of type `E`, and decodes those of type `D`.
#[derive(Debug)]
pub(crate) struct Codec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for Codec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + 'static, D: Message + Default + 'static> tonic::codec::Codec for Codec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Encodes<E>;
    type Decoder = ProstDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        Encodes(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(buffers())
    }
}

/// See [`Codec`].
#[derive(Debug)]
pub(crate) struct Encodes<E>(PhantomData<E>);

impl<E: Message> Encoder for Encodes<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}
