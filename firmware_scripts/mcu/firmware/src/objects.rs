//! Objects that a station writes into a device: certificates, and a configuration.

use crate::cbor::{Malformed, Reader};
use crate::names::{is_hardware_id, split_name};
use crate::x509::Certificate;

/// Most certificates of a chain, and most anchors.
pub const MAX_CERTIFICATES: usize = 6;
const DIGEST: usize = 32;

/// SHA-256 of something.
pub type Digest = [u8; DIGEST];

/// A few things in place.
#[derive(Clone)]
pub struct List<T> {
    items: [Option<T>; MAX_CERTIFICATES],
    length: usize,
}

impl<T> List<T> {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { items: [const { None }; MAX_CERTIFICATES], length: 0 }
    }

    /// Appends one; refused where there is no room.
    pub fn push(&mut self, item: T) -> Result<(), Malformed> {
        *self.items.get_mut(self.length).ok_or(Malformed)? = Some(item);
        self.length += 1;
        Ok(())
    }

    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads a CBOR array of DER certificates; an empty string holds none.
pub fn certificates(octets: &[u8]) -> Result<List<Certificate<'_>>, Malformed> {
    let mut found = List::new();
    if octets.is_empty() {
        return Ok(found);
    }
    let mut reader = Reader::new(octets);
    reader.array(|item| found.push(Certificate::parse(item.octets()?)?))?;
    reader.end()?;
    if found.is_empty() { Err(Malformed) } else { Ok(found) }
}

/// What a device must know beside its certificate.
#[derive(Clone)]
pub struct Configuration<'a> {
    /// The unit that it was made for.
    pub hardware_id: &'a str,
    /// The device's id.
    pub device_id: &'a str,
    /// The security domain.
    pub domain: &'a str,
    /// Serial of the certificate.
    pub serial: [u8; 16],
    /// When the server wishes to be asked for the next one, in seconds since 1970.
    pub renew_after: u64,
    /// SHA-256 of the anchors by which servers and stations are trusted.
    pub servers: List<Digest>,
}

impl<'a> Configuration<'a> {
    /// Reads object 3; members that are not known are passed over.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let (mut version, mut serial, mut renew_after) = (None, None, None);
        let (mut hardware_id, mut device_id, mut name) = (None, None, None);
        let mut servers = List::new();
        let mut reader = Reader::new(octets);
        reader.map(|key, value| {
            match key {
                "v" => version = Some(value.uint()?),
                "hw" => hardware_id = Some(value.text()?),
                "id" => device_id = Some(value.text()?),
                "sn" => serial = Some(value.exactly()?),
                "ra" => renew_after = Some(value.uint()?),
                "broker" => name = Some(broker_name(value)?),
                "servers" => value.array(|item| servers.push(item.exactly()?))?,
                _ => value.skip()?,
            }
            Ok(())
        })?;
        reader.end()?;
        let (domain, named_id) = split_name(name.ok_or(Malformed)?).ok_or(Malformed)?;
        let device_id = device_id.filter(|id| *id == named_id).ok_or(Malformed)?;
        let hardware_id = hardware_id.filter(|id| is_hardware_id(id)).ok_or(Malformed)?;
        if version != Some(1) || servers.is_empty() {
            return Err(Malformed);
        }
        Ok(Self {
            hardware_id,
            device_id,
            domain,
            serial: serial.ok_or(Malformed)?,
            renew_after: renew_after.ok_or(Malformed)?,
            servers,
        })
    }
}

fn broker_name<'a>(value: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    let mut name = None;
    value.map(|key, value| {
        match key {
            "name" => name = Some(value.text()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    name.ok_or(Malformed)
}
