//! One device: its keys, its certificates and what it believes. Each act is durable when it returns.

use embedded_storage::nor_flash::NorFlash;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};

use crate::acceptance::{Offer, accept, vouched};
use crate::csr;
use crate::life::State;
use crate::objects::{Digest, List, certificates};
use crate::octets::{Full, Octets, Sink};
use crate::passport::Passport;
use crate::record::{Credential, Key, Pending, Record, Slot, Way};
use crate::store::{Fault, Store};
use crate::trust::{Whose, Word, held};
use crate::words::{Rc, Session};

/// What a board lends to its device.
pub trait Parts {
    /// Where the record lies.
    type Flash: NorFlash;
    /// The source of keys and nonces.
    type Random: RngCore + CryptoRng;
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

/// A device over its flash and its source of randomness.
pub struct Device<P: Parts> {
    pub(crate) store: Store<P::Flash>,
    pub(crate) random: P::Random,
    pub(crate) passport: Passport,
    pub(crate) record: Record,
}

impl<P: Parts> Device<P> {
    /// Takes over a device that has just got its power.
    pub fn new(flash: P::Flash, random: P::Random) -> Self {
        Self { store: Store::new(flash), random, passport: Passport::blank(), record: Record::blank() }
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

    /// Makes a key for the waiting slot, in one write with the count of it.
    pub(crate) fn begin(&mut self, way: Way) -> Result<(), Rc> {
        let signer = SigningKey::random(&mut self.random);
        let csr = csr::request(&signer, self.record.id()).map_err(|Full| Rc::State)?;
        let key = Key(signer.to_bytes().into());
        self.record.attempt += 1;
        let dropped = self.record.pending.replace(Pending { key, csr, way, credential: None });
        if dropped.is_some() { self.forget_key() } else { self.keep() }
    }

    pub(crate) fn activate(&mut self) -> Result<(), Rc> {
        self.record.renew_after = self.waiting().ok_or(Rc::State)?.configured()?.renew_after;
        if let Some(Pending { key, credential: Some(credential), .. }) = self.record.pending.take() {
            self.record.active = Some(Slot { key, credential });
        }
        self.forget_key()
    }

    pub(crate) fn obey(&self, word: &Word<'_>, signed: &[u8], first: Option<&Offer<'_>>) -> Result<(), Rc> {
        let mut anchors = certificates(self.passport.anchors())?;
        held(&self.record, Whose::Servers)?.iter().try_for_each(|anchor| anchors.push(anchor.clone()))?;
        if let Some(offer) = first {
            // With no anchor of its own, the device takes those that the station brought.
            offer.servers().try_for_each(|anchor| anchors.push(anchor.clone()))?;
        }
        word.require(&anchors, signed)
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

    pub(crate) fn waiting(&self) -> Option<&Credential> {
        self.record.pending.as_ref().and_then(|pending| pending.credential.as_ref())
    }

    /// Writes the record, and once more over the half that holds a key which it does not name any more.
    pub(crate) fn forget_key(&mut self) -> Result<(), Rc> {
        self.record.is_to_scrub = true;
        self.keep()?;
        self.scrub().map_err(|Fault| Rc::State)
    }

    fn scrub(&mut self) -> Result<(), Fault> {
        self.record.is_to_scrub = false;
        self.store.save(&self.record)
    }

    /// Writes the record; if the flash fails, what it holds is what the device remembers.
    pub(crate) fn keep(&mut self) -> Result<(), Rc> {
        if self.store.save(&self.record).is_ok() {
            return Ok(());
        }
        self.store.load(&mut self.record).map_err(|Fault| Rc::State)?;
        Err(Rc::State)
    }
}

pub(crate) fn signing(key: &Key) -> Result<SigningKey, Rc> {
    SigningKey::from_slice(&key.0).map_err(|_| Rc::State)
}

pub(crate) fn point_of(key: &Key) -> Result<csr::Point, Rc> {
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
