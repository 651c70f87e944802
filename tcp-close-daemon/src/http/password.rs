//! Who may ask, by name and password.
//!
//! In: a request's `Authorization`. Out: whether it is that of a user. A password is checked by bcrypt, which is
//! slow by design: off the workers, one at a time, those of each network one after the other. What was right once is
//! remembered, so that it costs nothing the next time; what was wrong is not, so that nobody fills the memory.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::header::HeaderValue;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::limits::{Network, Turns};

/// The longest that bcrypt looks at. What is longer would be as good as its beginning.
const LONGEST: usize = 72;

/// How many that were right are remembered, at most: far more than there are users, each with one password.
const MOST_REMEMBERED: usize = 100;

/// A name and a password, as a client sends them.
pub(super) struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl Credentials {
    /// Those of a header `Authorization`, if it is of the scheme Basic (RFC 7617, section 2).
    pub(super) fn read(header: &HeaderValue) -> Option<Self> {
        let (scheme, coded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let mut user = BASE64_STANDARD.decode(coded.trim()).ok()?;
        let colon = user.iter().position(|&byte| byte == b':')?;
        let password = user.split_off(colon + 1);
        user.pop();
        Some(Self { user: String::from_utf8(user).ok()?, password })
    }
}

/// Who may ask.
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    /// What an unknown user's password is held against, which takes as long as the slowest of the others.
    nobody: String,
    /// Digests of what was right; the salt in each is the hash's own.
    right: Mutex<HashSet<[u8; 32]>>,
}

impl Users {
    /// `None` where there are no users, which means everybody.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Option<Self> {
        let cost = |hash: &String| hash.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost()).ok();
        let cost = hashes.values().filter_map(cost).max()?;
        // Whatever this is the hash of: nobody has the name.
        let nobody = format!("$2b${cost:02}${}", ".".repeat(53));
        Some(Self { hashes, nobody, right: Mutex::default() })
    }

    /// Whether they are a user's. Whether there is such a user takes as long to tell as whether the password is right.
    pub(super) async fn know(&self, who: Credentials, from: Network, desk: &Desk) -> bool {
        if who.password.len() > LONGEST {
            return false;
        }
        let hash = self.hashes.get(&who.user);
        let memory = hash.map(|hash| memory(&who, hash));
        if memory.is_some_and(|memory| self.right().contains(&memory)) {
            return true;
        }
        let is_right = desk.check(who.password, hash.unwrap_or(&self.nobody).clone(), from).await;
        let (true, Some(memory)) = (is_right, memory) else {
            return false;
        };
        let mut right = self.right();
        if right.len() >= MOST_REMEMBERED {
            right.clear();
        }
        right.insert(memory);
        true
    }

    fn right(&self) -> MutexGuard<'_, HashSet<[u8; 32]>> {
        self.right.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn memory(who: &Credentials, hash: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [who.user.as_bytes(), hash.as_bytes(), &who.password] {
        // So that none of one part is taken for the next.
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Where passwords are checked, one at a time.
pub(super) struct Desk {
    place: Arc<Semaphore>,
    /// Each network has one password at the desk, however many it sends.
    turns: Turns,
}

impl Default for Desk {
    fn default() -> Self {
        Self { place: Arc::new(Semaphore::new(1)), turns: Turns::default() }
    }
}

impl Desk {
    async fn check(&self, password: Vec<u8>, hash: String, from: Network) -> bool {
        let turn = self.turns.take(from).await;
        let (Ok(turn), Ok(place)) = (turn, Arc::clone(&self.place).acquire_owned().await) else {
            return false;
        };
        let check = tokio::task::spawn_blocking(move || {
            // It goes on for one that is no longer waited for; only then is it the next one's turn.
            let _until_then = (turn, place);
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        check.await.unwrap_or(false)
    }
}
