//! Byte strings that live in place: a length beside a buffer of fixed size.

use core::ops::Deref;

/// The buffer has no room for what was to be put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Takes octets one piece after another.
pub trait Sink {
    /// Appends a piece.
    fn put(&mut self, piece: &[u8]) -> Result<(), Full>;
}

/// At most `N` octets.
#[derive(Clone)]
pub struct Octets<const N: usize> {
    held: [u8; N],
    length: usize,
}

impl<const N: usize> Octets<N> {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { held: [0; N], length: 0 }
    }

    /// Replaces what is held; on `Full` it stays as it was.
    pub fn set(&mut self, octets: &[u8]) -> Result<(), Full> {
        self.write(0, octets)
    }

    /// Writes at an offset within what is held, and cuts off the rest.
    pub fn write(&mut self, at: usize, octets: &[u8]) -> Result<(), Full> {
        let end = at + octets.len();
        if at > self.length || end > N {
            return Err(Full);
        }
        self.held[at..end].copy_from_slice(octets);
        self.length = end;
        Ok(())
    }

    /// Appends one octet.
    pub fn push(&mut self, octet: u8) -> Result<(), Full> {
        self.put(&[octet])
    }

    /// Keeps the first octets only.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Overwrites the buffer too: for what is secret.
    pub fn wipe(&mut self) {
        self.held.fill(0);
        self.clear();
    }

    /// The held octets, to be changed in place.
    pub fn octets_mut(&mut self) -> &mut [u8] {
        &mut self.held[..self.length]
    }
}

impl<const N: usize> Default for Octets<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Sink for Octets<N> {
    fn put(&mut self, piece: &[u8]) -> Result<(), Full> {
        self.write(self.length, piece)
    }
}

impl<const N: usize> Deref for Octets<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.held[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut held = Octets::<4>::new();
        assert_eq!(held.put(&[1, 2, 3]), Ok(()));
        assert_eq!(held.put(&[4, 5]), Err(Full));
        assert_eq!(&*held, &[1, 2, 3]);
    }

    #[test]
    fn a_write_leaves_no_gap_and_cuts_off_the_rest() {
        let mut held = Octets::<8>::new();
        assert_eq!(held.write(1, &[9]), Err(Full));
        assert_eq!(held.set(&[1, 2, 3, 4]), Ok(()));
        assert_eq!(held.write(1, &[7]), Ok(()));
        assert_eq!(&*held, &[1, 7]);
    }
}
