//! A body that can be cut off in the middle.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::sync::watch;

/// Ends when something is sent, or when the sender is gone.
type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An upstream body that is passed on as it comes. If it can be cut, it fails
/// when that is asked for, which closes the client's connection.
pub(super) struct Passing {
    inner: Incoming,
    cut: Option<Cut>,
}

impl Passing {
    /// A body that is passed on whole.
    pub(super) fn whole(inner: Incoming) -> Self {
        Self { inner, cut: None }
    }

    /// A body that fails once `cut` changes.
    pub(super) fn until(inner: Incoming, mut cut: watch::Receiver<()>) -> Self {
        cut.mark_unchanged();
        let cut: Cut = Box::pin(async move {
            cut.changed().await.ok();
        });
        Self {
            inner,
            cut: Some(cut),
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(cut) = &mut self.cut
            && cut.as_mut().poll(context).is_ready()
        {
            self.cut = None;
            return Poll::Ready(Some(Err(io::Error::other("cut by the test"))));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
