//! Randomness. QEMU emulates no generator for this board: the second UART brings the host's.
//!
//! A port puts the part's true random number generator here, with its health tests on (SP 800-90B 4).
//! A seed that is the same in two units gives both the same key: there is no software way around it.

use embedded_io::Read;
use p256::elliptic_curve::rand_core::{CryptoRng, Error, RngCore};
use sha2::{Digest, Sha256};

use super::Uart;

/// Raw octets for each 32 that are given out.
const RAW: usize = 64;

/// The source of this board.
pub struct Entropy {
    uart: Uart,
}

impl Entropy {
    /// Over the second UART.
    pub fn new() -> Self {
        Self { uart: Uart::entropy() }
    }

    /// Conditions raw octets (SP 800-90B 3.1.5), so that a biased source does no harm.
    fn block(&mut self) -> [u8; 32] {
        let mut raw = [0; RAW];
        let Ok(()) = self.uart.read_exact(&mut raw) else { super::reset() };
        Sha256::digest(raw).into()
    }
}

impl RngCore for Entropy {
    fn next_u32(&mut self) -> u32 {
        let mut octets = [0; 4];
        self.fill_bytes(&mut octets);
        u32::from_le_bytes(octets)
    }

    fn next_u64(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.fill_bytes(&mut octets);
        u64::from_le_bytes(octets)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for piece in dest.chunks_mut(32) {
            piece.copy_from_slice(&self.block()[..piece.len()]);
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Entropy {}
