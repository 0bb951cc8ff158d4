//! The board: mps2-an386 as QEMU emulates it. A port replaces this folder, and nothing else.

pub mod entropy;
pub mod flash;
pub mod uart;

pub use entropy::Entropy;
pub use flash::Flash;
pub use uart::Uart;

/// Restarts the device.
pub fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}
