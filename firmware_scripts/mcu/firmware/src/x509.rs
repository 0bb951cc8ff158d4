//! Certificates (RFC 5280): what one says of itself, and whether a path of them leads to an anchor.
//!
//! P-256 with SHA-256 only. Dates are not looked at: this device has no clock that it could trust.

use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{DerSignature, VerifyingKey};

use crate::cbor::Malformed;
use crate::csr::{ECDSA_WITH_SHA256, P256_KEY, Point};
use crate::der::{Reader, Value, tag};
use crate::objects::List;

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 30];
const EXTENDED_USAGE: &[u8] = &[0x55, 0x1d, 37];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
const KEY_CERT_SIGN: u8 = 0x04;
const DNS_NAME: u8 = 0x82;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const PERMITTED: u8 = 0xa0;

/// A certificate whose form was read; nothing of it is verified.
#[derive(Clone)]
pub struct Certificate<'a> {
    /// Its DER.
    pub whole: &'a [u8],
    /// Without a leading zero.
    pub serial: &'a [u8],
    /// The subject, DER.
    pub subject: &'a [u8],
    /// The SubjectPublicKeyInfo, DER.
    pub key: &'a [u8],
    /// Whether it may sign others.
    pub is_authority: bool,
    issuer: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
    path_length: Option<u8>,
    names: &'a [u8],
    permitted: Option<&'a [u8]>,
    usages: Option<&'a [u8]>,
    may_sign: bool,
    is_strange: bool,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let mut outer = Reader::new(octets);
        let whole = outer.expect(tag::SEQUENCE)?;
        outer.end()?;
        let mut inside = Reader::new(whole.content);
        let signed = inside.expect(tag::SEQUENCE)?;
        let algorithm = inside.expect(tag::SEQUENCE)?.whole;
        let signature = bits(inside.expect(tag::BITS)?)?;
        inside.end()?;
        let mut fields = Reader::new(signed.content);
        fields.optional(VERSION)?;
        let serial = fields.expect(tag::INTEGER)?.content;
        if fields.expect(tag::SEQUENCE)?.whole != algorithm {
            return Err(Malformed);
        }
        let issuer = fields.expect(tag::SEQUENCE)?.whole;
        fields.expect(tag::SEQUENCE)?;
        let mut found = Self {
            whole: whole.whole,
            serial: serial.strip_prefix(&[0]).unwrap_or(serial),
            subject: fields.expect(tag::SEQUENCE)?.whole,
            key: fields.expect(tag::SEQUENCE)?.whole,
            is_authority: false,
            issuer,
            signed: signed.whole,
            signature,
            path_length: None,
            names: &[],
            permitted: None,
            usages: None,
            may_sign: true,
            is_strange: algorithm != ECDSA_WITH_SHA256,
        };
        if let Some(extensions) = fields.optional(EXTENSIONS)? {
            found.read_extensions(extensions.content)?;
        }
        fields.end()?;
        Ok(found)
    }

    /// The key as a point of P-256, where it is one.
    #[must_use]
    pub fn point(&self) -> Option<&Point> {
        self.key.strip_prefix(&P256_KEY)?.try_into().ok()
    }

    /// The common name, where there is exactly one.
    pub fn common_name(&self) -> Result<&'a str, Malformed> {
        let mut found = Err(Malformed);
        let mut sets = Reader::new(self.subject).enter(tag::SEQUENCE)?;
        while !sets.is_at_end() {
            let mut attributes = sets.enter(tag::SET)?;
            while !attributes.is_at_end() {
                let mut attribute = attributes.enter(tag::SEQUENCE)?;
                if attribute.expect(tag::OID)?.content == COMMON_NAME {
                    let text = core::str::from_utf8(attribute.value()?.content);
                    found = if found.is_ok() { return Err(Malformed) } else { text.map_err(|_| Malformed) };
                }
            }
        }
        found
    }

    /// The names in subjectAltName that are dNSNames, in their order; a name of another kind is none.
    pub fn dns_names(&self) -> impl Iterator<Item = Option<&'a str>> {
        let mut names = Reader::new(self.names);
        core::iter::from_fn(move || {
            let name = if names.is_at_end() { None } else { names.value().ok() };
            name.map(|name| (name.tag == DNS_NAME).then(|| core::str::from_utf8(name.content).ok())?)
        })
    }

    /// Whether it is for clientAuth, and at most for serverAuth too.
    #[must_use]
    pub fn is_for_clients(&self) -> bool {
        let mut usages = Reader::new(self.usages.unwrap_or_default());
        let mut is_client = false;
        while !usages.is_at_end() {
            match usages.expect(tag::OID) {
                Ok(usage) if usage.content == CLIENT_AUTH => is_client = true,
                Ok(usage) if usage.content == SERVER_AUTH => {}
                _ => return false,
            }
        }
        is_client
    }

    /// Whether its key made this signature (ECDSA with SHA-256, in DER).
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = self.point().and_then(|point| VerifyingKey::from_sec1_bytes(point).ok());
        match (key, DerSignature::try_from(signature)) {
            (Some(key), Ok(signature)) => key.verify(message, &signature).is_ok(),
            _ => false,
        }
    }

    /// Whether this one is issued by another, by name and signature.
    fn is_issued_by(&self, issuer: &Certificate<'_>) -> bool {
        self.issuer == issuer.subject && issuer.has_signed(self.signed, self.signature)
    }

    /// RFC 5280 6.1.4: whether so many authorities may stand below it, above this leaf.
    fn may_stand_above(&self, leaf: &Certificate<'_>, below: usize) -> bool {
        let is_short = self.path_length.is_none_or(|most| below <= usize::from(most));
        self.is_authority && self.may_sign && !self.is_strange && is_short && self.permits(leaf)
    }

    fn permits(&self, leaf: &Certificate<'_>) -> bool {
        let Some(permitted) = self.permitted else {
            return true;
        };
        leaf.dns_names()
            .all(|name| name.is_some_and(|name| domains(permitted).any(|domain| is_within(name, domain))))
    }

    fn read_extensions(&mut self, content: &'a [u8]) -> Result<(), Malformed> {
        let mut list = Reader::new(content);
        let mut extensions = list.enter(tag::SEQUENCE)?;
        list.end()?;
        while !extensions.is_at_end() {
            let mut extension = extensions.enter(tag::SEQUENCE)?;
            let kind = extension.expect(tag::OID)?.content;
            let is_critical = extension.optional(tag::BOOLEAN)?.is_some_and(|value| value.content != [0]);
            let value = extension.expect(tag::OCTETS)?.content;
            extension.end()?;
            self.read_extension(kind, value, is_critical)?;
        }
        Ok(())
    }

    fn read_extension(&mut self, kind: &[u8], value: &'a [u8], is_critical: bool) -> Result<(), Malformed> {
        let mut reader = Reader::new(value);
        match kind {
            BASIC_CONSTRAINTS => {
                let mut constraints = reader.enter(tag::SEQUENCE)?;
                let is_authority = constraints.optional(tag::BOOLEAN)?;
                self.is_authority = is_authority.is_some_and(|value| value.content == [0xff]);
                self.path_length = match constraints.optional(tag::INTEGER)?.map(|value| value.content) {
                    None => None,
                    Some([length @ 0..0x80]) => Some(*length),
                    Some(_) => return Err(Malformed),
                };
            }
            KEY_USAGE => {
                let usage = bits_of_any_length(reader.expect(tag::BITS)?)?;
                self.may_sign = usage.first().is_some_and(|octet| octet & KEY_CERT_SIGN != 0);
            }
            ALTERNATIVE_NAME => self.names = reader.expect(tag::SEQUENCE)?.content,
            NAME_CONSTRAINTS => self.permitted = Some(permitted(&mut reader)?),
            EXTENDED_USAGE => self.usages = Some(reader.expect(tag::SEQUENCE)?.content),
            // RFC 5280 4.2: what is critical and not understood must not be passed over.
            _ => self.is_strange |= is_critical,
        }
        Ok(())
    }
}

/// Only dNSName subtrees that are permitted are understood; verifiers agree on nothing else.
fn permitted<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let mut constraints = reader.enter(tag::SEQUENCE)?;
    let found = constraints.expect(PERMITTED)?.content;
    constraints.end()?;
    let mut trees = Reader::new(found);
    while !trees.is_at_end() {
        let mut tree = trees.enter(tag::SEQUENCE)?;
        tree.expect(DNS_NAME)?;
        tree.end()?;
    }
    Ok(found)
}

fn domains(permitted: &[u8]) -> impl Iterator<Item = &str> {
    let mut trees = Reader::new(permitted);
    core::iter::from_fn(move || {
        let domain = trees.enter(tag::SEQUENCE).and_then(|mut tree| tree.expect(DNS_NAME)).ok()?;
        core::str::from_utf8(domain.content).ok()
    })
}

/// RFC 5280 4.2.1.10: the domain itself, or labels in front of it.
fn is_within(name: &str, domain: &str) -> bool {
    match name.strip_suffix(domain) {
        Some(front) => front.is_empty() || front.ends_with('.') || domain.starts_with('.'),
        None => false,
    }
}

fn bits(value: Value<'_>) -> Result<&[u8], Malformed> {
    match value.content {
        [0, octets @ ..] => Ok(octets),
        _ => Err(Malformed),
    }
}

fn bits_of_any_length(value: Value<'_>) -> Result<&[u8], Malformed> {
    match value.content {
        [0..8, octets @ ..] => Ok(octets),
        _ => Err(Malformed),
    }
}

/// Walks up from the leaf; each step is signed by the next, until an anchor signed (RFC 5280 6.1).
///
/// Returns how many certificates of the chain the path has, or None where it leads to no anchor.
#[must_use]
pub fn path_length(chain: &List<Certificate<'_>>, anchors: &List<Certificate<'_>>) -> Option<usize> {
    let leaf = chain.iter().next()?;
    let mut above = chain.iter().skip(1);
    for (height, certificate) in chain.iter().enumerate() {
        if certificate.is_strange || (height > 0 && !certificate.may_stand_above(leaf, height - 1)) {
            return None;
        }
        let mut able = anchors.iter().filter(|anchor| anchor.may_stand_above(leaf, height));
        if able.any(|anchor| certificate.is_issued_by(anchor)) {
            return Some(height + 1);
        }
        if !above.next().is_some_and(|next| certificate.is_issued_by(next)) {
            return None;
        }
    }
    None
}
