//! Between the server's thread and Python's: calls and news one way, answers the other.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Notify;

use crate::guards::locked;
use crate::peer::spelled;
use crate::shedding::{Allowed, Entered};

/// One connection's peer; `python` holds the objects that Python sees, made once.
pub struct Peer {
    pub address: std::net::SocketAddr,
    pub chain: Vec<rustls_pki_types::CertificateDer<'static>>,
    pub allowed: Allowed,
    pub python: std::sync::OnceLock<pyo3::Py<crate::python::Peer>>,
}

impl Peer {
    pub fn name(&self) -> String {
        spelled(self.address)
    }
}

/// A call that Python has not taken yet.
pub struct Incoming {
    pub id: u64,
    pub path: String,
    pub message: Option<Bytes>,
    /// No other message follows.
    pub ended: bool,
    pub deadline: Option<Instant>,
    pub headers: HeaderMap,
    pub peer: Arc<Peer>,
    pub entered: Option<Entered>,
}

/// What else Python is told.
pub enum News {
    /// The call is over: its client left, or its deadline passed.
    Cancelled(u64),
    /// The next message of a call, or that there is none.
    Message(u64, Option<Bytes>),
    /// The request of a call cannot be read on; the call is over.
    Unreadable(u64),
    /// A part of an answer was handed to the connection.
    Written(u64),
    /// A handshake failed.
    HandshakeFailed(String, String),
    /// No connection is left, and none comes.
    Finished,
}

/// What Python answers.
pub enum Reply {
    /// The only message, and the status OK.
    Whole(Bytes),
    /// One message of several.
    Part(Bytes),
    /// The status; after it nothing follows.
    End(HeaderMap),
    /// Another message of the request is wanted.
    More,
}

#[derive(Default)]
struct Waiting {
    replies: VecDeque<Reply>,
    waker: Option<Waker>,
}

/// Where one call waits for what Python answers.
#[derive(Default)]
pub struct Slot(Mutex<Waiting>);

impl Slot {
    fn put(&self, reply: Reply) {
        let waker = {
            let mut waiting = locked(&self.0);
            waiting.replies.push_back(reply);
            waiting.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn poll(&self, context: &mut Context<'_>) -> Poll<Reply> {
        let mut waiting = locked(&self.0);
        if let Some(reply) = waiting.replies.pop_front() {
            return Poll::Ready(reply);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
struct Inbox {
    /// By number, so in the order of their coming.
    calls: BTreeMap<u64, Incoming>,
    news: Vec<News>,
    told: bool,
}

/// Both ways. Of a call that is not in `slots` nothing is told any more, and no answer to it is waited for.
pub struct Queue {
    inbox: Mutex<Inbox>,
    answers: Mutex<Vec<(u64, Reply)>>,
    slots: Mutex<HashMap<u64, Arc<Slot>>>,
    next: AtomicU64,
    answered: Notify,
    to_tell: Notify,
    is_to_tell: AtomicBool,
    bell: RawFd,
}

impl Queue {
    /// `bell` is an eventfd that Python waits for; it stays open for as long as this lives.
    pub fn new(bell: RawFd) -> Self {
        Self {
            inbox: Mutex::default(),
            answers: Mutex::default(),
            slots: Mutex::default(),
            next: AtomicU64::new(1),
            answered: Notify::new(),
            to_tell: Notify::new(),
            is_to_tell: AtomicBool::new(false),
            bell,
        }
    }

    /// Takes in a call; returns its number and where it waits.
    pub fn register(&self) -> (u64, Arc<Slot>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::default());
        locked(&self.slots).insert(id, slot.clone());
        (id, slot)
    }

    /// Forgets a call. Returns whether Python has not seen it: then it never does.
    pub fn forget(&self, id: u64) -> bool {
        locked(&self.slots).remove(&id);
        locked(&self.inbox).calls.remove(&id).is_some()
    }

    pub fn push(&self, call: Incoming) {
        locked(&self.inbox).calls.insert(call.id, call);
        self.tell_soon();
    }

    pub fn tell(&self, news: News) {
        locked(&self.inbox).news.push(news);
        self.tell_soon();
    }

    fn tell_soon(&self) {
        if !self.is_to_tell.swap(true, Ordering::AcqRel) {
            self.to_tell.notify_one();
        }
    }

    /// Wakes Python, once for all that came since it last took. Runs for as long as the server does.
    pub async fn ring(&self) {
        loop {
            self.to_tell.notified().await;
            self.is_to_tell.store(false, Ordering::Release);
            if !std::mem::replace(&mut locked(&self.inbox).told, true) {
                self.ring_now();
            }
        }
    }

    fn ring_now(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes that live for the call; a counter that is full already wakes as well.
        unsafe { libc::write(self.bell, one.as_ptr().cast(), one.len()) };
    }

    /// Tells Python that the server's thread ends, when nothing else runs in it.
    pub fn tell_last(&self) {
        locked(&self.inbox).news.push(News::Finished);
        self.ring_now();
    }

    /// Hands Python what came.
    pub fn take(&self) -> (BTreeMap<u64, Incoming>, Vec<News>) {
        let mut inbox = locked(&self.inbox);
        inbox.told = false;
        (std::mem::take(&mut inbox.calls), std::mem::take(&mut inbox.news))
    }

    /// Takes answers of Python's.
    pub fn answer(&self, answers: impl IntoIterator<Item = (u64, Reply)>) {
        locked(&self.answers).extend(answers);
        self.answered.notify_one();
    }

    /// Gives answers to the calls that wait for them. Runs for as long as the server does.
    pub async fn deal(&self) {
        loop {
            self.answered.notified().await;
            let answers = std::mem::take(&mut *locked(&self.answers));
            for (id, reply) in answers {
                let slot = locked(&self.slots).get(&id).cloned();
                if let Some(slot) = slot {
                    slot.put(reply);
                }
            }
        }
    }
}
