//! The device's renewals: what it asks the server through a gateway, and what it makes of the answers.

use p256::ecdsa::DerSignature;
use sha2::{Digest as _, Sha256};

use crate::csr;
use crate::device::{Device, Parts, point_of, signing};
use crate::life::{Action, Ask, Event, State, step};
use crate::names::fleet_of;
use crate::objects::{Digest, MAX_CERTIFICATES};
use crate::octets::{Full, Octets, Sink};
use crate::record::{Credential, Key, Way};
use crate::requests::{Renewal, Request, SERVER_NONCE, compose, sign};
use crate::trust::{Whose, Word, held};
use crate::words::Rc;

/// A request that is ready to be carried.
pub struct Asked {
    /// What it asks.
    pub ask: Ask,
    /// By the key of the certificate that speaks.
    pub signature: DerSignature,
}

/// What the server answered to a request other than a renewal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The certificate of this serial is the current one.
    Confirmed([u8; 16]),
    /// The server gave up this key (SHA-256 of its SubjectPublicKeyInfo), or will never certify it.
    Dead {
        /// Which key.
        key_hash: Digest,
        /// Attempts up to here are used up.
        floor: u32,
    },
    /// How a certificate stands.
    Status {
        /// Which one.
        serial: [u8; 16],
        /// Whether another one has taken its place, or it has expired.
        is_over: bool,
        /// When the server wishes to be asked for the next one; 0 for no wish.
        renew_after: u64,
    },
}

impl<P: Parts> Device<P> {
    /// Decides what is to be asked of the server, and writes it; `now` is the gateway's word, and no more
    /// than a hint: it decides when to ask, never what to believe.
    pub fn ask(
        &mut self,
        nonce: &[u8; SERVER_NONCE],
        now: u64,
        out: &mut Request,
    ) -> Result<Option<Asked>, Rc> {
        self.leave_station()?;
        let due = self.record.active.is_some() && now >= self.record.renew_after;
        let event = if due { Event::AskedWhenDue } else { Event::Asked };
        let ask = match step(self.record.state(), event).1 {
            Action::MakeKey => {
                self.begin(Way::Renewal)?;
                Ask::Renew
            }
            Action::Send(ask) => ask,
            Action::Rest | Action::ForgetKey => return Ok(None),
        };
        self.compose(ask, nonce, out).map(|signature| Some(Asked { ask, signature }))
    }

    /// The leaf of the certificate that a request speaks for, DER.
    pub fn speaking_leaf(&self, ask: Ask) -> Result<&[u8], Rc> {
        let (_, credential) = self.speaker(ask).ok_or(Rc::State)?;
        Ok(credential.leaf()?.whole)
    }

    fn speaker(&self, ask: Ask) -> Option<(&Key, &Credential)> {
        let active = self.record.active.as_ref().map(|slot| (&slot.key, &slot.credential));
        if ask == Ask::Confirm { self.record.shown() } else { active }
    }

    /// Takes what the server answered, on the word of the gateway's station.
    pub fn hear(&mut self, told: Told, word: &Word<'_>, signed: &[u8]) -> Result<(), Rc> {
        self.obey(word, signed, None)?;
        match told {
            Told::Confirmed(serial) if self.is_waiting(&serial) => self.activate(),
            Told::Dead { key_hash, floor } if self.is_for_waiting_key(&key_hash) => self.give_up(floor),
            Told::Status { serial, is_over, renew_after } if self.is_active(&serial) => {
                self.take_status(is_over, renew_after)
            }
            _ => Ok(()),
        }
    }

    fn give_up(&mut self, floor: u32) -> Result<(), Rc> {
        match step(self.record.state(), Event::Dead) {
            (_, Action::ForgetKey) => {
                self.record.pending = None;
                self.record.attempt = self.record.attempt.max(floor);
                self.forget_key()
            }
            (State::Enrolling, _) => {
                if let Some(pending) = &mut self.record.pending {
                    pending.credential = None;
                }
                self.keep()
            }
            _ => Ok(()),
        }
    }

    fn take_status(&mut self, is_over: bool, renew_after: u64) -> Result<(), Rc> {
        if is_over && step(self.record.state(), Event::Over).1 == Action::MakeKey {
            return self.begin(Way::Renewal);
        }
        if renew_after != 0 && renew_after != self.record.renew_after {
            self.record.renew_after = renew_after;
            return self.keep();
        }
        Ok(())
    }

    /// Gives up a key for a station that never came back: it must not hold up the renewal of the active one.
    fn leave_station(&mut self) -> Result<(), Rc> {
        if self.record.state() == State::Enrolling && self.record.active.is_some() {
            self.record.pending = None;
            return self.forget_key();
        }
        Ok(())
    }

    fn compose(
        &mut self,
        ask: Ask,
        nonce: &[u8; SERVER_NONCE],
        out: &mut Request,
    ) -> Result<DerSignature, Rc> {
        let id = self.draw();
        let anchors = self.domain_anchors()?;
        let renewal = self.record.pending.as_ref().filter(|_| ask == Ask::Renew).map(|pending| Renewal {
            csr: &pending.csr,
            attempt: self.record.attempt,
            anchors: &anchors,
        });
        compose(ask, id, renewal.as_ref(), out).map_err(|Full| Rc::State)?;
        let (key, credential) = self.speaker(ask).ok_or(Rc::State)?;
        let (configuration, leaf) = (credential.configured()?, credential.leaf()?);
        let name = leaf.dns_names().next().flatten().ok_or(Rc::State)?;
        let fleet = fleet_of(name, configuration.device_id, configuration.domain).ok_or(Rc::State)?;
        Ok(sign(&signing(key)?, fleet, configuration.domain, nonce, out))
    }

    fn domain_anchors(&self) -> Result<Octets<{ MAX_CERTIFICATES * 32 }>, Rc> {
        let mut found = Octets::new();
        for anchor in held(&self.record, Whose::Domains)?.iter() {
            found.put(&Sha256::digest(anchor.whole)).map_err(|Full| Rc::State)?;
        }
        Ok(found)
    }

    fn is_waiting(&self, serial: &[u8; 16]) -> bool {
        self.waiting().is_some_and(|credential| has_serial(credential, serial))
    }

    fn is_active(&self, serial: &[u8; 16]) -> bool {
        self.record.active.as_ref().is_some_and(|slot| has_serial(&slot.credential, serial))
    }

    fn is_for_waiting_key(&self, key_hash: &Digest) -> bool {
        let point = self.record.pending.as_ref().and_then(|pending| point_of(&pending.key).ok());
        point.is_some_and(|point| {
            Sha256::new().chain_update(csr::P256_KEY).chain_update(point).finalize()[..] == key_hash[..]
        })
    }
}

fn has_serial(credential: &Credential, serial: &[u8; 16]) -> bool {
    credential.configured().is_ok_and(|configuration| configuration.serial == *serial)
}
