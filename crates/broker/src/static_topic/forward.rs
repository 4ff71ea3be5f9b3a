//! Requests to other brokers for the physical queues that a logical queue had before.
//!
//! They run on one thread, `forward`, which starts with the first request: a broker without moved queues does not have it. Brokers are
//! found by the route of the topic, and one connection to each is kept.

use crate::errors::Refusal;
use crate::feature::Feature;
use crate::settings::BrokerSettings;
use net::client::{Peer, PeerOptions};
use net::session::Connector;
use parking_lot::Mutex;
use protocol::route::{RouteHeader, TopicRoute};
use protocol::{Frame, RequestCode, ResponseCode, json};
use rustc_hash::FxHashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How long the address of a broker is used without asking for it again.
const KEEP_ADDRESS: Duration = Duration::from_secs(30);
/// Brokers to which connections are kept.
const MAX_BROKERS: usize = 1_024;
/// Threads of the runtime for look-ups in the own store, which may wait for the disk.
const LOOKUP_THREADS: usize = 2;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends requests to other brokers.
pub struct Forwarder {
    name_servers: Vec<String>,
    connector: Option<Arc<dyn Connector>>,
    settings: Arc<config::Live<BrokerSettings>>,
    /// One permit for each request that may run.
    room: Arc<Semaphore>,
    limit: usize,
    thread: Mutex<Thread>,
    brokers: Mutex<FxHashMap<Box<str>, Arc<tokio::sync::Mutex<Reached>>>>,
}

#[derive(Default)]
struct Thread {
    running: Option<(mpsc::UnboundedSender<Task>, JoinHandle<()>)>,
    is_stopped: bool,
}

/// What is known about a broker.
#[derive(Default)]
struct Reached {
    address: Option<(String, Instant)>,
    peer: Option<Arc<Peer>>,
}

/// A place for one request that takes time; see [`Forwarder::begin`].
pub struct Begun {
    permit: OwnedSemaphorePermit,
    tasks: mpsc::UnboundedSender<Task>,
}

impl Begun {
    /// Runs the request. It is dropped if the broker stops.
    pub fn run(self, request: impl Future<Output = ()> + Send + 'static) {
        let permit = self.permit;
        let task = async move {
            request.await;
            drop(permit);
        };
        // Fails only if the broker stops.
        let _ = self.tasks.send(Box::pin(task));
    }
}

impl Forwarder {
    /// Finds brokers through these name servers, over connections of `connector` or plain ones.
    #[must_use]
    pub fn new(name_servers: &[String], connector: Option<Arc<dyn Connector>>, settings: Arc<config::Live<BrokerSettings>>) -> Self {
        let limit = settings.current().max_forwarded_requests;
        Self {
            name_servers: name_servers.to_vec(),
            connector,
            settings,
            room: Arc::new(Semaphore::new(limit)),
            limit,
            thread: Mutex::default(),
            brokers: Mutex::default(),
        }
    }

    /// Takes a place among the requests that run.
    ///
    /// # Errors
    /// `SystemBusy` if `apogeeMaxForwardedRequests` run, `ServiceNotAvailable` if the broker stops, `SystemError` without a thread.
    pub fn begin(&self) -> Result<Begun, Refusal> {
        let busy = || {
            let text = format!(
                "{} requests wait for other brokers, which is the limit (apogeeMaxForwardedRequests)",
                self.limit
            );
            Refusal::new(ResponseCode::SystemBusy, text)
        };
        let permit = self.room.clone().try_acquire_owned().map_err(|_| busy())?;
        Ok(Begun {
            permit,
            tasks: self.tasks()?,
        })
    }

    fn tasks(&self) -> Result<mpsc::UnboundedSender<Task>, Refusal> {
        let mut thread = self.thread.lock();
        if thread.is_stopped {
            return Err(Refusal::new(ResponseCode::ServiceNotAvailable, "the broker stops"));
        }
        if let Some((tasks, _)) = &thread.running {
            return Ok(tasks.clone());
        }
        let failed = |error: std::io::Error| Refusal::system(format!("the thread `forward` cannot be started: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_name("forward-lookup")
            .max_blocking_threads(LOOKUP_THREADS)
            .enable_all()
            .build()
            .map_err(failed)?;
        let (tasks, mut received) = mpsc::unbounded_channel::<Task>();
        let run = async move {
            while let Some(task) = received.recv().await {
                tokio::spawn(task);
            }
        };
        let handle = std::thread::Builder::new()
            .name("forward".to_owned())
            .spawn(move || runtime.block_on(run))
            .map_err(failed)?;
        thread.running = Some((tasks.clone(), handle));
        Ok(tasks)
    }

    /// The answer of a broker that has the topic. `frame` gets the fields by which a broker knows a forwarded request.
    ///
    /// # Errors
    /// `SystemError` if the broker cannot be found or reached, or takes longer than `forwardTimeout`.
    pub async fn ask(&self, topic: &str, broker: &str, mut frame: Frame) -> Result<Frame, Refusal> {
        frame.ext.push("lo", false);
        frame.ext.push("bname", broker);
        self.ask_as_it_is(topic, broker, frame).await
    }

    /// The answer of a broker that has the topic, to this request.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) async fn ask_as_it_is(&self, topic: &str, broker: &str, frame: Frame) -> Result<Frame, Refusal> {
        let timeout = self.settings.current().forward_timeout;
        let failed = |why: String| {
            Refusal::system(format!(
                "broker {broker}, which has older messages of topic {topic}, was not reached: {why}"
            ))
        };
        let peer = self.reach(topic, broker, timeout).await.map_err(failed)?;
        peer.request(frame, timeout).await.map_err(|error| failed(error.to_string()))
    }

    async fn reach(&self, topic: &str, broker: &str, timeout: Duration) -> Result<Arc<Peer>, String> {
        let reached = {
            let mut brokers = self.brokers.lock();
            if brokers.len() >= MAX_BROKERS && !brokers.contains_key(broker) {
                brokers.clear();
            }
            Arc::clone(brokers.entry(broker.into()).or_default())
        };
        let mut reached = reached.lock().await;
        let is_fresh = reached.address.as_ref().is_some_and(|(_, at)| at.elapsed() < KEEP_ADDRESS);
        if let Some(peer) = reached.peer.as_ref().filter(|peer| is_fresh && !peer.is_closed()) {
            return Ok(Arc::clone(peer));
        }
        let address = self.address(topic, broker, timeout).await?;
        let is_same = reached.address.as_ref().is_some_and(|(known, _)| *known == address);
        reached.address = Some((address.clone(), Instant::now()));
        if let Some(peer) = reached.peer.as_ref().filter(|peer| is_same && !peer.is_closed()) {
            return Ok(Arc::clone(peer));
        }
        let peer = Arc::new(self.connect(&address, timeout).await?);
        reached.peer = Some(Arc::clone(&peer));
        Ok(peer)
    }

    async fn connect(&self, address: &str, timeout: Duration) -> Result<Peer, String> {
        let options = PeerOptions {
            connector: self.connector.clone(),
            connect_timeout: timeout,
            ..PeerOptions::default()
        };
        Peer::connect(address, options).await.map_err(|error| error.to_string())
    }

    /// The address of a broker's master, or of the slave with the lowest id if it has none.
    async fn address(&self, topic: &str, broker: &str, timeout: Duration) -> Result<String, String> {
        let route = self.route(topic, timeout).await?;
        let found = route.broker_datas.iter().find(|data| data.broker_name == broker);
        let address = found.and_then(|data| data.broker_addrs.values().next().cloned());
        address.ok_or_else(|| format!("the route of topic {topic} does not have it"))
    }

    /// The route of a topic from the first name server that answers.
    ///
    /// # Errors
    /// Why the last one asked gave none.
    pub(super) async fn route(&self, topic: &str, timeout: Duration) -> Result<TopicRoute, String> {
        let mut why = "there is no name server".to_owned();
        for name_server in &self.name_servers {
            let mut frame = Frame::request(RequestCode::GetRouteinfoByTopic);
            RouteHeader {
                topic,
                accept_standard_json_only: Some(true),
            }
            .encode(&mut frame.ext);
            let answer = match self.connect(name_server, timeout).await {
                Ok(peer) => peer.request(frame, timeout).await.map_err(|error| error.to_string()),
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) if answer.code == 0 => return json::read(&answer.body).map_err(|error| error.to_string()),
                Ok(answer) => why = answer.remark.unwrap_or_default(),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl Feature for Forwarder {
    fn stop(&self) {
        let running = {
            let mut thread = self.thread.lock();
            thread.is_stopped = true;
            thread.running.take()
        };
        if let Some((tasks, thread)) = running {
            // The last sender: tasks that run are dropped with the runtime.
            drop(tasks);
            let _ = thread.join();
        }
    }
}
