//! A device of the factory link for microcontrollers: it makes its own P-256 key, enrolls at a station
//! over a serial line, and renews through a gateway by the same tables as the agent of larger devices.
//!
//! Everything here is told its octets, its randomness and its flash; nothing here knows a board.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
#[macro_use]
extern crate std;

pub mod acceptance;
pub mod base64;
pub mod call;
pub mod cbor;
pub mod csr;
pub mod der;
pub mod device;
pub mod framing;
pub mod life;
pub mod link;
pub mod names;
pub mod objects;
pub mod octets;
pub mod passport;
pub mod record;
pub mod renewal;
pub mod reply;
pub mod requests;
pub mod smp;
pub mod store;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod trust;
pub mod words;
pub mod x509;
