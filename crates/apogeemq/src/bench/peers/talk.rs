//! One connection on which each request waits for its answer.

use protocol::Frame;

use super::super::wire::{Answers, Socket};
use crate::failure::Failure;

pub(super) struct Talk {
    socket: Socket,
    answers: Answers,
}

impl Talk {
    pub(super) fn connect(address: &str) -> Result<Self, Failure> {
        Ok(Self {
            socket: Socket::connect(address, None)?,
            answers: Answers::new(),
        })
    }

    /// Sends a request and waits for its answer, whatever its code.
    ///
    /// # Errors
    /// [`Failure`] if the connection is lost, or there is no answer for [`super::super::wire::TIMEOUT`].
    pub(super) fn call(&mut self, request: &Frame) -> Result<Frame, Failure> {
        self.socket.send(&request.to_bytes())?;
        loop {
            while let Some(answer) = self.answers.next()? {
                if !answer.is_request() {
                    return answer.decode().ok_or_else(|| Failure::new("the server sent a malformed answer"));
                }
            }
            if self.socket.read(&mut self.answers)? == 0 {
                return Err(self.socket.closed());
            }
        }
    }

    /// Sends a request and waits for an answer of success.
    ///
    /// # Errors
    /// As [`Self::call`], and if the answer has another code.
    pub(super) fn ask(&mut self, request: &Frame) -> Result<Frame, Failure> {
        let answer = self.call(request)?;
        match answer.code {
            0 => Ok(answer),
            code => Err(Failure::new(format!("code {code}: {}", answer.remark.unwrap_or_default()))),
        }
    }
}
