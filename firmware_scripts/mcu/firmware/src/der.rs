//! DER (X.690 8 and 10): one value after another, definite lengths as short as they can be.

use crate::cbor::Malformed;
use crate::octets::{Full, Sink};

/// Tags that certificates and requests are made of.
pub mod tag {
    /// BOOLEAN.
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BITS: u8 = 0x03;
    /// OCTET STRING.
    pub const OCTETS: u8 = 0x04;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// UTF8String.
    pub const UTF8: u8 = 0x0c;
    /// SEQUENCE.
    pub const SEQUENCE: u8 = 0x30;
    /// SET.
    pub const SET: u8 = 0x31;
}

/// One value: its tag, its content, and its octets as a whole.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// What is in it.
    pub content: &'a [u8],
    /// All of it.
    pub whole: &'a [u8],
}

/// Walks over values once.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first octet.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses octets behind the last value.
    pub const fn end(&self) -> Result<(), Malformed> {
        if self.is_at_end() { Ok(()) } else { Err(Malformed) }
    }

    /// Reads the next value.
    pub fn value(&mut self) -> Result<Value<'a>, Malformed> {
        let begun = self.rest;
        let [tag, first] = self.array()?;
        // No type that is used here has a tag of more than one octet.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let length = match first {
            ..=0x7f => usize::from(first),
            0x81 => self.length::<1>(0x80)?,
            0x82 => self.length::<2>(0x100)?,
            _ => return Err(Malformed),
        };
        let (content, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(Value { tag, content, whole: &begun[..begun.len() - rest.len()] })
    }

    /// Reads a value of this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Value<'a>, Malformed> {
        let value = self.value()?;
        if value.tag == tag { Ok(value) } else { Err(Malformed) }
    }

    /// Reads a value of this tag if it comes next.
    pub fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, Malformed> {
        if self.rest.first() == Some(&tag) { self.value().map(Some) } else { Ok(None) }
    }

    /// Enters a value of this tag.
    pub fn enter(&mut self, tag: u8) -> Result<Self, Malformed> {
        Ok(Self::new(self.expect(tag)?.content))
    }

    fn length<const N: usize>(&mut self, least: usize) -> Result<usize, Malformed> {
        let length = self.array::<N>()?.iter().fold(0, |value, octet| value << 8 | usize::from(*octet));
        if length < least { Err(Malformed) } else { Ok(length) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (found, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*found)
    }
}

/// Appends one value whose content is these parts.
pub fn put(tag: u8, parts: &[&[u8]], out: &mut impl Sink) -> Result<(), Full> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    match length {
        0..0x80 => out.put(&[tag, length as u8])?,
        0x80..0x100 => out.put(&[tag, 0x81, length as u8])?,
        0x100..0x1_0000 => out.put(&[tag, 0x82, (length >> 8) as u8, length as u8])?,
        _ => return Err(Full),
    }
    parts.iter().try_for_each(|part| out.put(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    #[test]
    fn every_length_is_written_as_it_is_read() {
        let content = [7u8; 300];
        for length in [0, 1, 127, 128, 255, 256, 300] {
            let mut out = Octets::<310>::new();
            assert_eq!(put(tag::OCTETS, &[&content[..length]], &mut out), Ok(()));
            let value = Reader::new(&out).expect(tag::OCTETS);
            assert!(value.is_ok_and(|value| value.content.len() == length && value.whole == &*out));
        }
    }

    #[test]
    fn a_length_that_is_too_long_or_not_the_shortest_is_refused() {
        for octets in
            [&[4u8, 0x80][..], &[4, 0x81, 0x7f], &[4, 0x82, 0, 0x80], &[4, 2, 0], &[4], &[0x1f, 0x81, 0]]
        {
            assert!(Reader::new(octets).value().is_err(), "{octets:x?}");
        }
    }
}
