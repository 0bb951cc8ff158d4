//! What the maker has programmed into the unit: its number, its model, and whom it believes.

use crate::cbor::{Malformed, Reader};
use crate::names::is_hardware_id;
use crate::octets::Octets;

const MAX_MODEL: usize = 64;
const MAX_PASSPORT: usize = 2048;

/// A CBOR map of `hw`, `md` and `an`.
pub struct Passport {
    /// The map, empty in a unit that nobody has programmed: no station can serve it.
    pub octets: Octets<MAX_PASSPORT>,
}

impl Passport {
    /// Of a unit that nobody has programmed.
    #[must_use]
    pub const fn blank() -> Self {
        Self { octets: Octets::new() }
    }

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
    #[must_use]
    pub fn anchors(&self) -> &[u8] {
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
