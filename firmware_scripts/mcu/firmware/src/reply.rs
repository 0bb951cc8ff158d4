//! Replies of the factory group, as members of their maps.

use core::ops::Range;

use p256::ecdsa::DerSignature;
use sha2::{Digest as _, Sha256};

use crate::call::CallId;
use crate::cbor::Writer;
use crate::device::{Device, Parts};
use crate::framing::MAX_MESSAGE;
use crate::octets::Full;
use crate::renewal::Asked;
use crate::smp::{Header, Message};
use crate::words::{Rc, link_state};

/// What is answered, beside what the device tells of itself.
pub enum Reply {
    /// Who the device is.
    Hello,
    /// The request is ready.
    Ident,
    /// A piece of an object.
    Read {
        /// Its number.
        object: u32,
        /// Which octets of it.
        piece: Range<usize>,
    },
    /// How much of the object is there.
    Write(usize),
    /// Installed.
    Install {
        /// Whether nobody vouched for the station.
        is_first: bool,
    },
    /// A proof.
    Signed(DerSignature),
    /// In use.
    Commit,
    /// Done, and nothing to tell.
    Done,
    /// Where the device stands.
    Status,
    /// What it asks the server.
    Asked(Option<Asked>),
}

/// Writes a refusal.
pub fn refuse(header: &Header, call: Option<CallId>, rc: Rc, out: &mut Message) -> Result<(), Full> {
    header.answer(out, |writer| {
        writer.map(if call.is_some() { 3 } else { 1 })?;
        if let Some(call) = call {
            write_call(call, writer)?;
        }
        writer.uint_at("rc", rc as u64)
    })
}

/// Writes which call is answered.
pub fn write_call(call: CallId, writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.uint_at("q", u64::from(call.1))?;
    writer.octets_at("s", &call.0)
}

/// Writes who the device is.
pub fn write_unit<P: Parts>(device: &Device<P>, writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.text_at("hw", device.passport().hardware_id())?;
    writer.text_at("id", device.record().id())?;
    writer.text_at("md", device.passport().model())?;
    writer.uint_at("mx", MAX_MESSAGE as u64)?;
    write_state(device, writer)
}

/// Writes where it stands.
pub fn write_state<P: Parts>(device: &Device<P>, writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.uint_at("st", link_state(device.record().state()))
}

/// Writes that a request can be read.
pub fn write_ident(csr: &[u8], writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.octets_at("h", &Sha256::digest(csr))?;
    writer.uint_at("l", csr.len() as u64)
}

/// Writes what is asked of the server, and what can be read of it.
pub fn write_asked(
    asked: &Asked,
    request: &[u8],
    leaf: &[u8],
    writer: &mut Writer<'_, Message>,
) -> Result<(), Full> {
    writer.octets_at("h", &Sha256::digest(request))?;
    writer.uint_at("k", asked.ask as u64)?;
    writer.uint_at("l", request.len() as u64)?;
    writer.octets_at("ch", &Sha256::digest(leaf))?;
    writer.uint_at("cl", leaf.len() as u64)?;
    writer.octets_at("sg", asked.signature.as_bytes())
}

/// How many members a reply has beside `q`, `s` and `rc`.
#[must_use]
pub const fn members_of(reply: &Reply) -> usize {
    match reply {
        Reply::Hello => 7,
        Reply::Ident | Reply::Commit | Reply::Install { is_first: true } => 2,
        Reply::Done => 0,
        Reply::Asked(Some(_)) => 6,
        _ => 1,
    }
}
