//! Words of the factory link: its commands, refusals and states, and the texts that are signed.

use sha2::{Digest as _, Sha256};

use crate::life::State;
use crate::objects::Digest;

/// Octets of a session's name.
pub const SESSION: usize = 8;
/// Octets of a nonce.
pub const NONCE: usize = 16;

/// Why the device did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rc {
    /// A piece leaves a gap, or is too long.
    Offset = 1,
    /// The command does not fit the state.
    State = 2,
    /// An object is not the one that was signed.
    Hash = 3,
    /// The certificate is for another key.
    KeyMismatch = 4,
    /// The session is none of this device.
    Session = 5,
    /// Whoever asks, or what is asked, is not trusted.
    Unauthorised = 6,
    /// It cannot be understood.
    Unsupported = 8,
}

impl From<crate::cbor::Malformed> for Rc {
    fn from(_: crate::cbor::Malformed) -> Self {
        Self::Unsupported
    }
}

/// Commands of the factory group.
pub mod command {
    /// Who are you?
    pub const HELLO: u8 = 0;
    /// Make a key for this id.
    pub const IDENT: u8 = 2;
    /// Give a piece of an object.
    pub const READ: u8 = 3;
    /// Take a piece of an object.
    pub const WRITE: u8 = 4;
    /// Put the objects into the waiting slot.
    pub const INSTALL: u8 = 5;
    /// Sign for the key.
    pub const PROVE: u8 = 6;
    /// Use the waiting slot from now on.
    pub const COMMIT: u8 = 7;
    /// Forget the session.
    pub const ABORT: u8 = 8;
    /// How far are you?
    pub const STATUS: u8 = 9;
    /// What do you ask the server?
    pub const ASK: u8 = 10;
    /// This is what the server answered.
    pub const HEAR: u8 = 11;
}

/// What a station sees of where the device stands.
#[must_use]
pub const fn link_state(state: State) -> u64 {
    match state {
        State::Blank => 0,
        State::Enrolling | State::Renewing => 1,
        State::Installed | State::Confirming => 2,
        State::Settled => 3,
    }
}

/// One session: its name, and the nonce of either side.
#[derive(Clone)]
pub struct Session {
    /// Chosen by the station.
    pub id: [u8; SESSION],
    /// Drawn by the device when the session was opened.
    pub nonce: [u8; NONCE],
}

impl Session {
    /// What the station signs with INSTALL, so that the device knows whom it obeys.
    #[must_use]
    pub fn station_text(&self, hashes: &[Digest; 3]) -> [u8; 133] {
        joined(&[b"FFL1 station\0", &self.id, &self.nonce, hashes.as_flattened()])
    }

    /// What the gateway's station signs with HEAR.
    #[must_use]
    pub fn answer_text(&self, answer: &[u8]) -> [u8; 68] {
        joined(&[b"FFL1 answer\0", &self.id, &self.nonce, &Sha256::digest(answer)])
    }

    /// What PROVE signs: possession of the key, bound to this session and to all that was installed.
    #[must_use]
    pub fn proof_text(&self, station_nonce: &[u8; NONCE], hashes: &[Digest; 3], leaf: &[u8]) -> [u8; 179] {
        let fingerprint = Sha256::digest(leaf);
        let objects = hashes.as_flattened();
        joined(&[b"FFL1 proof\0", &self.id, station_nonce, &self.nonce, objects, &fingerprint])
    }
}

/// `N` is the length of all parts together.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut text = [0; N];
    let mut at = 0;
    for part in parts {
        text[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert!(at == N);
    text
}
