//! Tasks that only a leader runs.

use tokio::sync::mpsc;

use crate::app::operator::context::Operator;
use crate::app::operator::replica::leader::Term;
use crate::cluster::client::error::Error;
use crate::core::replica::retry::{Class, Lane, delay};

/// A task that only a leader runs, on items that the watches send.
pub trait LeaderTask: Send {
    /// One piece of work.
    type Item: Send;

    /// Notes an item that comes while this process does not lead. Most tasks find the item in the cache later.
    fn follow(&mut self, _item: Self::Item) {}

    /// Works on everything that is there, and then on the items that come. The end of the term drops the future. A
    /// return ends the task.
    fn lead(&mut self, items: &mut mpsc::UnboundedReceiver<Self::Item>) -> impl Future<Output = ()> + Send;

    /// Waits for the request to stop, while this process does not lead.
    fn stopped(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}

/// Runs a task in each term of this process.
///
/// # Guarantees
/// Work starts after each watch has delivered its first list. At the end of a term all work is dropped.
pub async fn run_in_terms<T: LeaderTask>(
    operator: &Operator,
    mut task: T,
    mut items: mpsc::UnboundedReceiver<T::Item>,
) {
    operator.wait_until_synced().await;
    loop {
        let Some(term) = next_term(operator, &mut task, &mut items).await else {
            return;
        };
        if term.run(task.lead(&mut items)).await.is_some() {
            return;
        }
    }
}

/// The next term; `None`: the task has to stop.
async fn next_term<T: LeaderTask>(
    operator: &Operator,
    task: &mut T,
    items: &mut mpsc::UnboundedReceiver<T::Item>,
) -> Option<Term> {
    let mut begins = std::pin::pin!(operator.leadership.begins());
    loop {
        let item = tokio::select! {
            term = &mut begins => return Some(term),
            () = task.stopped() => return None,
            Some(item) = items.recv() => item,
        };
        task.follow(item);
    }
}

/// Runs an attempt until it succeeds, with the backoff that the class of the error asks for. `failed` gets each error
///
/// and the pause until the next attempt, for the log.
pub async fn retry<F: Future<Output = Result<(), Error>>>(
    lane: Lane,
    mut attempt: impl FnMut() -> F,
    class: impl Fn(&Error) -> Class,
    failed: impl Fn(&Error, std::time::Duration),
) {
    for number in 0.. {
        let Err(error) = attempt().await else { return };
        let pause = delay(class(&error), lane, number);
        failed(&error, pause);
        tokio::time::sleep(pause).await;
    }
}
