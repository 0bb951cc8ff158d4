//! Judges what was issued, before anything of it is activated: for the key that waits, for this device,
//! with a chain to an anchor that is held, or to a new one that a held one has signed for.

use sha2::{Digest as _, Sha256};

use crate::cbor::Writer;
use crate::csr::Point;
use crate::device::Installation;
use crate::names::fleet_of;
use crate::objects::{Configuration, Digest, List, certificates};
use crate::octets::{Full, Octets};
use crate::record::{MAX_ANCHORS, Record};
use crate::trust::{Whose, held};
use crate::words::Rc;
use crate::x509::{Certificate, path_length};

/// What is offered, read and not verified.
pub struct Offer<'a> {
    /// The leaf, then what stands above it.
    pub chain: List<Certificate<'a>>,
    /// Those of servers and those of the domain.
    pub anchors: List<Certificate<'a>>,
    /// Object 3.
    pub configuration: Configuration<'a>,
}

impl<'a> Offer<'a> {
    /// Reads the three objects; they must be meant for this unit.
    pub fn parse(offer: &Installation<'a>, hardware_id: &str) -> Result<Self, Rc> {
        if hashes_of(offer) != offer.hashes {
            return Err(Rc::Hash);
        }
        let found = Self {
            chain: certificates(offer.chain)?,
            anchors: certificates(offer.anchors)?,
            configuration: Configuration::parse(offer.configuration)?,
        };
        if found.configuration.hardware_id != hardware_id {
            return Err(Rc::Unauthorised);
        }
        Ok(found)
    }

    /// The anchors that the configuration names as those of servers.
    pub fn servers(&self) -> impl Iterator<Item = &Certificate<'a>> {
        self.anchors.iter().filter(|anchor| self.is_servers(anchor))
    }

    fn domains(&self) -> impl Iterator<Item = &Certificate<'a>> {
        self.anchors.iter().filter(|anchor| !self.is_servers(anchor))
    }

    fn is_servers(&self, anchor: &Certificate<'_>) -> bool {
        let digest: Digest = Sha256::digest(anchor.whole).into();
        self.configuration.servers.iter().any(|server| *server == digest)
    }
}

/// Checks the leaf and its chain; returns how many certificates the path to the anchor has.
pub fn accept(offer: &Offer<'_>, record: &Record, key: &Point) -> Result<usize, Rc> {
    let leaf = offer.chain.iter().next().ok_or(Rc::Unsupported)?;
    if leaf.point() != Some(key) {
        return Err(Rc::KeyMismatch);
    }
    require(leaf.serial == offer.configuration.serial && !leaf.is_authority && leaf.is_for_clients())?;
    require_names(leaf, &offer.configuration, record)?;
    let mut anchors = List::new();
    if record.anchors.is_empty() {
        // The first answer: the station that brought it was checked.
        offer.domains().try_for_each(|anchor| anchors.push(anchor.clone()))?;
    } else {
        held(record, Whose::Domains)?.iter().try_for_each(|anchor| anchors.push(anchor.clone()))?;
    }
    path_length(&offer.chain, &anchors).ok_or(Rc::Unauthorised)
}

/// Returns the anchors to hold from now on: those held, and offered ones whose subject and key a certificate
/// of the verified path has. That is a CA roll: the held root has signed for the new one.
pub fn vouched(offer: &Offer<'_>, path: usize, record: &Record) -> Result<Octets<MAX_ANCHORS>, Rc> {
    let held = certificates(&record.anchors)?;
    let mut object = Octets::new();
    let mut writer = Writer::new(&mut object);
    let is_grown = |anchor: &Certificate<'_>| {
        let is_held = held.iter().any(|one| one.whole == anchor.whole);
        let mut above = offer.chain.iter().take(path).skip(1);
        !is_held && above.any(|one| one.subject == anchor.subject && one.key == anchor.key)
    };
    let mut all = held.clone();
    for anchor in offer.anchors.iter().filter(|anchor| held.is_empty() || is_grown(anchor)) {
        all.push(anchor.clone())?;
    }
    writer.array(all.len()).map_err(|Full| Rc::Offset)?;
    all.iter().try_for_each(|anchor| writer.octets(anchor.whole)).map_err(|Full| Rc::Offset)?;
    Ok(object)
}

fn require_names(
    leaf: &Certificate<'_>,
    configuration: &Configuration<'_>,
    record: &Record,
) -> Result<(), Rc> {
    require(configuration.device_id == record.id() && leaf.common_name()? == record.id())?;
    let fleet = fleet_in(leaf, configuration)?;
    let Some(active) = &record.active else {
        return Ok(());
    };
    let before = active.credential.configured()?;
    let same_fleet = fleet_in(&active.credential.leaf()?, &before)? == fleet;
    require(same_fleet && before.domain == configuration.domain)
}

fn fleet_in<'a>(leaf: &Certificate<'a>, configuration: &Configuration<'_>) -> Result<&'a str, Rc> {
    let name = leaf.dns_names().next().flatten().ok_or(Rc::Unauthorised)?;
    fleet_of(name, configuration.device_id, configuration.domain).ok_or(Rc::Unauthorised)
}

fn require(is_right: bool) -> Result<(), Rc> {
    if is_right { Ok(()) } else { Err(Rc::Unauthorised) }
}

fn hashes_of(offer: &Installation<'_>) -> [Digest; 3] {
    [offer.chain, offer.anchors, offer.configuration].map(|object| Sha256::digest(object).into())
}
