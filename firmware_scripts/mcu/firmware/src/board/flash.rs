//! NOR flash, emulated in the board's PSRAM, which QEMU keeps in a file of the host: what was written is
//! there after a reset and after QEMU was killed.
//!
//! Erasing sets all bits of a sector, programming only clears bits, and each store reaches the file by
//! itself: a power cut leaves any part of what was begun.

use core::ptr::{read_volatile, write_volatile};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

const BASE: usize = 0x2100_0000;
const SIZE: usize = 0x1_0000;

/// The flash of this board.
pub struct Flash {
    base: *mut u8,
}

impl Flash {
    /// Call it once: two of them would program over each other.
    pub fn take() -> Self {
        Self { base: BASE as *mut u8 }
    }

    fn load(&self, at: usize) -> u8 {
        assert!(at < SIZE);
        // SAFETY: PSRAM has 16 MB at BASE, and `at` lies within SIZE.
        unsafe { read_volatile(self.base.add(at)) }
    }

    fn store(&mut self, at: usize, octet: u8) {
        assert!(at < SIZE);
        // SAFETY: as `load`; nothing else of this program lies in PSRAM.
        unsafe { write_volatile(self.base.add(at), octet) }
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        for (place, octet) in bytes.iter_mut().enumerate() {
            *octet = self.load(offset as usize + place);
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        (from..to).for_each(|at| self.store(at as usize, 0xff));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        for (place, octet) in bytes.iter().enumerate() {
            let at = offset as usize + place;
            self.store(at, self.load(at) & octet);
        }
        Ok(())
    }
}
