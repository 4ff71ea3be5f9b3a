//! The clients that are connected: one for each client id, as long as its telemetry stream is open.
//!
//! The broker knows such a client as any other ([`ProtocolClient`]): what it asks a client by frames of the remoting protocol becomes a
//! telemetry command, and the client's answer a frame.

use crate::caller::Caller;
use crate::codes::Refused;
use crate::message::{Shown, of_record};
use crate::transaction::TransactionId;
use crate::v2::telemetry_command::Command;
use crate::v2::{
    Code, NotifyUnsubscribeLiteCommand, PrintThreadStackTraceCommand, RecoverOrphanedTransactionCommand, Settings, TelemetryCommand,
    ThreadStackTrace, VerifyMessageCommand, VerifyMessageResult,
};
use ::message::record::Record;
use broker::clients::ProtocolClient;
use broker::clients::table::{ClientCallError, OnResponse};
use net::RequestError;
use parking_lot::Mutex;
use protocol::diagnose::{ConsumeDirectlyReply, ConsumeResult, RunningInfo};
use protocol::lite::NotifyUnsubscribeLiteHeader;
use protocol::transaction::CheckTransactionStateHeader;
use protocol::{Frame, Language, RequestCode, ResponseCode, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_stream::Stream;
use tonic::Status;

/// Commands that wait until a client reads them.
pub(crate) const COMMANDS: usize = 32;
/// Questions to one client that are not answered yet.
const MAX_QUESTIONS: usize = 64;

/// Where the commands of a telemetry stream go. A channel makes room for 32 at once, so each is in a box of its own.
pub(crate) type Commands = mpsc::Sender<Box<Result<TelemetryCommand, Status>>>;

/// What a telemetry stream sends.
pub(crate) struct Telemetry(pub(crate) mpsc::Receiver<Box<Result<TelemetryCommand, Status>>>);

impl Stream for Telemetry {
    type Item = Result<TelemetryCommand, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|command| command.map(|command| *command))
    }
}

/// A client whose telemetry stream is open.
pub(crate) struct Client {
    /// Unique among the connections of all protocols.
    pub(crate) id: u64,
    pub(crate) client_id: Box<str>,
    pub(crate) language: Language,
    peer: SocketAddr,
    commands: Commands,
    is_closed: AtomicBool,
    /// The client has to go.
    ended: Notify,
    /// As the client sent them, and when.
    settings: Mutex<Option<Told>>,
    questions: Arc<Mutex<HashMap<Box<str>, Question>>>,
    next_nonce: AtomicU64,
    /// Until then no broker is asked to hold messages for it, because one did not take its heartbeat; epoch ms.
    refused_until: AtomicI64,
    runtime: Handle,
}

/// The settings of a client.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) settings: Arc<Settings>,
    /// When the client sent them, epoch ms.
    pub(crate) at_ms: i64,
}

/// What a client was asked.
struct Question {
    kind: RequestCode,
    done: OnResponse,
}

impl Client {
    fn new(caller: &Caller, commands: Commands) -> Self {
        Self {
            id: net::Connection::take_id(),
            client_id: caller.client_id.clone(),
            language: caller.language,
            peer: caller.peer(),
            commands,
            is_closed: AtomicBool::new(false),
            ended: Notify::new(),
            settings: Mutex::default(),
            questions: Arc::default(),
            next_nonce: AtomicU64::new(1),
            refused_until: AtomicI64::new(0),
            runtime: Handle::current(),
        }
    }

    pub(crate) fn settings(&self) -> Option<Told> {
        self.settings.lock().clone()
    }

    pub(crate) fn set_settings(&self, told: Told) {
        *self.settings.lock() = Some(told);
    }

    /// A broker did not take its heartbeat.
    pub(crate) fn refused(&self, until_ms: i64) {
        self.refused_until.store(until_ms, Relaxed);
    }

    /// Whether a broker does not know the client, and so would not hold messages for it.
    pub(crate) fn is_refused(&self, now_ms: i64) -> bool {
        now_ms < self.refused_until.load(Relaxed)
    }

    /// Sends a command. A client that does not read them is closed.
    pub(crate) fn command(&self, command: Command) -> bool {
        let sent = self.commands.try_send(Box::new(Ok(TelemetryCommand {
            status: Some(crate::codes::ok()),
            command: Some(command),
        })));
        if sent.is_err() {
            self.is_closed.store(true, Relaxed);
            self.ended.notify_one();
        }
        sent.is_ok()
    }

    /// Returns when the client was closed by the broker, or reads no commands any more.
    pub(crate) async fn closed(&self) {
        tokio::select! {
            () = self.commands.closed() => {}
            () = self.ended.notified() => {}
        }
    }

    /// The client's stream has ended: nothing it was asked is answered any more.
    pub(crate) fn end(&self) {
        self.is_closed.store(true, Relaxed);
        let questions: Vec<Question> = self.questions.lock().drain().map(|(_, question)| question).collect();
        for question in questions {
            (question.done)(Err(RequestError::Closed.into()));
        }
    }

    /// The answer to a [`PrintThreadStackTraceCommand`].
    pub(crate) fn stack_trace(&self, status: Option<&crate::v2::Status>, trace: ThreadStackTrace) {
        let Some(done) = self.taken(&trace.nonce, RequestCode::GetConsumerRunningInfo) else {
            return;
        };
        if let Some(failed) = failure(status) {
            return done(Ok(failed));
        }
        let info = RunningInfo {
            jstack: trace.thread_stack_trace,
            ..RunningInfo::default()
        };
        done(Ok(answer(&json::write(&info))));
    }

    /// The answer to a [`VerifyMessageCommand`].
    pub(crate) fn verified(&self, status: Option<&crate::v2::Status>, result: &VerifyMessageResult) {
        let Some(done) = self.taken(&result.nonce, RequestCode::ConsumeMessageDirectly) else {
            return;
        };
        let code = status.map_or(Code::Ok, crate::v2::Status::code);
        let reply = ConsumeDirectlyReply {
            consume_result: Some(if code == Code::Ok {
                ConsumeResult::Success
            } else {
                ConsumeResult::Later
            }),
            remark: status.map(|status| format!("{}: {}", code.as_str_name(), status.message)),
            ..ConsumeDirectlyReply::default()
        };
        done(Ok(answer(&json::write(&reply))));
    }

    fn taken(&self, nonce: &str, kind: RequestCode) -> Option<OnResponse> {
        let mut questions = self.questions.lock();
        let question = questions.remove(nonce)?;
        if question.kind == kind {
            return Some(question.done);
        }
        questions.insert(nonce.into(), question);
        None
    }

    /// Asks the client; `done` is called with its answer, or after the time.
    fn ask(&self, kind: RequestCode, timeout: Duration, done: OnResponse, command: impl FnOnce(String) -> Command) {
        let nonce = format!("{}-{}", self.id, self.next_nonce.fetch_add(1, Relaxed));
        let refused = {
            let mut questions = self.questions.lock();
            if questions.len() >= MAX_QUESTIONS {
                Some(done)
            } else {
                questions.insert(nonce.as_str().into(), Question { kind, done });
                None
            }
        };
        if let Some(done) = refused {
            return done(Err(ClientCallError::Congested));
        }
        let give_up = |questions: &Mutex<HashMap<Box<str>, Question>>, nonce: &str, error: RequestError| {
            let question = questions.lock().remove(nonce);
            if let Some(question) = question {
                (question.done)(Err(error.into()));
            }
        };
        if !self.command(command(nonce.clone())) {
            return give_up(&self.questions, &nonce, RequestError::Closed);
        }
        let questions = Arc::clone(&self.questions);
        self.runtime.spawn(async move {
            tokio::time::sleep(timeout).await;
            give_up(&questions, &nonce, RequestError::TimedOut);
        });
    }

    /// A half message whose producer is asked how its transaction ended.
    fn ask_transaction(&self, request: &Frame) -> Option<()> {
        let header = CheckTransactionStateHeader::decode(&request.ext).ok()?;
        let record = Record::parse(&request.body).ok()?;
        let message = of_record(
            &record,
            Shown {
                topic: record.topic.to_owned(),
                ..Shown::default()
            },
        );
        let id = TransactionId {
            uniq_key: header.transaction_id.unwrap_or_default(),
            half: header.tran_state_table_offset,
            log_offset: header.commit_log_offset,
            broker: header.broker_name,
        };
        self.command(Command::RecoverOrphanedTransactionCommand(RecoverOrphanedTransactionCommand {
            transaction_id: id.to_string(),
            message: Some(message),
        }));
        Some(())
    }
}

fn answer(body: &[u8]) -> Frame {
    let mut frame = Frame::request(RequestCode::GetConsumerRunningInfo).with_body(body.to_vec());
    frame.code = ResponseCode::Success.into();
    frame
}

/// An answer of a client that could not do what it was asked.
fn failure(status: Option<&crate::v2::Status>) -> Option<Frame> {
    let status = status.filter(|status| status.code() != Code::Ok)?;
    let remark = format!("{}: {}", status.code().as_str_name(), status.message);
    Some(refusal(ResponseCode::SystemError, remark))
}

fn refusal(code: ResponseCode, remark: String) -> Frame {
    let mut frame = answer(&[]);
    (frame.code, frame.remark) = (code.into(), Some(remark));
    frame
}

impl ProtocolClient for Client {
    fn id(&self) -> u64 {
        self.id
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn send_oneway(&self, request: &Frame) {
        if request.code == i32::from(RequestCode::NotifyUnsubscribeLite) {
            if let Ok(header) = NotifyUnsubscribeLiteHeader::decode(&request.ext) {
                self.command(Command::NotifyUnsubscribeLiteCommand(NotifyUnsubscribeLiteCommand {
                    lite_topic: header.lite_topic.to_owned(),
                }));
            }
            return;
        }
        // Clients of this protocol need not know when the members of their group change.
        if request.code == i32::from(RequestCode::CheckTransactionState) && self.ask_transaction(request).is_none() {
            tracing::warn!(
                client = &*self.client_id,
                "a half message cannot be read; its producer is not asked"
            );
        }
    }

    fn call(&self, request: Frame, timeout: Duration, done: OnResponse) {
        match RequestCode::try_from(request.code) {
            Ok(kind @ RequestCode::GetConsumerRunningInfo) => self.ask(kind, timeout, done, |nonce| {
                Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce })
            }),
            Ok(kind @ RequestCode::ConsumeMessageDirectly) => match Record::parse(&request.body) {
                Ok(record) => {
                    let topic = record.topic.to_owned();
                    let message = of_record(&record, Shown { topic, ..Shown::default() });
                    self.ask(kind, timeout, done, |nonce| {
                        Command::VerifyMessageCommand(VerifyMessageCommand {
                            nonce,
                            message: Some(message),
                        })
                    });
                }
                Err(error) => {
                    let remark = format!("the message cannot be read: {error}");
                    done(Ok(refusal(ResponseCode::SystemError, remark)));
                }
            },
            _ => {
                let remark = "clients of the gRPC protocol do not know this request".to_owned();
                done(Ok(refusal(ResponseCode::RequestCodeNotSupported, remark)));
            }
        }
    }

    fn close(&self) {
        self.is_closed.store(true, Relaxed);
        self.ended.notify_one();
        let gone = Status::unavailable("the broker closed the client: it sent no heartbeats");
        let _ = self.commands.try_send(Box::new(Err(gone)));
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed) || self.commands.is_closed()
    }
}

/// The clients by id.
pub(crate) struct Clients {
    by_id: Mutex<HashMap<Box<str>, Arc<Client>>>,
    most: usize,
}

impl Clients {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            by_id: Mutex::default(),
            most,
        }
    }

    /// A client opened its telemetry stream. An older stream of the same client is not its own any more; it is returned.
    ///
    /// # Errors
    /// `TooManyRequests` if there are too many clients.
    pub(crate) fn connect(&self, caller: &Caller, commands: Commands) -> Result<(Arc<Client>, Option<Arc<Client>>), Refused> {
        let client = Arc::new(Client::new(caller, commands));
        let mut by_id = self.by_id.lock();
        if by_id.len() >= self.most && !by_id.contains_key(&caller.client_id) {
            let text = format!("{} clients are online already (apogeeGrpcMaxClients)", self.most);
            return Err(Refused::new(Code::TooManyRequests, text));
        }
        let before = by_id.insert(caller.client_id.clone(), Arc::clone(&client));
        Ok((client, before))
    }

    /// The client's stream has ended.
    pub(crate) fn disconnect(&self, client: &Arc<Client>) {
        let mut by_id = self.by_id.lock();
        if by_id.get(&client.client_id).is_some_and(|current| Arc::ptr_eq(current, client)) {
            by_id.remove(&client.client_id);
        }
    }

    pub(crate) fn find(&self, client_id: &str) -> Option<Arc<Client>> {
        self.by_id.lock().get(client_id).cloned()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    pub(crate) fn contains(&self, client_id: &str) -> bool {
        self.by_id.lock().contains_key(client_id)
    }
}
