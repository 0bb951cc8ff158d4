//! One device: its keys, its certificates and what it believes. Each act is durable when it returns.

use embedded_storage::nor_flash::NorFlash;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};

use crate::acceptance::{Offer, accept, vouched};
use crate::cbor::{Malformed, Reader};
use crate::csr;
use crate::life::{Action, Ask, Event, State, step};
use crate::names::{fleet_of, is_hardware_id};
use crate::objects::{Digest, List, certificates};
use crate::octets::{Full, Octets, Sink};
use crate::record::{Credential, Key, Pending, Record, Slot, Way};
use crate::requests::{Renewal, Request, SERVER_NONCE, compose, sign};
use crate::store::{Fault, Store};
use crate::words::{Rc, Session};
use crate::x509::{Certificate, path_length};

const MAX_MODEL: usize = 64;
const MAX_PASSPORT: usize = 2048;

/// What the maker has programmed into the unit: a CBOR map of `hw`, `md` and `an`.
pub struct Passport {
    octets: Octets<MAX_PASSPORT>,
}

impl Passport {
    /// Of a unit that nobody has programmed: no station can serve it.
    const BLANK: Self = Self { octets: Octets::new() };

    /// The hardware id; empty where there is none.
    #[must_use]
    pub fn hardware_id(&self) -> &str {
        self.text("hw").filter(|id| is_hardware_id(id)).unwrap_or_default()
    }

    /// What kind of device it is.
    #[must_use]
    pub fn model(&self) -> &str {
        self.text("md").filter(|model| model.len() <= MAX_MODEL).unwrap_or_default()
    }

    /// CBOR array of the anchors by which stations are trusted; empty: the first station is believed.
    fn anchors(&self) -> &[u8] {
        self.find(|value| value.octets(), "an").unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.find(|value| value.text(), name)
    }

    fn find<'a, T>(
        &'a self,
        read: impl Fn(&mut Reader<'a>) -> Result<T, Malformed>,
        name: &str,
    ) -> Option<T> {
        let mut found = None;
        let mut reader = Reader::new(&self.octets);
        let is_map = reader.map(|key, value| {
            if key == name {
                found = Some(read(value)?);
                return Ok(());
            }
            value.skip()
        });
        is_map.ok().and(found)
    }
}

/// What a station wants to have installed, all of it covered by the hashes.
pub struct Installation<'a> {
    /// Object 1.
    pub chain: &'a [u8],
    /// Object 2.
    pub anchors: &'a [u8],
    /// Object 3.
    pub configuration: &'a [u8],
    /// Of the three.
    pub hashes: [Digest; 3],
}

/// A signature of a station, and the certificates that say whose it is.
pub struct Word<'a> {
    /// CBOR array of DER, the station's own first.
    pub chain: List<Certificate<'a>>,
    /// ECDSA with SHA-256, DER.
    pub signature: &'a [u8],
}

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
        /// Whether another one has taken its place.
        is_superseded: bool,
        /// When the server wishes to be asked for the next one; 0 for no wish.
        renew_after: u64,
    },
}

/// A device over its flash and its source of randomness.
pub struct Device<F: NorFlash, R: RngCore + CryptoRng> {
    store: Store<F>,
    random: R,
    passport: Passport,
    record: Record,
}

impl<F: NorFlash, R: RngCore + CryptoRng> Device<F, R> {
    /// Takes over a device that has just got its power.
    pub fn new(flash: F, random: R) -> Self {
        Self { store: Store::new(flash), random, passport: Passport::BLANK, record: Record::blank() }
    }

    /// Reads what the flash holds, and finishes what a power cut has stopped.
    pub fn start(&mut self) -> Result<(), Fault> {
        if self.store.passport(&mut self.passport.octets)?.is_none() {
            self.passport.octets.clear();
        }
        self.store.load(&mut self.record)?;
        if self.record.is_to_scrub { self.scrub() } else { Ok(()) }
    }

    /// What the maker has programmed.
    pub const fn passport(&self) -> &Passport {
        &self.passport
    }

    /// What the device remembers.
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Octets that nobody can foresee.
    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut octets = [0; N];
        self.random.fill_bytes(&mut octets);
        octets
    }

    /// SHA-256 of the leaf that was installed last, where there is one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Digest> {
        let (_, credential) = self.record.shown()?;
        Some(Sha256::digest(credential.leaf().ok()?.whole).into())
    }

    /// Makes a waiting key for this id, or keeps the one that a station had made for it.
    pub fn request(&mut self, device_id: &str) -> Result<(), Rc> {
        let is_same = self.record.id() == device_id;
        match self.record.state() {
            State::Enrolling | State::Installed if is_same => Ok(()),
            // The server may know the waiting certificate as the current one already.
            State::Confirming => Err(Rc::State),
            _ if self.record.active.is_some() && !is_same => Err(Rc::Unauthorised),
            _ => {
                self.record.device_id.set(device_id.as_bytes()).map_err(|Full| Rc::Unsupported)?;
                self.begin(Way::Station)
            }
        }
    }

    /// The request for the waiting key, DER.
    #[must_use]
    pub fn csr(&self) -> Option<&[u8]> {
        self.record.pending.as_ref().map(|pending| &*pending.csr)
    }

    /// Judges what a station wants to have installed, and puts it into the waiting slot.
    ///
    /// Returns whether nobody vouched for the station: the device had no anchor of its own.
    pub fn install(
        &mut self,
        offer: &Installation<'_>,
        word: &Word<'_>,
        session: &Session,
    ) -> Result<bool, Rc> {
        let parsed = Offer::parse(offer, self.passport.hardware_id())?;
        let is_first = !self.has_anchor();
        self.obey(word, &session.station_text(&offer.hashes), is_first.then_some(&parsed))?;
        let csr_key = self.record.pending.as_ref().map(|pending| point_of(&pending.key));
        let accepted = accept(&parsed, &self.record, &csr_key.ok_or(Rc::State)??)?;
        self.require_newer(&parsed)?;
        let (credential, anchors) = (credential_of(offer)?, vouched(&parsed, accepted, &self.record)?);
        if self.record.servers.is_empty() {
            self.record.servers = digests(&parsed.configuration.servers)?;
        }
        self.record.anchors = anchors;
        if let Some(pending) = &mut self.record.pending {
            pending.credential = Some(credential);
        }
        self.keep()?;
        Ok(is_first)
    }

    /// Signs that the device holds the key of what was installed.
    pub fn prove(&self, session: &Session, station_nonce: &[u8; 16]) -> Result<DerSignature, Rc> {
        let (key, credential) = self.record.shown().ok_or(Rc::State)?;
        let text = session.proof_text(station_nonce, &credential.hashes, credential.leaf()?.whole);
        Ok(signing(key)?.sign(&text))
    }

    /// Uses what a station has installed from now on; the same again changes nothing.
    pub fn commit(&mut self) -> Result<(), Rc> {
        match self.record.state() {
            State::Settled => Ok(()),
            State::Installed => self.activate(),
            _ => Err(Rc::State),
        }
    }

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
            Told::Status { serial, is_superseded, renew_after } if self.is_active(&serial) => {
                self.take_status(is_superseded, renew_after)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, way: Way) -> Result<(), Rc> {
        let signer = SigningKey::random(&mut self.random);
        let csr = csr::request(&signer, self.record.id()).map_err(|Full| Rc::State)?;
        let key = Key(signer.to_bytes().into());
        self.record.attempt += 1;
        self.record.pending = Some(Pending { key, csr, way, credential: None });
        self.keep()
    }

    fn activate(&mut self) -> Result<(), Rc> {
        self.record.renew_after = self.waiting().ok_or(Rc::State)?.configured()?.renew_after;
        if let Some(Pending { key, credential: Some(credential), .. }) = self.record.pending.take() {
            self.record.active = Some(Slot { key, credential });
        }
        self.forget_key()
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

    fn take_status(&mut self, is_superseded: bool, renew_after: u64) -> Result<(), Rc> {
        if is_superseded && step(self.record.state(), Event::Superseded).1 == Action::MakeKey {
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

    fn domain_anchors(&self) -> Result<Octets<{ 6 * 32 }>, Rc> {
        let mut found = Octets::new();
        for anchor in certificates(&self.record.anchors)?.iter() {
            let digest: Digest = Sha256::digest(anchor.whole).into();
            if !is_server(&self.record, &digest) {
                found.put(&digest).map_err(|Full| Rc::State)?;
            }
        }
        Ok(found)
    }

    /// Checks that a station of this fleet signed; with no anchor of its own, the device takes those offered.
    fn obey(&self, word: &Word<'_>, signed: &[u8], first: Option<&Offer<'_>>) -> Result<(), Rc> {
        let mut anchors = certificates(self.passport.anchors())?;
        for anchor in certificates(&self.record.anchors)?.iter() {
            if is_server(&self.record, &Sha256::digest(anchor.whole).into()) {
                anchors.push(anchor.clone())?;
            }
        }
        if let Some(offer) = first {
            offer.servers().try_for_each(|anchor| anchors.push(anchor.clone()))?;
        }
        let station = word.chain.iter().next().ok_or(Rc::Unauthorised)?;
        let is_trusted = path_length(&word.chain, &anchors).is_some() && is_station(station);
        if is_trusted && station.has_signed(signed, word.signature) { Ok(()) } else { Err(Rc::Unauthorised) }
    }

    fn has_anchor(&self) -> bool {
        !self.passport.anchors().is_empty() || !self.record.servers.is_empty()
    }

    /// A certificate that is older than the waiting one must not take its place.
    fn require_newer(&self, offer: &Offer<'_>) -> Result<(), Rc> {
        match self.waiting().map(Credential::configured).transpose()? {
            Some(held) if offer.configuration.serial < held.serial => Err(Rc::Unauthorised),
            _ => Ok(()),
        }
    }

    fn waiting(&self) -> Option<&Credential> {
        self.record.pending.as_ref().and_then(|pending| pending.credential.as_ref())
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

    /// Writes the record, and once more over the half that holds a key which it does not name any more.
    fn forget_key(&mut self) -> Result<(), Rc> {
        self.record.is_to_scrub = true;
        self.keep()?;
        self.scrub().map_err(|Fault| Rc::State)
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        self.record.is_to_scrub = false;
        self.store.save(&self.record)
    }

    /// Writes the record; if the flash fails, what it holds is what the device remembers.
    fn keep(&mut self) -> Result<(), Rc> {
        if self.store.save(&self.record).is_ok() {
            return Ok(());
        }
        self.store.load(&mut self.record).map_err(|Fault| Rc::State)?;
        Err(Rc::State)
    }
}

/// Whether the anchor of this digest is one that servers and stations are trusted by.
pub fn is_server(record: &Record, digest: &Digest) -> bool {
    record.servers.chunks(32).any(|server| server == digest)
}

/// Stations are told from servers and operators under the same root by `<label>.station.<fleet>`.
fn is_station(certificate: &Certificate<'_>) -> bool {
    let mut names = certificate.dns_names();
    let name = names.next().flatten().filter(|_| names.next().is_none()).unwrap_or_default();
    let mut labels = name.split('.');
    let label = labels.next().unwrap_or_default();
    !label.is_empty()
        && labels.next() == Some("station")
        && labels.next().is_some_and(crate::names::is_domain)
        && labels.next().is_none()
}

fn has_serial(credential: &Credential, serial: &[u8; 16]) -> bool {
    credential.configured().is_ok_and(|configuration| configuration.serial == *serial)
}

fn signing(key: &Key) -> Result<SigningKey, Rc> {
    SigningKey::from_slice(&key.0).map_err(|_| Rc::State)
}

fn point_of(key: &Key) -> Result<csr::Point, Rc> {
    signing(key).map(|signer| csr::point_of(&signer))
}

fn digests<const N: usize>(servers: &List<Digest>) -> Result<Octets<N>, Rc> {
    let mut found = Octets::new();
    servers.iter().try_for_each(|digest| found.put(digest)).map_err(|Full| Rc::Offset)?;
    Ok(found)
}

fn credential_of(offer: &Installation<'_>) -> Result<Credential, Rc> {
    let (mut chain, mut configuration) = (Octets::new(), Octets::new());
    chain.set(offer.chain).map_err(|Full| Rc::Offset)?;
    configuration.set(offer.configuration).map_err(|Full| Rc::Offset)?;
    Ok(Credential { chain, configuration, hashes: offer.hashes })
}
