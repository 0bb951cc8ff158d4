//! The CMSDK UART (Arm DDI 0479, 4.3). The core sleeps until an octet comes; interrupts wake it, and are
//! never taken: they stay masked.
//!
//! QEMU holds back what is not read yet. On hardware, received octets need an interrupt or DMA with room
//! for one message: signing takes longer than the one octet of this UART's buffer lasts.

use core::convert::Infallible;
use core::ptr::{read_volatile, write_volatile};

use embedded_io::{ErrorType, Read, Write};

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CONTROL: usize = 0x08;
const INTERRUPTS: usize = 0x0c;
const DIVIDER: usize = 0x10;
const TRANSMIT_FULL: u32 = 1;
const RECEIVE_FULL: u32 = 2;
const BOTH_WAYS: u32 = 3;
const RECEIVED: u32 = 2;
const TELL_RECEIVED: u32 = 8;
/// Enables an interrupt, and takes it back (Armv7-M B3.4.4, B3.4.7).
const NVIC_ENABLE: usize = 0xe000_e100;
const NVIC_UNPEND: usize = 0xe000_e280;
/// 25 MHz over 115200.
const DIVISOR: u32 = 217;

/// One UART of the board.
pub struct Uart {
    base: usize,
    /// Its bit among the interrupts; 0 for one that always has octets, and would never let the core sleep.
    interrupt: u32,
}

impl Uart {
    /// The line to the station.
    pub fn link() -> Self {
        Self::at(0x4000_4000, 1)
    }

    /// The second UART, behind which QEMU puts the host's randomness.
    pub fn entropy() -> Self {
        Self::at(0x4000_5000, 0)
    }

    fn at(base: usize, interrupt: u32) -> Self {
        cortex_m::interrupt::disable();
        let uart = Self { base, interrupt };
        uart.store(DIVIDER, DIVISOR);
        uart.store(CONTROL, if interrupt == 0 { BOTH_WAYS } else { BOTH_WAYS | TELL_RECEIVED });
        write(NVIC_ENABLE, interrupt);
        // Drops what came before; in QEMU, it also takes up what waits outside.
        uart.load(DATA);
        uart
    }

    fn load(&self, register: usize) -> u32 {
        // SAFETY: `base` is one of the two UARTs of this board, and every register is a word of it.
        unsafe { read_volatile((self.base + register) as *const u32) }
    }

    fn store(&self, register: usize, value: u32) {
        write(self.base + register, value);
    }

    /// Sleeps until there is an octet: one that came since the last look is still pending, and wakes at once.
    fn wait(&self) {
        while self.load(STATE) & RECEIVE_FULL == 0 {
            if self.interrupt != 0 {
                cortex_m::asm::wfi();
                self.store(INTERRUPTS, RECEIVED);
                write(NVIC_UNPEND, self.interrupt);
            }
        }
    }
}

fn write(register: usize, value: u32) {
    // SAFETY: called with registers of the two UARTs and of the NVIC only, on the one core.
    unsafe { write_volatile(register as *mut u32, value) }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    /// Waits for one octet.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let Some(octet) = buffer.first_mut() else {
            return Ok(0);
        };
        self.wait();
        *octet = self.load(DATA) as u8;
        Ok(1)
    }
}

impl Write for Uart {
    fn write(&mut self, octets: &[u8]) -> Result<usize, Infallible> {
        for octet in octets {
            while self.load(STATE) & TRANSMIT_FULL != 0 {}
            self.store(DATA, u32::from(*octet));
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while self.load(STATE) & TRANSMIT_FULL != 0 {}
        Ok(())
    }
}
