//! Whom the device believes: which of its anchors are for what, and whether a station's word counts.

use sha2::{Digest as _, Sha256};

use crate::cbor::Malformed;
use crate::names::is_domain;
use crate::objects::{Digest, List, certificates};
use crate::record::Record;
use crate::words::Rc;
use crate::x509::{Certificate, path_length};

/// What an anchor is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Servers and stations are trusted by it.
    Servers,
    /// The device's own certificates lead to it.
    Domains,
}

/// Returns the anchors that the device holds for one of the two.
pub fn held(record: &Record, whose: Whose) -> Result<List<Certificate<'_>>, Malformed> {
    let mut found = List::new();
    for anchor in certificates(&record.anchors)?.iter() {
        let digest: Digest = Sha256::digest(anchor.whole).into();
        let is_server = record.servers.chunks(digest.len()).any(|server| server == digest);
        if is_server == (whose == Whose::Servers) {
            found.push(anchor.clone())?;
        }
    }
    Ok(found)
}

/// A signature of a station, and the certificates that say whose it is.
pub struct Word<'a> {
    /// The station's own first.
    pub chain: List<Certificate<'a>>,
    /// ECDSA with SHA-256, DER.
    pub signature: &'a [u8],
}

impl Word<'_> {
    /// Checks that a station below one of these anchors has signed this.
    pub fn require(&self, anchors: &List<Certificate<'_>>, signed: &[u8]) -> Result<(), Rc> {
        let station = self.chain.iter().next().ok_or(Rc::Unauthorised)?;
        let is_trusted = path_length(&self.chain, anchors).is_some() && is_station(station);
        if is_trusted && station.has_signed(signed, self.signature) { Ok(()) } else { Err(Rc::Unauthorised) }
    }
}

/// Stations are told from servers and operators under the same root by `<label>.station.<fleet>`.
fn is_station(certificate: &Certificate<'_>) -> bool {
    let mut names = certificate.dns_names();
    let name = names.next().flatten().filter(|_| names.next().is_none()).unwrap_or_default();
    let mut labels = name.split('.');
    let label = labels.next().unwrap_or_default();
    !label.is_empty()
        && labels.next() == Some("station")
        && labels.next().is_some_and(is_domain)
        && labels.next().is_none()
}
