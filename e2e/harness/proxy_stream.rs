//! A body that can be cut off in the middle, or fall silent.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::watch;

/// What may happen to streams that are open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Interruption {
    /// Nothing yet.
    #[default]
    None,
    /// They break.
    Cut,
    /// They deliver nothing any more, and do not end.
    Mute,
}

/// Ends with the next interruption, or when nobody is left to interrupt.
type Interrupted = Pin<Box<dyn Future<Output = Interruption> + Send>>;

/// An upstream body that is passed on as it comes. It can be cut, and then fails, which closes the client's connection;
/// and it can be muted, and then neither goes on nor ends.
pub(super) struct Passing {
    inner: Incoming,
    interrupted: Option<Interrupted>,
    mute: bool,
}

impl Passing {
    /// A body that is passed on whole.
    pub(super) fn whole(inner: Incoming) -> Self {
        Self {
            inner,
            interrupted: None,
            mute: false,
        }
    }

    /// A body that is passed on until it is interrupted.
    pub(super) fn until(inner: Incoming, interruptions: watch::Receiver<Interruption>) -> Self {
        Self {
            inner,
            interrupted: Some(next(interruptions)),
            mute: false,
        }
    }
}

fn next(mut interruptions: watch::Receiver<Interruption>) -> Interrupted {
    interruptions.mark_unchanged();
    Box::pin(async move {
        // Whoever drops the proxy wants its streams to end.
        match interruptions.changed().await {
            Ok(()) => *interruptions.borrow(),
            Err(_) => Interruption::Cut,
        }
    })
}

impl Body for Passing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(interrupted) = &mut self.interrupted
            && let Poll::Ready(how) = interrupted.as_mut().poll(context)
        {
            self.interrupted = None;
            if how == Interruption::Cut {
                return Poll::Ready(Some(Err(io::Error::other("cut by the test"))));
            }
            self.mute = true;
        }
        if self.mute {
            // Nothing wakes it: only the client can end this.
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        !self.mute && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
