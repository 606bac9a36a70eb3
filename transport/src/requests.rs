//! The messages of one call, out of the DATA frames that carry them.

use bytes::{Buf, Bytes, BytesMut};
use h2::RecvStream;

use crate::headers::{INTERNAL, RESOURCE_EXHAUSTED, Refusal};

/// One byte that says whether the message is compressed, four with its length.
const PREFIX: usize = 5;

/// Reads length-prefixed messages. Holds at most one, and what came with its end: the receive window bounds that.
pub struct Messages {
    body: RecvStream,
    held: BytesMut,
    limit: usize,
}

impl Messages {
    pub fn new(body: RecvStream, limit: usize) -> Self {
        Self { body, held: BytesMut::new(), limit }
    }

    /// Whether nothing can follow what was read.
    pub fn is_over(&self) -> bool {
        self.held.is_empty() && self.body.is_end_stream()
    }

    /// Returns the next message; `None` after the last. A message that is too large is refused by its prefix.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        if !self.hold(PREFIX).await? {
            return Ok(None);
        }
        let length = self.length()?;
        if !self.hold(PREFIX + length).await? {
            return Err(cut());
        }
        self.held.advance(PREFIX);
        Ok(Some(self.held.split_to(length).freeze()))
    }

    fn length(&self) -> Result<usize, Refusal> {
        if self.held[0] != 0 {
            // "identity" is the only encoding that the call's headers can have named by now.
            let text = "a message is compressed, and the call says that none is";
            return Err(Refusal::Status(INTERNAL, text.into()));
        }
        let length = (&self.held[1..PREFIX]).get_u32() as usize;
        if length > self.limit {
            let text = format!("received message larger than max ({length} vs. {})", self.limit);
            return Err(Refusal::Status(RESOURCE_EXHAUSTED, text));
        }
        Ok(length)
    }

    /// Reads until so many bytes are held; `false` if the request ended before the first of them.
    async fn hold(&mut self, size: usize) -> Result<bool, Refusal> {
        while self.held.len() < size {
            match self.body.data().await {
                Some(Ok(piece)) => {
                    // What is held is bounded by one message; its room on the connection is given back at once.
                    let _ = self.body.flow_control().release_capacity(piece.len());
                    self.held.extend_from_slice(&piece);
                }
                Some(Err(_)) => return Err(Refusal::Gone),
                None if self.held.is_empty() => return Ok(false),
                None => return Err(cut()),
            }
        }
        Ok(true)
    }
}

fn cut() -> Refusal {
    Refusal::Status(INTERNAL, "the request ends within a message".into())
}

/// Returns an uncompressed message with its prefix.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.freeze()
}
