//! What Python sees.

use std::collections::{HashMap, HashSet};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::connections::{Limits, Phase, Shared, accept};
use crate::guards::locked;
use crate::peer::pem;
use crate::queue::{Incoming, News, Queue, Reply};
use crate::requests::framed;
use crate::shedding::{self, Allowed, Shedding};
use crate::tls;

/// Paths that are kept as objects of Python: a caller may send as many others as it likes.
const KEPT_PATHS: usize = 256;

/// Who is at the other end of a connection.
#[pyclass(frozen, module = "issuer_transport")]
pub struct Peer {
    /// `ipv4:10.0.0.7:1234`.
    #[pyo3(get)]
    address: Py<PyString>,
    /// The certificate whose key TLS has proved, as PEM.
    #[pyo3(get)]
    leaf_pem: Option<Py<PyBytes>>,
    /// The rest of what was presented, as PEM.
    #[pyo3(get)]
    intermediates_pem: Option<Py<PyBytes>>,
    allowed: Allowed,
}

#[pymethods]
impl Peer {
    /// Count this connection's calls there, from now on.
    fn share(&self, allowance: &Allowance) {
        self.allowed.give(allowance.0.clone());
    }
}

/// How many calls of one caller go on to Python, over all of its connections.
#[pyclass(frozen, module = "issuer_transport")]
pub struct Allowance(Arc<shedding::Allowance>);

#[pymethods]
impl Allowance {
    #[new]
    fn new() -> Self {
        Self(Arc::default())
    }

    /// For so many seconds let at most so many calls come, beyond those that were taken, and refuse the others. Returns
    /// how many were refused since this was called last.
    fn set(&self, calls: usize, seconds: f64) -> u64 {
        self.0.set(calls, Duration::try_from_secs_f64(seconds).ok().and_then(|held| Instant::now().checked_add(held)))
    }
}

/// The metadata of a call.
#[pyclass(frozen, module = "issuer_transport")]
pub struct Headers(HeaderMap);

#[pymethods]
impl Headers {
    /// Return all fields, names in lower case.
    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pair = |(name, value): (&HeaderName, &HeaderValue)| {
            (PyBytes::new(py, name.as_str().as_bytes()), PyBytes::new(py, value.as_bytes()))
        };
        PyList::new(py, self.0.iter().map(pair).collect::<Vec<_>>())
    }
}

/// A server on a listening socket that Python made.
#[pyclass(frozen, module = "issuer_transport")]
pub struct Server {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    listener: Mutex<Option<TcpListener>>,
    paths: Mutex<HashMap<String, Py<PyString>>>,
}

#[pymethods]
impl Server {
    /// Args: a listening socket's descriptor, which is the server's from now on; an eventfd, which stays Python's and
    /// must outlive it; what handshakes show and accept, as PEM; limits, durations in seconds.
    ///
    /// Raises ValueError when the material cannot be used.
    #[new]
    #[pyo3(signature = (listener, bell, chain, key, roots, *, max_message, max_metadata, max_streams, max_connections,
                        max_resets, age, grace, handshake, idle, keepalive_time, keepalive_timeout,
                        min_ping_interval, shed, hold, hold_tick, hold_from))]
    #[expect(clippy::too_many_arguments, reason = "one constructor, by keyword")]
    fn new(
        listener: RawFd,
        bell: RawFd,
        chain: &[u8],
        key: &[u8],
        roots: &[u8],
        max_message: usize,
        max_metadata: usize,
        max_streams: u32,
        max_connections: usize,
        max_resets: usize,
        age: f64,
        grace: f64,
        handshake: f64,
        idle: f64,
        keepalive_time: f64,
        keepalive_timeout: f64,
        min_ping_interval: f64,
        shed: HashSet<String>,
        hold: f64,
        hold_tick: f64,
        hold_from: f64,
    ) -> PyResult<Self> {
        let tls = tls::config(chain, key, roots).map_err(PyValueError::new_err)?;
        let limits = Limits {
            max_message,
            max_metadata,
            max_streams,
            max_connections,
            max_resets,
            age: Duration::from_secs_f64(age),
            grace: Duration::from_secs_f64(grace),
            handshake: Duration::from_secs_f64(handshake),
            idle: Duration::from_secs_f64(idle),
            keepalive_time: Duration::from_secs_f64(keepalive_time),
            keepalive_timeout: Duration::from_secs_f64(keepalive_timeout),
            min_ping_interval: Duration::from_secs_f64(min_ping_interval),
        };
        let [hold, hold_tick, hold_from] = [hold, hold_tick, hold_from].map(Duration::from_secs_f64);
        let shedding = Shedding::new(shed, hold, hold_tick, hold_from);
        // SAFETY: the caller gives the descriptor away.
        let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(listener) });
        Ok(Self {
            shared: Arc::new(Shared::new(Arc::new(Queue::new(bell)), limits, shedding, Arc::new(tls))),
            thread: Mutex::default(),
            listener: Mutex::new(Some(listener)),
            paths: Mutex::default(),
        })
    }

    /// Accept connections, in a thread of its own.
    fn start(&self) -> PyResult<()> {
        let listener = locked(&self.listener).take().ok_or_else(|| PyRuntimeError::new_err("it was started before"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = self.shared.clone();
        let serve = move || {
            let served = panic::catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    let queue = shared.queue.clone();
                    tokio::spawn(async move { tokio::join!(queue.ring(), queue.deal()) });
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    accept(shared.clone(), listener).await;
                    std::io::Result::Ok(())
                })
            }));
            // However it came about: Python must not take a server for one that serves.
            let _ = served;
            shared.queue.tell_last();
        };
        *locked(&self.thread) = Some(std::thread::Builder::new().name("transport".into()).spawn(serve)?);
        Ok(())
    }

    /// Make the next handshakes with this. Raises ValueError when it cannot be used: then nothing changes.
    fn use_material(&self, chain: &[u8], key: &[u8], roots: &[u8]) -> PyResult<()> {
        let config = tls::config(chain, key, roots).map_err(PyValueError::new_err)?;
        *locked(&self.shared.tls) = Arc::new(config);
        Ok(())
    }

    /// Return the calls that came, each `(id, path, message or None, ended, peer, seconds left or None, Headers)`, and
    /// what else happened, each `(kind, ...)`. To be called when the eventfd is readable.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let (calls, news) = self.shared.queue.take();
        let now = Instant::now();
        let told = PyList::empty(py);
        for call in calls.into_values() {
            told.append(self.call(py, call, now)?)?;
        }
        let happened = PyList::empty(py);
        for each in news {
            happened.append(happening(py, each)?)?;
        }
        Ok((told, happened))
    }

    /// Answer calls of one message each with it, and the status OK: `[(id, message), ...]`.
    fn answer(&self, answers: Vec<(u64, Bound<'_, PyBytes>)>) {
        let replies = answers.into_iter().map(|(id, message)| (id, Reply::Whole(framed(message.as_bytes()))));
        self.shared.queue.answer(replies.collect::<Vec<_>>());
    }

    /// Send one of several messages; `("written", id)` comes when there is room for the next.
    fn send(&self, id: u64, message: &[u8]) {
        self.shared.queue.answer([(id, Reply::Part(framed(message)))]);
    }

    /// End a call with a status, as the trailers that carry it.
    fn end(&self, id: u64, trailers: Trailers<'_>) -> PyResult<()> {
        self.shared.queue.answer([(id, Reply::End(fields(trailers)?))]);
        Ok(())
    }

    /// End calls that are beyond an allowance with these statuses, by turns, and keep back at most so many at once. Before
    /// that none is refused.
    fn refuse_with(&self, statuses: Vec<Trailers<'_>>, max_held: usize) -> PyResult<()> {
        let statuses = statuses.into_iter().map(fields).collect::<PyResult<_>>()?;
        self.shared.shedding.refuse_with(statuses, max_held);
        Ok(())
    }

    /// Ask for the next message of a call: `("message", id, message or None)` comes.
    fn more(&self, id: u64) {
        self.shared.queue.answer([(id, Reply::More)]);
    }

    /// Accept no more, and let connections end with their calls; `("finished",)` comes when all have.
    fn finish(&self) {
        self.shared.phase.send_if_modified(|phase| advance(phase, Phase::Finishing));
    }

    /// End every call with UNAVAILABLE, and every connection.
    fn end_calls(&self) {
        self.shared.phase.send_if_modified(|phase| advance(phase, Phase::Ending));
    }

    /// Return once the server's thread has ended.
    fn join(&self, py: Python<'_>) {
        if let Some(thread) = locked(&self.thread).take() {
            let _ = py.detach(|| thread.join());
        }
    }
}

impl Server {
    fn call<'py>(&self, py: Python<'py>, call: Incoming, now: Instant) -> PyResult<Bound<'py, PyTuple>> {
        let peer = match call.peer.python.get() {
            Some(peer) => peer,
            None => {
                let made = Py::new(py, seen(py, &call.peer))?;
                call.peer.python.get_or_init(|| made)
            }
        };
        let path = self.path(py, &call.path);
        let message = call.message.map(|message| PyBytes::new(py, &message));
        drop(call.entered); // it is taken
        let left = call.deadline.map(|deadline| deadline.saturating_duration_since(now).as_secs_f64());
        (call.id, path, message, call.ended, peer, left, Headers(call.headers)).into_pyobject(py)
    }

    fn path(&self, py: Python<'_>, path: &str) -> Py<PyString> {
        let mut kept = locked(&self.paths);
        if let Some(known) = kept.get(path) {
            return known.clone_ref(py);
        }
        let made = PyString::new(py, path).unbind();
        if kept.len() < KEPT_PATHS {
            kept.insert(path.to_owned(), made.clone_ref(py));
        }
        made
    }
}

/// A status, as the trailers that carry it.
type Trailers<'py> = Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>;

fn fields(trailers: Trailers<'_>) -> PyResult<HeaderMap> {
    let mut fields = HeaderMap::with_capacity(trailers.len());
    for (name, value) in trailers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| PyValueError::new_err("a field's name"))?;
        let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value.as_bytes()))
            .map_err(|_| PyValueError::new_err("a field's value"))?;
        fields.append(name, value);
    }
    Ok(fields)
}

fn seen(py: Python<'_>, peer: &crate::queue::Peer) -> Peer {
    let bytes = |part: &[_]| PyBytes::new(py, pem(part).as_bytes()).unbind();
    let (leaf, rest) = peer.chain.split_at(peer.chain.len().min(1));
    Peer {
        address: PyString::new(py, &peer.name()).unbind(),
        leaf_pem: (!leaf.is_empty()).then(|| bytes(leaf)),
        intermediates_pem: (!rest.is_empty()).then(|| bytes(rest)),
        allowed: peer.allowed.clone(),
    }
}

fn happening(py: Python<'_>, news: News) -> PyResult<Bound<'_, PyTuple>> {
    match news {
        News::Cancelled(id) => ("cancelled", id).into_pyobject(py),
        News::Message(id, message) => {
            ("message", id, message.map(|message| PyBytes::new(py, &message))).into_pyobject(py)
        }
        News::Unreadable(id) => ("unreadable", id).into_pyobject(py),
        News::Written(id) => ("written", id).into_pyobject(py),
        News::HandshakeFailed(peer, why) => ("handshake_failed", peer, why).into_pyobject(py),
        News::Finished => ("finished",).into_pyobject(py),
    }
}

fn advance(phase: &mut Phase, to: Phase) -> bool {
    let further = *phase < to;
    if further {
        *phase = to;
    }
    further
}
