//! Objects that a station writes, piece by piece; nothing of them is used before INSTALL found all right.

use crate::octets::{Full, Octets};
use crate::record::{MAX_ANCHORS, MAX_CHAIN, MAX_CONFIGURATION};
use crate::words::Rc;

const MAX_STATION_CHAIN: usize = 2048;

/// What a station wrote in this session.
pub struct Transfer {
    /// Object 1.
    pub chain: Octets<MAX_CHAIN>,
    /// Object 2.
    pub anchors: Octets<MAX_ANCHORS>,
    /// Object 3.
    pub configuration: Octets<MAX_CONFIGURATION>,
    /// Object 4: the station's chain, where INSTALL could not carry it.
    pub station: Octets<MAX_STATION_CHAIN>,
}

impl Default for Transfer {
    fn default() -> Self {
        Self::new()
    }
}

impl Transfer {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chain: Octets::new(),
            anchors: Octets::new(),
            configuration: Octets::new(),
            station: Octets::new(),
        }
    }

    /// Keeps a piece of an object; returns how much of it is there.
    pub fn write(&mut self, object: u32, offset: usize, octets: &[u8]) -> Result<usize, Rc> {
        match object {
            1 => write_into(&mut self.chain, offset, octets),
            2 => write_into(&mut self.anchors, offset, octets),
            3 => write_into(&mut self.configuration, offset, octets),
            4 => write_into(&mut self.station, offset, octets),
            _ => Err(Rc::Unsupported),
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.chain.clear();
        self.anchors.clear();
        self.configuration.clear();
        self.station.clear();
    }
}

fn write_into<const N: usize>(object: &mut Octets<N>, at: usize, octets: &[u8]) -> Result<usize, Rc> {
    object.write(at, octets).map_err(|Full| Rc::Offset)?;
    Ok(object.len())
}
