//! Exchange of requests and answers on one connection, and two ways to run many of them.
//!
//! A few connections get a blocking thread each, which is the cheapest way for one connection. Many connections share threads that poll
//! all of them, because waking a thread for each answer would cost more than the answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::threads::Threads;
use super::wire::{Answers, Socket};
use crate::failure::Failure;

/// Up to this many connections get a thread each.
const FEW: usize = 4;

/// Requests and answers of one connection.
pub(super) trait Exchange: Send + 'static {
    /// Appends the requests to send now. Returns false if the exchange is complete and no answer is expected.
    fn write_requests(&mut self, out: &mut Vec<u8>) -> bool;

    /// Processes all complete answers.
    fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure>;

    /// The connection was lost. Returns an error unless that is expected.
    fn connection_lost(&mut self, failure: Failure) -> Result<(), Failure> {
        Err(failure)
    }
}

/// Starts all exchanges. `limit` is their maximum duration.
pub(super) fn start<T: Exchange>(threads: &mut Threads, name: &str, limit: Duration, exchanges: Vec<(Socket, T)>) -> Result<(), Failure> {
    if exchanges.len() <= FEW {
        return exchanges
            .into_iter()
            .try_for_each(|(socket, exchange)| threads.spawn(name, move || alone(socket, exchange)));
    }
    let thread_count = available_parallelism()
        .map_or(1, |count| count.get().div_ceil(2))
        .min(exchanges.len());
    let mut shares: Vec<Vec<_>> = (0..thread_count).map(|_| Vec::new()).collect();
    for (at, exchange) in exchanges.into_iter().enumerate() {
        shares[at % thread_count].push(exchange);
    }
    shares
        .into_iter()
        .try_for_each(|share| threads.spawn(name, move || together(share, limit)))
}

/// Runs one exchange on this thread.
fn alone<T: Exchange>(mut socket: Socket, mut exchange: T) -> Result<(), Failure> {
    socket.wait_alone()?;
    let (mut answers, mut out) = (Answers::new(), Vec::new());
    while exchange.write_requests(&mut out) {
        if let Err(failure) = round_trip(&mut socket, &mut out, &mut answers) {
            return exchange.connection_lost(failure);
        }
        exchange.read_answers(&mut answers)?;
    }
    Ok(())
}

fn round_trip(socket: &mut Socket, out: &mut Vec<u8>, answers: &mut Answers) -> Result<(), Failure> {
    socket.send(out)?;
    out.clear();
    match socket.read(answers)? {
        0 => Err(socket.closed()),
        _ => Ok(()),
    }
}

/// Runs many exchanges on this thread. The first failure ends them all.
fn together<T: Exchange>(exchanges: Vec<(Socket, T)>, limit: Duration) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::new)?;
    let all = async {
        let mut running = JoinSet::new();
        for (socket, exchange) in exchanges {
            let stream = socket.for_waiting_with_others()?;
            running.spawn(one_of_many(socket, stream, exchange));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap_or_else(|_| Err(Failure::new("a connection of the load generator panicked")))?;
        }
        Ok(())
    };
    let late = || Failure::new(format!("answers are missing {} s after the start", limit.as_secs()));
    runtime.block_on(async { tokio::time::timeout(limit, all).await.unwrap_or_else(|_| Err(late())) })
}

async fn one_of_many<T: Exchange>(socket: Socket, mut stream: TcpStream, mut exchange: T) -> Result<(), Failure> {
    let (mut answers, mut out) = (Answers::new(), Vec::new());
    while exchange.write_requests(&mut out) {
        if let Err(failure) = round_trip_async(&socket, &mut stream, &mut out, &mut answers).await {
            return exchange.connection_lost(failure);
        }
        exchange.read_answers(&mut answers)?;
    }
    Ok(())
}

async fn round_trip_async(socket: &Socket, stream: &mut TcpStream, out: &mut Vec<u8>, answers: &mut Answers) -> Result<(), Failure> {
    let sealed = socket.sealed(out)?;
    let mut rest = &sealed[..];
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                stream.writable().await.map_err(|error| socket.failure(&error))?;
            }
            Err(error) => return Err(socket.failure(&error)),
        }
    }
    drop(sealed);
    out.clear();
    if socket.is_secured() {
        let mut records = answers.take_records();
        let count = read_async(socket, stream, &mut records).await?;
        return socket.opened(records, count, answers);
    }
    let count = read_async(socket, stream, answers.room()).await?;
    answers.filled(count);
    Ok(())
}

/// Waits for bytes; fails if the peer closed the connection.
async fn read_async(socket: &Socket, stream: &mut TcpStream, into: &mut [u8]) -> Result<usize, Failure> {
    let mut room = ReadBuf::new(into);
    // Unlike `try_read`, a short read means that there is nothing more, which saves a system call.
    let read = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut room)).await;
    read.map_err(|error| socket.failure(&error))?;
    match room.filled().len() {
        0 => Err(socket.closed()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Frame;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Sends one frame and waits for its echo, three times.
    struct Echoed {
        left: u32,
    }

    impl Exchange for Echoed {
        fn write_requests(&mut self, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(&Frame::request(1).with_body("x").to_bytes());
            self.left > 0
        }

        fn read_answers(&mut self, answers: &mut Answers) -> Result<(), Failure> {
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
    fn few_and_many_exchanges_run_to_their_ends() {
        let address = echo();
        for count in [1, FEW, FEW + 1, 40] {
            let mut threads = Threads::default();
            let exchanges = (0..count)
                .map(|_| (Socket::connect(&address, None).unwrap(), Echoed { left: 3 }))
                .collect();
            start(&mut threads, "echo", Duration::from_secs(20), exchanges).unwrap();
            threads.join().unwrap();
        }
    }

    #[test]
    fn a_closed_connection_ends_all_exchanges() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let exchanges = (0..FEW + 2)
            .map(|_| (Socket::connect(&address, None).unwrap(), Echoed { left: 3 }))
            .collect();
        let mut threads = Threads::default();
        start(&mut threads, "echo", Duration::from_secs(20), exchanges).unwrap();
        drop(listener.accept().unwrap());
        assert!(threads.join().unwrap_err().to_string().contains(&address));
    }
}
