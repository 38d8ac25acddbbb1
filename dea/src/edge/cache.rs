//! Blobs on disk, named by their digest: one maker at a time, whole or not at all, oldest unused removed.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::warn;

/// A folder of files or folders named by digest; clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: HashMap<String, Item>,
    making: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    uses: u64,
}

struct Item {
    size_bytes: u64,
    last_use: u64,
    users: u32,
}

/// An item in use; it is not removed before this is dropped.
pub struct Lease {
    cache: Cache,
    key: String,
    /// Where it lies.
    pub path: PathBuf,
    /// How large it is.
    pub size_bytes: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(item) = self.cache.0.state.lock().items.get_mut(&self.key) {
            item.users = item.users.saturating_sub(1);
        }
    }
}

/// True for a lower-case hex sha256: the only names that this cache takes.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Cache {
    /// Opens the folder, makes it if it is missing, and removes what was left half made.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn open(folder: &Path, limit_bytes: u64) -> io::Result<Self> {
        passable(folder)?;
        let mut found = vec![];
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_digest(&name) {
                found.push((entry.metadata()?.modified().ok(), name, size(&entry.path())));
            } else {
                remove(&entry.path());
            }
        }
        found.sort();
        let mut state = State { uses: found.len() as u64, ..State::default() };
        for (at, (_, name, size_bytes)) in found.into_iter().enumerate() {
            state.items.insert(name, Item { size_bytes, last_use: at as u64, users: 0 });
        }
        Ok(Self(Arc::new(Inner { folder: folder.to_owned(), limit_bytes, state: Mutex::new(state) })))
    }

    /// The item of that digest; `make` makes it at the path that it is given, if it is not there. Others who ask meanwhile wait.
    ///
    /// # Errors
    /// Those of `make`; `file_error` makes one for the folder itself.
    pub async fn get<E, F: Future<Output = Result<(), E>>>(
        &self,
        key: &str,
        make: impl FnOnce(PathBuf) -> F,
        file_error: impl Fn(io::Error) -> E,
    ) -> Result<Lease, E> {
        if !is_digest(key) {
            return Err(file_error(io::Error::new(io::ErrorKind::InvalidInput, format!("`{key}` is not a sha256"))));
        }
        let turn = self.0.state.lock().making.entry(key.to_owned()).or_default().clone();
        let held = turn.lock().await;
        let found = self.find(key);
        let result = match found {
            Some(lease) => Ok(lease),
            None => self.make(key, make, file_error).await,
        };
        drop(held);
        let mut state = self.0.state.lock();
        if Arc::strong_count(&turn) <= 2 {
            state.making.remove(key);
        }
        drop(state);
        result
    }

    async fn make<E, F: Future<Output = Result<(), E>>>(
        &self,
        key: &str,
        make: impl FnOnce(PathBuf) -> F,
        file_error: impl Fn(io::Error) -> E,
    ) -> Result<Lease, E> {
        let part = self.0.folder.join(format!("{key}.part"));
        remove(&part);
        if let Err(e) = make(part.clone()).await {
            remove(&part);
            return Err(e);
        }
        let path = self.0.folder.join(key);
        let size_bytes = size(&part);
        fs::rename(&part, &path).map_err(file_error)?;
        let mut state = self.0.state.lock();
        state.uses += 1;
        let last_use = state.uses;
        state.items.insert(key.to_owned(), Item { size_bytes, last_use, users: 1 });
        let gone = shed(&mut state, self.0.limit_bytes);
        drop(state);
        for key in gone {
            remove(&self.0.folder.join(key));
        }
        Ok(Lease { cache: self.clone(), key: key.to_owned(), path, size_bytes })
    }

    /// The item of that digest, if it is here.
    pub fn find(&self, key: &str) -> Option<Lease> {
        let path = self.0.folder.join(key);
        let mut state = self.0.state.lock();
        state.uses += 1;
        let uses = state.uses;
        let item = state.items.get_mut(key).filter(|_| path.exists())?;
        item.last_use = uses;
        item.users += 1;
        Some(Lease { cache: self.clone(), key: key.to_owned(), path, size_bytes: item.size_bytes })
    }

    /// Forgets and removes an item that turned out to be broken.
    pub fn discard(&self, key: &str) {
        if self.0.state.lock().items.remove(key).is_some() {
            remove(&self.0.folder.join(key));
        }
    }

    /// The digests of all items.
    pub fn keys(&self) -> Vec<String> {
        self.0.state.lock().items.keys().cloned().collect()
    }
}

/// Makes a folder through which containers reach what they are shown, and in which nobody else can look around.
///
/// # Errors
/// Those of the folder.
pub fn passable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
}

/// Takes the oldest unused items out until the rest fits.
fn shed(state: &mut State, limit_bytes: u64) -> Vec<String> {
    let mut total: u64 = state.items.values().map(|item| item.size_bytes).sum();
    let mut unused: Vec<_> =
        state.items.iter().filter(|(_, item)| item.users == 0).map(|(key, item)| (item.last_use, key.clone())).collect();
    unused.sort();
    let mut gone = vec![];
    for (_, key) in unused {
        if total <= limit_bytes {
            break;
        }
        if let Some(item) = state.items.remove(&key) {
            total = total.saturating_sub(item.size_bytes);
            gone.push(key);
        }
    }
    gone
}

/// Bytes of a file or of all files in a folder; links are not followed.
fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| size(&entry.path())).sum())
}

/// Removes a file or folder, if it is there.
pub fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(e) = removed {
        warn!(error = &e as &dyn std::error::Error, path = %path.display(), "cannot remove");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn key(letter: char) -> String {
        letter.to_string().repeat(64)
    }

    async fn put(cache: &Cache, letter: char, size: usize) -> Lease {
        cache.get(&key(letter), |path: PathBuf| async move { fs::write(path, vec![b'x'; size]) }, |e| e).await.unwrap()
    }

    #[tokio::test]
    async fn two_who_ask_at_once_make_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 1_000).unwrap();
        let made = AtomicU32::new(0);
        let digest = key('a');
        let ask = || {
            cache.get(
                &digest,
                |path: PathBuf| async {
                    let path = path;
                    made.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    fs::write(path, "x")
                },
                |e| e,
            )
        };
        let (a, b) = tokio::join!(ask(), ask());
        assert_eq!((a.unwrap().path.clone(), made.load(Ordering::SeqCst)), (b.unwrap().path.clone(), 1));
    }

    #[tokio::test]
    async fn the_oldest_unused_goes_first_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 250).unwrap();
        let used = put(&cache, 'a', 100).await;
        drop(put(&cache, 'b', 100).await);
        drop(put(&cache, 'c', 100).await);
        let mut keys = cache.keys();
        keys.sort();
        assert_eq!(keys, [key('a'), key('c')]);
        assert!(used.path.exists() && !folder.path().join(key('b')).exists());
    }

    #[tokio::test]
    async fn what_failed_leaves_nothing_and_what_was_made_is_found_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 250).unwrap();
        let failed = cache
            .get(
                &key('a'),
                |path: PathBuf| async move {
                    fs::write(path, "half")?;
                    Err(io::Error::other("no"))
                },
                |e| e,
            )
            .await;
        assert!(failed.is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(put(&cache, 'b', 10).await);
        fs::write(folder.path().join("torn.part"), "x").unwrap();
        assert_eq!(Cache::open(folder.path(), 250).unwrap().keys(), [key('b')]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(cache.get(&"../x".repeat(16), |_| async { Ok(()) }, |e| e).await.is_err());
    }
}
