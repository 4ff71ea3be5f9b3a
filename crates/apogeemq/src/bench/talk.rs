//! One connection's conversation, and the two ways to hold many of them.
//!
//! A few connections get a blocking thread each: nothing is cheaper for one connection. Many share threads that wait for all of them at
//! once, since waking a thread for each answer would cost more than the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::lanes::Lanes;
use super::wire::{Answers, Socket};
use crate::failure::Failure;

/// Up to so many connections get a thread each.
const FEW: usize = 4;

/// What is said on one connection.
pub(super) trait Talk: Send + 'static {
    /// Appends the requests to be sent now. False: this was all, nothing more is to be waited for.
    fn say(&mut self, out: &mut Vec<u8>) -> bool;

    /// Takes all whole answers.
    fn hear(&mut self, answers: &mut Answers) -> Result<(), Failure>;

    /// The connection broke: whether that is as it should be.
    fn broken(&mut self, failure: Failure) -> Result<(), Failure> {
        Err(failure)
    }
}

/// Starts all conversations. `limit` is how long they may take at most.
pub(super) fn start<T: Talk>(lanes: &mut Lanes, name: &str, limit: Duration, talks: Vec<(Socket, T)>) -> Result<(), Failure> {
    if talks.len() <= FEW {
        return talks
            .into_iter()
            .try_for_each(|(socket, talk)| lanes.spawn(name, move || alone(socket, talk)));
    }
    let threads = available_parallelism().map_or(1, |count| count.get().div_ceil(2)).min(talks.len());
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (at, talk) in talks.into_iter().enumerate() {
        shares[at % threads].push(talk);
    }
    shares
        .into_iter()
        .try_for_each(|share| lanes.spawn(name, move || together(share, limit)))
}

/// One conversation on this thread.
fn alone<T: Talk>(mut socket: Socket, mut talk: T) -> Result<(), Failure> {
    let (mut answers, mut out) = (Answers::new(), Vec::new());
    while talk.say(&mut out) {
        if let Err(failure) = exchange(&mut socket, &mut out, &mut answers) {
            return talk.broken(failure);
        }
        talk.hear(&mut answers)?;
    }
    Ok(())
}

fn exchange(socket: &mut Socket, out: &mut Vec<u8>, answers: &mut Answers) -> Result<(), Failure> {
    socket.send(out)?;
    out.clear();
    match socket.read(answers.room())? {
        0 => Err(socket.closed()),
        count => {
            answers.filled(count);
            Ok(())
        }
    }
}

/// Many conversations on this thread. The first failure ends them all.
fn together<T: Talk>(talks: Vec<(Socket, T)>, limit: Duration) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?;
    let all = async {
        let mut running = JoinSet::new();
        for (socket, talk) in talks {
            let stream = socket.for_waiting_with_others()?;
            running.spawn(one_of_many(socket, stream, talk));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap_or_else(|_| Err(Failure::new("a connection of the load broke down")))?;
        }
        Ok(())
    };
    let late = || Failure::new(format!("answers are missing {} s after the start", limit.as_secs()));
    runtime.block_on(async { tokio::time::timeout(limit, all).await.unwrap_or_else(|_| Err(late())) })
}

async fn one_of_many<T: Talk>(socket: Socket, mut stream: TcpStream, mut talk: T) -> Result<(), Failure> {
    let (mut answers, mut out) = (Answers::new(), Vec::new());
    while talk.say(&mut out) {
        if let Err(failure) = exchange_waiting(&socket, &mut stream, &mut out, &mut answers).await {
            return talk.broken(failure);
        }
        talk.hear(&mut answers)?;
    }
    Ok(())
}

async fn exchange_waiting(socket: &Socket, stream: &mut TcpStream, out: &mut Vec<u8>, answers: &mut Answers) -> Result<(), Failure> {
    let mut rest = &out[..];
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.writable().await.map_err(|error| socket.failure(&error))?;
            }
            Err(error) => return Err(socket.failure(&error)),
        }
    }
    out.clear();
    let mut room = ReadBuf::new(answers.room());
    // Unlike `try_read`, this knows after a short read that there is nothing more, and saves a system call.
    let read = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut room)).await;
    read.map_err(|error| socket.failure(&error))?;
    match room.filled().len() {
        0 => Err(socket.closed()),
        count => {
            answers.filled(count);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Frame;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Sends one frame and waits for it to come back, three times.
    struct Echoed {
        left: u32,
    }

    impl Talk for Echoed {
        fn say(&mut self, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(&Frame::request(1).with_body("x").to_bytes());
            self.left > 0
        }

        fn hear(&mut self, answers: &mut Answers) -> Result<(), Failure> {
            while answers.next()?.is_some() {
                self.left -= 1;
            }
            Ok(())
        }
    }

    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        stream.write_all(&buffer[..count]).unwrap();
                    }
                });
            }
        });
        address
    }

    #[test]
    fn few_and_many_conversations_run_to_their_ends() {
        let address = echo();
        for count in [1, FEW, FEW + 1, 40] {
            let mut lanes = Lanes::default();
            let talks = (0..count)
                .map(|_| (Socket::connect(&address).unwrap(), Echoed { left: 3 }))
                .collect();
            start(&mut lanes, "echo", Duration::from_secs(20), talks).unwrap();
            lanes.join().unwrap();
        }
    }

    #[test]
    fn a_closed_connection_ends_them_all() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let talks = (0..FEW + 2)
            .map(|_| (Socket::connect(&address).unwrap(), Echoed { left: 3 }))
            .collect();
        let mut lanes = Lanes::default();
        start(&mut lanes, "echo", Duration::from_secs(20), talks).unwrap();
        drop(listener.accept().unwrap());
        assert!(lanes.join().unwrap_err().to_string().contains(&address));
    }
}
