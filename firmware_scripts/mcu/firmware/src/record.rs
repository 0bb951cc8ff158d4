//! The device record: all that a device must remember between two power cuts, replaced as a whole.

use crate::cbor::{Malformed, Reader, Writer};
use crate::csr::MAX_CSR;
use crate::life::State;
use crate::names::MAX_NAME;
use crate::objects::{Configuration, Digest, certificates};
use crate::octets::{Full, Octets, Sink};
use crate::x509::Certificate;

/// Longest chain object: a leaf, its issuing CA, and a link certificate.
pub const MAX_CHAIN: usize = 2560;
/// Longest anchors object.
pub const MAX_ANCHORS: usize = 2560;
/// Longest configuration object.
pub const MAX_CONFIGURATION: usize = 768;
/// Most anchors by which servers are trusted.
pub const MAX_SERVERS: usize = 4;
/// Longest record on flash.
pub const MAX_RECORD: usize = 2 * (MAX_CHAIN + MAX_CONFIGURATION + 256) + MAX_ANCHORS + MAX_CSR + 320;

/// A private key of P-256. It is never printed and leaves the device's flash only into its RAM.
#[derive(Clone)]
pub struct Key(pub [u8; 32]);

/// By whom the waiting slot was begun: only what a station began is ended by its COMMIT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A station, by IDENT.
    Station,
    /// The device itself, when renewal was due.
    Renewal,
}

/// What was installed for a key, byte for byte, with the hashes that station and device have signed.
#[derive(Clone)]
pub struct Credential {
    /// CBOR array of DER, leaf first.
    pub chain: Octets<MAX_CHAIN>,
    /// Object 3.
    pub configuration: Octets<MAX_CONFIGURATION>,
    /// Of the three objects.
    pub hashes: [Digest; 3],
}

impl Credential {
    /// The leaf.
    pub fn leaf(&self) -> Result<Certificate<'_>, Malformed> {
        certificates(&self.chain)?.iter().next().cloned().ok_or(Malformed)
    }

    /// Object 3, read.
    pub fn configured(&self) -> Result<Configuration<'_>, Malformed> {
        Configuration::parse(&self.configuration)
    }
}

/// A key and its certificate.
#[derive(Clone)]
pub struct Slot {
    /// Private.
    pub key: Key,
    /// What certifies it.
    pub credential: Credential,
}

/// The slot of the next credential: a key first, its certificate later.
#[derive(Clone)]
pub struct Pending {
    /// Private.
    pub key: Key,
    /// Its request, the same octets each time.
    pub csr: Octets<MAX_CSR>,
    /// Who began it.
    pub way: Way,
    /// What certifies it, once it came.
    pub credential: Option<Credential>,
}

/// Two slots and what goes with them.
#[derive(Clone)]
pub struct Record {
    /// Empty before the first IDENT.
    pub device_id: Octets<MAX_NAME>,
    /// Keys made so far; never goes back while the record lives.
    pub attempt: u32,
    /// CBOR array of the domain's anchors and those of servers and stations; empty before the first.
    pub anchors: Octets<MAX_ANCHORS>,
    /// SHA-256 of those of the anchors by which servers and stations are trusted, one after another.
    pub servers: Octets<{ MAX_SERVERS * 32 }>,
    /// When the server wishes to be asked for the next certificate, in seconds since 1970.
    pub renew_after: u64,
    /// The credential in use.
    pub active: Option<Slot>,
    /// The next one.
    pub pending: Option<Pending>,
    /// Whether the flash may still hold a key that this record does not name.
    pub is_to_scrub: bool,
}

impl Record {
    /// Of a device that was never enrolled.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            device_id: Octets::new(),
            attempt: 0,
            anchors: Octets::new(),
            servers: Octets::new(),
            renew_after: 0,
            active: None,
            pending: None,
            is_to_scrub: false,
        }
    }

    /// Where the device stands.
    #[must_use]
    pub fn state(&self) -> State {
        match (&self.pending, &self.active) {
            (Some(pending), _) => match (pending.way, &pending.credential) {
                (Way::Station, None) => State::Enrolling,
                (Way::Renewal, None) => State::Renewing,
                (Way::Station, Some(_)) => State::Installed,
                (Way::Renewal, Some(_)) => State::Confirming,
            },
            (None, Some(_)) => State::Settled,
            (None, None) => State::Blank,
        }
    }

    /// The device id, empty before the first IDENT.
    #[must_use]
    pub fn id(&self) -> &str {
        core::str::from_utf8(&self.device_id).unwrap_or_default()
    }

    /// The slot that would sign a proof: the one that was installed last.
    #[must_use]
    pub fn shown(&self) -> Option<(&Key, &Credential)> {
        let pending = self.pending.as_ref();
        let waiting =
            pending.and_then(|slot| slot.credential.as_ref().map(|credential| (&slot.key, credential)));
        waiting.or_else(|| self.active.as_ref().map(|slot| (&slot.key, &slot.credential)))
    }

    /// Writes the record as CBOR.
    pub fn encode(&self, out: &mut impl Sink) -> Result<(), Full> {
        let mut writer = Writer::new(out);
        writer.map(8)?;
        writer.octets_at("id", &self.device_id)?;
        writer.uint_at("at", u64::from(self.attempt))?;
        writer.octets_at("an", &self.anchors)?;
        writer.octets_at("se", &self.servers)?;
        writer.uint_at("ra", self.renew_after)?;
        writer.uint_at("sc", u64::from(self.is_to_scrub))?;
        writer.text("ac")?;
        writer.array(if self.active.is_some() { 6 } else { 0 })?;
        if let Some(active) = &self.active {
            writer.octets(&active.key.0)?;
            encode_credential(&active.credential, &mut writer)?;
        }
        writer.text("pe")?;
        encode_pending(self.pending.as_ref(), &mut writer)
    }

    /// Reads what `encode` wrote; each member of it takes the place of the one that is held.
    pub fn decode(&mut self, octets: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(octets);
        reader.map(|key, value| {
            match key {
                "id" => copy(value, &mut self.device_id)?,
                "at" => self.attempt = value.uint32()?,
                "an" => copy(value, &mut self.anchors)?,
                "se" => copy(value, &mut self.servers)?,
                "ra" => self.renew_after = value.uint()?,
                "sc" => self.is_to_scrub = value.uint()? != 0,
                "ac" => self.active = decode_active(value)?,
                "pe" => self.pending = decode_pending(value)?,
                _ => return Err(Malformed),
            }
            Ok(())
        })?;
        reader.end()
    }

    /// Becomes the record of a device that was never enrolled.
    pub fn clear(&mut self) {
        self.device_id.clear();
        self.attempt = 0;
        self.anchors.clear();
        self.servers.clear();
        self.renew_after = 0;
        self.active = None;
        self.pending = None;
        self.is_to_scrub = false;
    }
}

fn encode_credential<S: Sink>(credential: &Credential, writer: &mut Writer<'_, S>) -> Result<(), Full> {
    writer.octets(&credential.chain)?;
    writer.octets(&credential.configuration)?;
    credential.hashes.iter().try_for_each(|hash| writer.octets(hash))
}

fn encode_pending<S: Sink>(pending: Option<&Pending>, writer: &mut Writer<'_, S>) -> Result<(), Full> {
    let Some(pending) = pending else {
        return writer.array(0);
    };
    writer.array(if pending.credential.is_some() { 8 } else { 3 })?;
    writer.octets(&pending.key.0)?;
    writer.octets(&pending.csr)?;
    writer.uint(u64::from(pending.way == Way::Renewal))?;
    match &pending.credential {
        Some(credential) => encode_credential(credential, writer),
        None => Ok(()),
    }
}

/// What an array of a slot may hold, by place.
#[derive(Default)]
struct Parts<'a> {
    octets: [Option<&'a [u8]>; 8],
    count: usize,
}

impl<'a> Parts<'a> {
    fn read(value: &mut Reader<'a>, number_at: usize) -> Result<(Self, u64), Malformed> {
        let (mut parts, mut number) = (Self::default(), 0);
        value.array(|item| {
            let place = parts.octets.get_mut(parts.count).ok_or(Malformed)?;
            if parts.count == number_at {
                number = item.uint()?;
            } else {
                *place = Some(item.octets()?);
            }
            parts.count += 1;
            Ok(())
        })?;
        Ok((parts, number))
    }

    fn exactly<const N: usize>(&self, place: usize) -> Result<[u8; N], Malformed> {
        self.octets[place].and_then(|octets| octets.try_into().ok()).ok_or(Malformed)
    }

    fn held<const N: usize>(&self, place: usize) -> Result<Octets<N>, Malformed> {
        let mut held = Octets::new();
        held.set(self.octets[place].ok_or(Malformed)?).map_err(|_| Malformed)?;
        Ok(held)
    }

    fn credential(&self, from: usize) -> Result<Credential, Malformed> {
        Ok(Credential {
            chain: self.held(from)?,
            configuration: self.held(from + 1)?,
            hashes: [self.exactly(from + 2)?, self.exactly(from + 3)?, self.exactly(from + 4)?],
        })
    }
}

fn decode_active(value: &mut Reader<'_>) -> Result<Option<Slot>, Malformed> {
    let (parts, _) = Parts::read(value, usize::MAX)?;
    match parts.count {
        0 => Ok(None),
        6 => Ok(Some(Slot { key: Key(parts.exactly(0)?), credential: parts.credential(1)? })),
        _ => Err(Malformed),
    }
}

fn decode_pending(value: &mut Reader<'_>) -> Result<Option<Pending>, Malformed> {
    let (parts, number) = Parts::read(value, 2)?;
    let credential = match parts.count {
        0 => return Ok(None),
        3 => None,
        8 => Some(parts.credential(3)?),
        _ => return Err(Malformed),
    };
    let way = if number == 0 { Way::Station } else { Way::Renewal };
    Ok(Some(Pending { key: Key(parts.exactly(0)?), csr: parts.held(1)?, way, credential }))
}

fn copy<const N: usize>(value: &mut Reader<'_>, into: &mut Octets<N>) -> Result<(), Malformed> {
    into.set(value.octets()?).map_err(|_| Malformed)
}
