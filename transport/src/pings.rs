//! Peers that ask too often whether we are there. h2 answers pings and tells nobody of them, so frames are counted
//! below it, as they pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// What every client begins with (RFC 9113 section 3.4).
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Of a frame (RFC 9113 section 4.1): length, type, flags, stream.
const HEADER: usize = 9;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PING: u8 = 0x6;
const ACK: u8 = 0x1;

/// Where one frame ends and the next begins, however the bytes are cut.
#[derive(Default)]
struct Frames {
    /// Bytes that are no header, until the next one.
    skip: usize,
    header: [u8; HEADER],
    known: usize,
}

impl Frames {
    fn after(preface: usize) -> Self {
        Self { skip: preface, ..Self::default() }
    }

    /// Calls `each` with the type and the flags of every frame that begins in these bytes.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEADER {
                let [high, middle, low, kind, flags, ..] = self.header;
                (self.skip, self.known) = (usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low), 0);
                each(kind, flags);
            }
        }
    }
}

/// What is forgiven: as gRPC's servers have it, so many pings that come too soon after the one before, until something
/// is sent to the peer, which measures its bandwidth then.
const STRIKES: u32 = 2;

struct Patience {
    interval: Duration,
    last: Option<Instant>,
    strikes: u32,
}

impl Patience {
    /// Takes a ping; returns whether it was one too many.
    fn is_over(&mut self, now: Instant) -> bool {
        let soon = self.last.replace(now).is_some_and(|last| now < last + self.interval);
        self.strikes += u32::from(soon);
        self.strikes > STRIKES
    }

    fn renew(&mut self) {
        (self.last, self.strikes) = (None, 0);
    }
}

/// A stream whose frames are looked at. `too_many` is notified of pings that come too often.
pub struct Watched<S> {
    stream: S,
    read: Frames,
    written: Frames,
    patience: Patience,
    too_many: Arc<Notify>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, interval: Duration, too_many: Arc<Notify>) -> Self {
        let patience = Patience { interval, last: None, strikes: 0 };
        Self { stream, read: Frames::after(PREFACE), written: Frames::default(), patience, too_many }
    }

    fn saw_written(&mut self, bytes: &[u8]) {
        let patience = &mut self.patience;
        self.written.pass(bytes, |kind, _| {
            if matches!(kind, DATA | HEADERS) {
                patience.renew();
            }
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, read, patience, too_many, .. } = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        read.pass(&buffer.filled()[before..], |kind, flags| {
            if kind == PING && flags & ACK == 0 && patience.is_over(Instant::now()) {
                too_many.notify_one();
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes))?;
        this.saw_written(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, parts))?;
        let mut left = written;
        for part in parts {
            let here = left.min(part.len());
            this.saw_written(&part[..here]);
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 0], &vec![kind; payload]].concat()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let whole =
            [vec![b'P'; PREFACE], frame(4, 0, 0), frame(PING, 0, 8), frame(DATA, 1, 70_000), frame(PING, ACK, 8)]
                .concat();
        for size in [1, 2, 8, 9, 10, 23, 24, 25, 4096, whole.len()] {
            let (mut frames, mut found) = (Frames::after(PREFACE), Vec::new());
            whole.chunks(size).for_each(|piece| frames.pass(piece, |kind, flags| found.push((kind, flags))));
            assert_eq!(found, [(4, 0), (PING, 0), (DATA, 1), (PING, ACK)], "in pieces of {size}");
        }
    }

    #[test]
    fn the_third_ping_too_soon_is_one_too_many() {
        let mut patience = Patience { interval: Duration::from_secs(10), last: None, strikes: 0 };
        let began = Instant::now();
        let mut at = |seconds| patience.is_over(began + Duration::from_secs(seconds));
        assert_eq!([at(0), at(10), at(11), at(20), at(31), at(32)], [false, false, false, false, false, true]);
    }

    #[test]
    fn pings_are_forgiven_once_something_is_sent() {
        let mut patience = Patience { interval: Duration::from_secs(10), last: None, strikes: 0 };
        let now = Instant::now();
        for _ in 0..10 {
            assert!(!patience.is_over(now) && !patience.is_over(now) && !patience.is_over(now));
            patience.renew();
        }
    }
}
