//! Lists of any length, read page by page.

use std::fmt::Debug;

use kube::Api;
use kube::api::ListParams;
use kube::core::{ObjectList, PartialObjectMeta};
use serde::de::DeserializeOwned;

use crate::cluster::client::call;
use crate::cluster::client::error::Error;

/// Most objects in one response. 1,000 grants have about 3,000 artifacts, and an API server lists 500 objects at a time
/// quickly. One grant takes up to 12 KiB.
const PAGE: u32 = 500;

/// All objects of one kind, in full, each as `read` sees it.
pub(crate) async fn objects<K, T>(
    what: &'static str,
    api: &Api<K>,
    read: impl FnMut(&K) -> Option<T>,
) -> Result<Vec<T>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    pages(ListParams::default(), read, async |page| {
        call(what, api.list(&page)).await
    })
    .await
}

/// The metadata of all objects of one kind that match `selection`, each as `read` sees it.
pub(crate) async fn metadata<K, T>(
    what: &'static str,
    api: &Api<K>,
    selection: ListParams,
    read: impl FnMut(&PartialObjectMeta<K>) -> Option<T>,
) -> Result<Vec<T>, Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    pages(selection, read, async |page| {
        call(what, api.list_metadata(&page)).await
    })
    .await
}

async fn pages<O: Clone, T>(
    selection: ListParams,
    mut read: impl FnMut(&O) -> Option<T>,
    list: impl AsyncFn(ListParams) -> Result<ObjectList<O>, Error>,
) -> Result<Vec<T>, Error> {
    let mut found = Vec::new();
    let mut page = selection.limit(PAGE);
    loop {
        let answer = list(page.clone()).await?;
        found.extend(answer.items.iter().filter_map(&mut read));
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}
