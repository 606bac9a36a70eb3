//! One call: its request is read and handed over, its answer is sent.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::headers::{DEADLINE_EXCEEDED, Refusal, UNAVAILABLE, check, status};
use crate::queue::{Incoming, News, Peer, Queue, Reply, Slot};
use crate::requests::Messages;
use crate::shedding::{Door, Shedding};

/// What a call shares with the others of its connection.
pub struct Surroundings {
    pub queue: Arc<Queue>,
    pub shedding: Arc<Shedding>,
    pub peer: Arc<Peer>,
    pub max_message: usize,
    pub max_metadata: usize,
    /// Set when every call must end now.
    pub ending: watch::Receiver<bool>,
}

/// Why a call that Python has taken, or might, is over.
enum Over {
    Answered,
    /// Nobody is there who could be told.
    Gone,
    /// It ends with this status, and Python is told to stop.
    Cut(u8, &'static str),
    /// Likewise, for what its request has in it.
    Unreadable(u8, String),
}

const TOO_LATE: Over = Over::Cut(DEADLINE_EXCEEDED, "Deadline Exceeded");
const AGED: Over = Over::Cut(UNAVAILABLE, "the connection has reached its age");

/// Serves one call.
pub async fn serve(around: Arc<Surroundings>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let mut answer = Answer { respond, stream: None };
    let within = match check(&request, around.max_metadata) {
        Ok(within) => within,
        Err(refusal) => return answer.refuse(refusal),
    };
    let deadline = within.and_then(|within| Instant::now().checked_add(within));
    let (parts, body) = request.into_parts();
    let mut call = Call {
        messages: Messages::new(body, around.max_message),
        ending: around.ending.clone(),
        deadline,
        wanted: false,
    };
    let first = match call.first().await {
        Ok(first) => first,
        Err(refusal) => return answer.refuse(refusal),
    };
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let entered = match around.shedding.door(path, &around.peer.allowed) {
        Door::Open(entered) => entered,
        Door::Shut(trailers) => return call.turned_away(trailers, &around.shedding, &mut answer).await,
    };
    let ended = first.is_none() || call.messages.is_over();
    call.wanted = !ended;
    let (id, slot) = around.queue.register();
    let (path, peer) = (path.to_owned(), around.peer.clone());
    around.queue.push(Incoming { id, path, message: first, ended, deadline, headers: parts.headers, peer, entered });
    let over = call.answered(id, &slot, &around.queue, &mut answer).await;
    let unseen = around.queue.forget(id);
    call.end(over, id, unseen, &around.queue, &mut answer);
}

struct Call {
    messages: Messages,
    ending: watch::Receiver<bool>,
    deadline: Option<Instant>,
    /// Whether Python wants another message, or has to know that there is none.
    wanted: bool,
}

impl Call {
    async fn first(&mut self) -> Result<Option<Bytes>, Refusal> {
        tokio::select! {
            biased;
            first = self.messages.next() => first,
            over = cut(self.deadline, &mut self.ending) => Err(match over {
                Over::Cut(code, text) => Refusal::Status(code, text.into()),
                _ => Refusal::Gone,
            }),
        }
    }

    /// Refuses a call of which Python hears nothing, most often a moment later.
    async fn turned_away(self, trailers: HeaderMap, shedding: &Shedding, answer: &mut Answer) {
        let Self { messages, mut ending, deadline, .. } = self;
        drop(messages); // what else comes of the request takes no room on the connection
        if let Some((until, _held)) = shedding.hold(deadline) {
            tokio::select! {
                biased;
                () = answer.reset() => return,
                _ = ending.wait_for(|ending| *ending) => {}
                () = sleep_until(until.into()) => {}
            }
        }
        let _ = answer.end(trailers); // if it fails, nobody is there
    }

    /// Passes on what Python answers, and what else the client sends, until the call is over.
    async fn answered(&mut self, id: u64, slot: &Slot, queue: &Queue, answer: &mut Answer) -> Over {
        loop {
            let reply = tokio::select! {
                biased;
                reply = poll_fn(|context| slot.poll(context)) => reply,
                () = answer.reset() => return Over::Gone,
                over = cut(self.deadline, &mut self.ending) => return over,
                next = self.messages.next(), if self.wanted => {
                    self.wanted = false;
                    match next {
                        Ok(message) => queue.tell(News::Message(id, message)),
                        Err(Refusal::Status(code, text)) => return Over::Unreadable(code, text),
                        Err(_) => return Over::Gone,
                    }
                    continue;
                }
            };
            match reply {
                Reply::Whole(message) => {
                    return if answer.whole(message).is_ok() { Over::Answered } else { Over::Gone };
                }
                Reply::Part(message) => {
                    tokio::select! {
                        biased;
                        sent = answer.part(message) => if sent.is_err() { return Over::Gone },
                        over = cut(self.deadline, &mut self.ending) => return over,
                    }
                    queue.tell(News::Written(id));
                }
                Reply::End(trailers) => {
                    return if answer.end(trailers).is_ok() { Over::Answered } else { Over::Gone };
                }
                Reply::More => self.wanted = true,
            }
        }
    }

    fn end(&self, over: Over, id: u64, unseen: bool, queue: &Queue, answer: &mut Answer) {
        let (news, trailers) = match over {
            Over::Answered => return,
            Over::Gone => (News::Cancelled(id), None),
            Over::Cut(code, text) => (News::Cancelled(id), Some(status(code, text))),
            Over::Unreadable(code, text) => (News::Unreadable(id), Some(status(code, &text))),
        };
        if !unseen {
            queue.tell(news);
        }
        if let Some(trailers) = trailers {
            let _ = answer.end(trailers); // if it fails, nobody is there
        }
    }
}

/// Returns once a call may not go on: its deadline passed, or every call of its connection must end.
async fn cut(deadline: Option<Instant>, ending: &mut watch::Receiver<bool>) -> Over {
    let late = async {
        match deadline {
            Some(deadline) => sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = ending.wait_for(|ending| *ending) => AGED,
        () = late => TOO_LATE,
    }
}

/// The answer of a call. gRPC has its status in the trailers, or, where nothing else is sent, in the headers.
struct Answer {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
}

impl Answer {
    fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Http(status) => {
                let mut response = Response::new(());
                *response.status_mut() = status;
                let _ = self.respond.send_response(response, true);
            }
            Refusal::Status(code, text) => {
                let _ = self.end(status(code, &text));
            }
            Refusal::Gone => {}
        }
    }

    fn whole(&mut self, message: Bytes) -> Result<(), h2::Error> {
        let stream = self.started()?;
        stream.send_data(message, false)?;
        stream.send_trailers(status(0, ""))
    }

    /// Sends one of several messages; returns once the connection has taken it: it waits for the client to read.
    async fn part(&mut self, mut message: Bytes) -> Result<(), h2::Error> {
        let stream = self.started()?;
        while !message.is_empty() {
            stream.reserve_capacity(message.len());
            let room = poll_fn(|context| {
                loop {
                    match ready!(stream.poll_capacity(context)) {
                        Some(Ok(0)) => {}
                        Some(room) => return Poll::Ready(room),
                        None => return Poll::Ready(Err(h2::Reason::CANCEL.into())),
                    }
                }
            });
            let room = room.await?.min(message.len());
            stream.send_data(message.split_to(room), false)?;
        }
        Ok(())
    }

    fn end(&mut self, trailers: HeaderMap) -> Result<(), h2::Error> {
        if let Some(stream) = &mut self.stream {
            return stream.send_trailers(trailers);
        }
        let mut response = head();
        response.headers_mut().extend(trailers);
        self.respond.send_response(response, true).map(drop)
    }

    fn started(&mut self) -> Result<&mut SendStream<Bytes>, h2::Error> {
        if self.stream.is_none() {
            self.stream = Some(self.respond.send_response(head(), false)?);
        }
        Ok(self.stream.as_mut().expect("it was set above"))
    }

    /// Returns when the client has reset the call, or its connection has ended.
    async fn reset(&mut self) {
        let _ = match &mut self.stream {
            Some(stream) => poll_fn(|context| stream.poll_reset(context)).await,
            None => poll_fn(|context| self.respond.poll_reset(context)).await,
        };
    }
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    response
}
