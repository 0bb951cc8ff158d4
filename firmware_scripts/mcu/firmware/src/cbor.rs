//! CBOR as the factory link uses it (RFC 8949): integers, octets, text, booleans, null, arrays, maps.
//!
//! The reader refuses tags, floats and deep nesting, and never trusts an announced length.

use crate::octets::{Full, Sink};

const MAX_DEPTH: u8 = 4;
const MAX_ENTRIES: usize = 64;

/// The octets are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Walks over octets once.
pub struct Reader<'a> {
    rest: &'a [u8],
    depth: u8,
}

enum Length {
    Known(u64),
    Open,
}

impl<'a> Reader<'a> {
    /// Begins at the first octet.
    #[must_use]
    pub const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets, depth: MAX_DEPTH }
    }

    /// Refuses octets behind the value.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// Reads an unsigned integer.
    pub fn uint(&mut self) -> Result<u64, Malformed> {
        match self.head()? {
            (0, Length::Known(value)) => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// Reads an unsigned integer that fits into 32 bits.
    pub fn uint32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.uint()?).map_err(|_| Malformed)
    }

    /// Reads a byte string.
    pub fn octets(&mut self) -> Result<&'a [u8], Malformed> {
        match self.head()? {
            (2, Length::Known(length)) => self.take(length),
            _ => Err(Malformed),
        }
    }

    /// Reads a byte string of this very length.
    pub fn exactly<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.octets()?.try_into().map_err(|_| Malformed)
    }

    /// Reads text.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        match self.head()? {
            (3, Length::Known(length)) => core::str::from_utf8(self.take(length)?).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }

    /// Reads an array; `each` must read one item.
    pub fn array(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        match self.head()? {
            (4, length) => self.entries(length, &mut each),
            _ => Err(Malformed),
        }
    }

    /// Reads a map with text keys; `each` gets a key and must read its value, or `skip` it.
    pub fn map(
        &mut self,
        mut each: impl FnMut(&'a str, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        match self.head()? {
            (5, length) => self.entries(length, &mut |reader| {
                let key = reader.text()?;
                each(key, reader)
            }),
            _ => Err(Malformed),
        }
    }

    /// Passes over one value of any kind that is used here.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        match self.head()? {
            (0 | 1, Length::Known(_)) | (7, _) => Ok(()),
            (2, Length::Known(length)) => self.take(length).map(|_| ()),
            (3, Length::Known(length)) => {
                core::str::from_utf8(self.take(length)?).map(|_| ()).map_err(|_| Malformed)
            }
            (4, length) => self.entries(length, &mut Self::skip),
            (5, length) => self.entries(length, &mut |reader| {
                reader.text()?;
                reader.skip()
            }),
            _ => Err(Malformed),
        }
    }

    fn entries(
        &mut self,
        length: Length,
        each: &mut dyn FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.depth = self.depth.checked_sub(1).ok_or(Malformed)?;
        let mut count = 0;
        while self.goes_on(&length, count)? {
            count += 1;
            each(self)?;
        }
        self.depth += 1;
        Ok(())
    }

    fn goes_on(&mut self, length: &Length, count: usize) -> Result<bool, Malformed> {
        if count > MAX_ENTRIES {
            return Err(Malformed);
        }
        match length {
            Length::Known(entries) => Ok((count as u64) < *entries),
            // MCUmgr clients write maps of indefinite length (RFC 8949 3.2.2).
            Length::Open => match self.rest.split_first() {
                Some((0xff, rest)) => {
                    self.rest = rest;
                    Ok(false)
                }
                _ => Ok(true),
            },
        }
    }

    fn head(&mut self) -> Result<(u8, Length), Malformed> {
        let first = self.take(1)?[0];
        let (major, extra) = (first >> 5, first & 0x1f);
        let length = match extra {
            0..24 => Length::Known(u64::from(extra)),
            24..28 if major != 7 => Length::Known(self.number(1 << (extra - 24))?),
            31 if matches!(major, 4 | 5) => Length::Open,
            _ => return Err(Malformed),
        };
        // False, true and null; no other simple value and no float has a meaning here.
        if major == 6 || (major == 7 && !matches!(extra, 20..=22)) {
            return Err(Malformed);
        }
        Ok((major, length))
    }

    fn number(&mut self, length: u64) -> Result<u64, Malformed> {
        Ok(self.take(length)?.iter().fold(0, |value, octet| value << 8 | u64::from(*octet)))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes values, each as short as it can be (RFC 8949 4.2.1).
pub struct Writer<'a, S: Sink> {
    sink: &'a mut S,
}

impl<'a, S: Sink> Writer<'a, S> {
    /// Appends to a sink.
    pub const fn new(sink: &'a mut S) -> Self {
        Self { sink }
    }

    /// Opens a map of so many entries.
    pub fn map(&mut self, entries: usize) -> Result<(), Full> {
        self.head(5, entries as u64)
    }

    /// Opens an array of so many items.
    pub fn array(&mut self, items: usize) -> Result<(), Full> {
        self.head(4, items as u64)
    }

    /// Writes an unsigned integer.
    pub fn uint(&mut self, value: u64) -> Result<(), Full> {
        self.head(0, value)
    }

    /// Writes a byte string.
    pub fn octets(&mut self, octets: &[u8]) -> Result<(), Full> {
        self.head(2, octets.len() as u64)?;
        self.sink.put(octets)
    }

    /// Writes text.
    pub fn text(&mut self, text: &str) -> Result<(), Full> {
        self.head(3, text.len() as u64)?;
        self.sink.put(text.as_bytes())
    }

    /// Writes a key and an unsigned integer.
    pub fn uint_at(&mut self, key: &str, value: u64) -> Result<(), Full> {
        self.text(key)?;
        self.uint(value)
    }

    /// Writes a key and a byte string.
    pub fn octets_at(&mut self, key: &str, octets: &[u8]) -> Result<(), Full> {
        self.text(key)?;
        self.octets(octets)
    }

    /// Writes a key and text.
    pub fn text_at(&mut self, key: &str, text: &str) -> Result<(), Full> {
        self.text(key)?;
        self.text(text)
    }

    fn head(&mut self, major: u8, value: u64) -> Result<(), Full> {
        let octets = value.to_be_bytes();
        let (extra, length) = match value {
            0..24 => return self.sink.put(&[major << 5 | value as u8]),
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        self.sink.put(&[major << 5 | extra])?;
        self.sink.put(&octets[8 - length..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    #[test]
    fn numbers_are_written_as_short_as_they_can_be_and_read_again() {
        for value in [0, 23, 24, 255, 256, 65535, 65536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut octets = Octets::<9>::new();
            assert_eq!(Writer::new(&mut octets).uint(value), Ok(()));
            let mut reader = Reader::new(&octets);
            assert_eq!(reader.uint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn a_map_of_indefinite_length_is_taken() {
        let mut reader = Reader::new(&[0xbf, 0x61, b'd', 0x62, b'h', b'i', 0xff]);
        let mut found = "";
        let read = reader.map(|key, value| {
            assert_eq!(key, "d");
            found = value.text()?;
            Ok(())
        });
        assert_eq!((read, found, reader.end()), (Ok(()), "hi", Ok(())));
    }

    #[test]
    fn what_has_no_meaning_here_is_refused() {
        let wrong: [&[u8]; 12] = [
            b"",
            &[0xc0, 0x00],
            &[0xf9, 0x3c, 0x00],
            &[0xf7],
            &[0xf8, 0x20],
            &[0x5f, 0x41, 0x00, 0xff],
            &[0x42, 0x00],
            &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x61, 0xff],
            &[0x81],
            &[0xa1, 0x00, 0x00],
            &[0x81, 0x81, 0x81, 0x81, 0x81, 0x00],
        ];
        for octets in wrong {
            assert_eq!(Reader::new(octets).skip(), Err(Malformed), "{octets:x?}");
        }
    }

    #[test]
    fn no_octets_make_the_reader_fail_otherwise_than_by_refusing() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                for length in 0..4 {
                    let octets = [first, second, 0xff, second];
                    let _ = Reader::new(&octets[..length]).skip();
                }
            }
        }
    }
}
