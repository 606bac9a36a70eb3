//! The listening socket, and what becomes of each connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use crate::calls::{Surroundings, serve};
use crate::guards::{Count, locked};
use crate::pings::Watched;
use crate::queue::{News, Peer, Queue};
use crate::shedding::{Allowed, Shedding};
use crate::tls::ALPN;

/// After a connection could not be accepted: most often there are too many open files.
const AGAIN: Duration = Duration::from_millis(50);
/// For statuses of calls that were told to end to reach their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// From so many times the limit on, metadata is not even read (HTTP 431, or the end of the connection).
const HARD_METADATA_FACTOR: usize = 8;
/// The smallest receive window of HTTP/2, for what comes beside the largest message.
const WINDOW: usize = 65_535;

/// Limits; durations as the issuer's configuration has them.
#[derive(Clone)]
pub struct Limits {
    pub max_message: usize,
    pub max_metadata: usize,
    pub max_streams: u32,
    pub max_connections: usize,
    pub max_resets: usize,
    pub age: Duration,
    pub grace: Duration,
    pub handshake: Duration,
    pub idle: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    pub min_ping_interval: Duration,
}

/// How far the server is to its end.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub enum Phase {
    Serving,
    /// It accepts nothing, and connections end with their calls.
    Finishing,
    /// Calls end.
    Ending,
}

pub struct Shared {
    pub queue: Arc<Queue>,
    pub limits: Limits,
    pub shedding: Arc<Shedding>,
    /// What the next handshake is made with.
    pub tls: Mutex<Arc<ServerConfig>>,
    pub phase: watch::Sender<Phase>,
    open: Arc<AtomicUsize>,
    opened: AtomicUsize,
}

impl Shared {
    pub fn new(queue: Arc<Queue>, limits: Limits, shedding: Shedding, tls: Arc<ServerConfig>) -> Self {
        let phase = watch::Sender::new(Phase::Serving);
        let (shedding, tls) = (Arc::new(shedding), Mutex::new(tls));
        Self { queue, limits, shedding, tls, phase, open: Arc::default(), opened: AtomicUsize::new(0) }
    }
}

/// Accepts until the server finishes; returns when the last connection has ended.
pub async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut phase = shared.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase > Phase::Serving) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) if shared.open.load(Ordering::Relaxed) < shared.limits.max_connections => {
                let count = Count::of(&shared.open);
                tokio::spawn(connection(shared.clone(), socket, address, count));
            }
            Ok(_) => {}
            Err(_) => sleep(AGAIN).await,
        }
    }
    drop(listener);
    while shared.open.load(Ordering::Relaxed) > 0 {
        sleep(AGAIN / 10).await;
    }
}

async fn connection(shared: Arc<Shared>, socket: TcpStream, address: SocketAddr, _count: Count) {
    let _ = socket.set_nodelay(true);
    let tls = locked(&shared.tls).clone();
    let too_many = Arc::new(Notify::new());
    let mut phase = shared.phase.subscribe();
    let shaken = tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase > Phase::Serving) => Ok(None),
        shaken = timeout(shared.limits.handshake, handshake(&shared, tls, socket, too_many.clone())) => {
            shaken.unwrap_or_else(|_| Err("took too long".into()))
        }
    };
    match shaken {
        Ok(Some((connection, chain))) => {
            let peer = Peer { address, chain, allowed: Allowed::default(), python: std::sync::OnceLock::new() };
            serve_connection(&shared, connection, Arc::new(peer), too_many).await;
        }
        Ok(None) => {}
        Err(why) => shared.queue.tell(News::HandshakeFailed(crate::peer::spelled(address), why)),
    }
}

type Secured = Connection<Watched<TlsStream<TcpStream>>, Bytes>;
type Chain = Vec<rustls_pki_types::CertificateDer<'static>>;

async fn handshake(
    shared: &Shared,
    tls: Arc<ServerConfig>,
    socket: TcpStream,
    too_many: Arc<Notify>,
) -> Result<Option<(Secured, Chain)>, String> {
    let stream = match TlsAcceptor::from(tls).accept(socket).await {
        Ok(stream) => stream,
        // Somebody who looked whether the port is open.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let state = stream.get_ref().1;
    if state.alpn_protocol() != Some(ALPN) {
        return Err("the client does not speak HTTP/2".into());
    }
    let chain = state.peer_certificates().unwrap_or_default().to_vec();
    let limits = &shared.limits;
    let window = (limits.max_message + WINDOW) as u32;
    let connection = Builder::new()
        .max_concurrent_streams(limits.max_streams)
        .initial_window_size(window)
        .initial_connection_window_size(2 * window)
        .max_header_list_size((HARD_METADATA_FACTOR * limits.max_metadata) as u32)
        .max_pending_accept_reset_streams(limits.max_resets)
        .handshake(Watched::new(stream, limits.min_ping_interval, too_many))
        .await
        .map_err(|error| error.to_string())?;
    Ok(Some((connection, chain)))
}

/// Serves a connection to its end: its client leaves, does not answer or pings too often, it is idle or old, or the
/// server ends.
async fn serve_connection(shared: &Shared, mut connection: Secured, peer: Arc<Peer>, too_many: Arc<Notify>) {
    let limits = &shared.limits;
    let ending = watch::Sender::new(false);
    let around = Arc::new(Surroundings {
        queue: shared.queue.clone(),
        shedding: shared.shedding.clone(),
        peer,
        max_message: limits.max_message,
        max_metadata: limits.max_metadata,
        ending: ending.subscribe(),
    });
    let (mut phase, mut end) = (shared.phase.subscribe(), shared.phase.subscribe());
    let alive = keep_alive(connection.ping_pong(), limits);
    tokio::pin!(alive);
    let age = sleep(aged(limits.age, shared.opened.fetch_add(1, Ordering::Relaxed)));
    tokio::pin!(age);
    let idle = sleep(limits.idle);
    tokio::pin!(idle);
    let mut leaving = false;
    let calls = Arc::new(Calls::default());
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (around, count) = (around.clone(), CountedCall::of(&calls));
                    tokio::spawn(async move {
                        serve(around, request, respond).await;
                        drop(count);
                    });
                }
                Some(Err(_)) | None => return,
            },
            () = &mut alive => return,
            () = too_many.notified() => {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                break;
            }
            () = &mut age => {
                if leaving {
                    break;
                }
                (leaving, _) = (true, connection.graceful_shutdown());
                age.as_mut().reset(Instant::now() + limits.grace);
            }
            () = &mut idle, if !leaving => {
                let until = calls.idle_since() + limits.idle;
                if Instant::now() >= until {
                    (leaving, _) = (true, connection.graceful_shutdown());
                    age.as_mut().reset(Instant::now() + limits.grace);
                }
                idle.as_mut().reset(until);
            }
            _ = phase.wait_for(|phase| *phase > Phase::Serving), if !leaving => {
                // Ending is waited for below, where it comes first.
                (leaving, _) = (true, connection.graceful_shutdown());
                age.as_mut().reset(far_away());
            }
            _ = end.wait_for(|phase| *phase == Phase::Ending) => break,
        }
    }
    ending.send_replace(true);
    let last_words = async { while let Some(Ok(_)) = connection.accept().await {} };
    let _ = timeout(LAST_WORDS, last_words).await;
}

fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365)
}

/// The age of a connection: a tenth more or less, so that those that were made at once do not end at once.
fn aged(age: Duration, number: usize) -> Duration {
    // Multiplied by the golden ratio, consecutive numbers are spread evenly.
    let spread = (number as f64 * 0.618_033_988_75).fract();
    age.mul_f64(0.9 + 0.2 * spread)
}

/// Returns when the peer is not there any more.
async fn keep_alive(ping_pong: Option<PingPong>, limits: &Limits) {
    let Some(mut ping_pong) = ping_pong else { return std::future::pending().await };
    loop {
        sleep_until(Instant::now() + limits.keepalive_time).await;
        match timeout(limits.keepalive_timeout, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            _ => return,
        }
    }
}

/// The calls of a connection, and when the last of them ended.
struct Calls {
    open: AtomicUsize,
    last_end: Mutex<Instant>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { open: AtomicUsize::new(0), last_end: Mutex::new(Instant::now()) }
    }
}

impl Calls {
    /// Since when there is none; now, while there is one.
    fn idle_since(&self) -> Instant {
        let last_end = *locked(&self.last_end);
        if self.open.load(Ordering::Relaxed) == 0 { last_end } else { Instant::now() }
    }
}

/// Counts a call for as long as it is open.
struct CountedCall(Arc<Calls>);

impl CountedCall {
    fn of(calls: &Arc<Calls>) -> Self {
        calls.open.fetch_add(1, Ordering::Relaxed);
        Self(calls.clone())
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        *locked(&self.0.last_end) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
