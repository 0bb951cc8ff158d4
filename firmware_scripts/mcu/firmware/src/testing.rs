//! What the tests share: keys, and flash whose power can be cut.

use core::cell::Cell;
use std::rc::Rc;
use std::vec::Vec;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use p256::ecdsa::SigningKey;
use sha2::{Digest, Sha256};

use crate::store::FLASH_SIZE;

/// A key made from a number.
pub fn key(number: u8) -> SigningKey {
    let Ok(key) = SigningKey::from_slice(&Sha256::digest([number])) else { unreachable!() };
    key
}

/// Flash as a real one is: erased sectors are all ones, and programming only clears bits. The power goes
/// after so many octets were programmed or erased; what was begun stays half done.
#[derive(Clone)]
pub struct CutFlash {
    /// What it holds.
    pub octets: Vec<u8>,
    /// Octets until the power goes.
    pub left: Rc<Cell<usize>>,
}

impl CutFlash {
    /// Erased, with power for ever.
    pub fn new() -> Self {
        Self { octets: vec![0xff; FLASH_SIZE as usize], left: Rc::new(Cell::new(usize::MAX)) }
    }

    /// The same flash with its power back.
    pub fn restarted(&self) -> Self {
        Self { octets: self.octets.clone(), left: Rc::new(Cell::new(usize::MAX)) }
    }

    fn spend(&self, octets: usize) -> usize {
        let able = self.left.get().min(octets);
        self.left.set(self.left.get() - able);
        able
    }
}

/// The power is gone, or the flash was used wrongly.
#[derive(Debug)]
pub struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for CutFlash {
    type Error = NoPower;
}

impl ReadNorFlash for CutFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        check_read(self, offset, bytes.len()).map_err(|_| NoPower)?;
        bytes.copy_from_slice(&self.octets[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.octets.len()
    }
}

impl NorFlash for CutFlash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        check_erase(self, from, to).map_err(|_| NoPower)?;
        let wanted = (to - from) as usize;
        let able = self.spend(wanted);
        self.octets[from as usize..][..able].fill(0xff);
        if able == wanted { Ok(()) } else { Err(NoPower) }
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        check_write(self, offset, bytes.len()).map_err(|_| NoPower)?;
        let able = self.spend(bytes.len());
        let cells = &mut self.octets[offset as usize..][..able];
        cells.iter_mut().zip(bytes).for_each(|(cell, octet)| *cell &= octet);
        if able == bytes.len() { Ok(()) } else { Err(NoPower) }
    }
}
