//! The device's half of the factory link: SMP messages in and out, one table of what is allowed when.
//!
//! It never acts on what a station wrote before all of it was found right, and it deletes nothing: what a
//! station did not finish stays as it was.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;
use p256::ecdsa::DerSignature;
use p256::elliptic_curve::rand_core::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};

use crate::cbor::{Malformed, Reader, Writer};
use crate::device::{Asked, Device, Installation, Told, Word};
use crate::framing::MAX_MESSAGE;
use crate::life::{Ask, State};
use crate::names::is_device_id;
use crate::objects::{Digest, List, certificates};
use crate::octets::{Full, Octets};
use crate::record::{MAX_ANCHORS, MAX_CHAIN, MAX_CONFIGURATION};
use crate::requests::Request;
use crate::smp::{FACTORY_GROUP, Header, Message, Op, Then, answer_stock, parse};
use crate::words::{NONCE, Rc, SESSION, Session, command, link_state};
use crate::x509::Certificate;

const MAX_STATION_CHAIN: usize = 2048;
/// What an answer holds beside a piece of an object.
const OVERHEAD: usize = 64;
const CSR: u32 = 1;
const REQUEST: u32 = 3;
const SPEAKER: u32 = 4;

/// The members of a request that this device knows.
#[derive(Default)]
struct Body<'a> {
    session: Option<[u8; SESSION]>,
    sequence: Option<u32>,
    nonce: Option<&'a [u8]>,
    id: Option<&'a str>,
    object: Option<u32>,
    offset: Option<u32>,
    length: Option<u32>,
    data: Option<&'a [u8]>,
    hashes: [Option<Digest>; 3],
    signature: Option<&'a [u8]>,
    chain: List<Certificate<'a>>,
    fingerprint: Option<Digest>,
    answer: Option<&'a [u8]>,
    time: Option<u64>,
}

impl<'a> Body<'a> {
    fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Self::default();
        let mut reader = Reader::new(octets);
        reader.map(|key, value| body.take(key, value))?;
        reader.end()?;
        Ok(body)
    }

    fn take(&mut self, key: &str, value: &mut Reader<'a>) -> Result<(), Malformed> {
        match key {
            "s" => once(&mut self.session, value.exactly()?),
            "q" => once(&mut self.sequence, value.uint32()?),
            "n" => once(&mut self.nonce, value.octets()?),
            "id" => once(&mut self.id, value.text()?),
            "o" => once(&mut self.object, value.uint32()?),
            "off" => once(&mut self.offset, value.uint32()?),
            "l" => once(&mut self.length, value.uint32()?),
            "d" => once(&mut self.data, value.octets()?),
            "h1" => once(&mut self.hashes[0], value.exactly()?),
            "h2" => once(&mut self.hashes[1], value.exactly()?),
            "h3" => once(&mut self.hashes[2], value.exactly()?),
            "sg" => once(&mut self.signature, value.octets()?),
            "fp" => once(&mut self.fingerprint, value.exactly()?),
            "a" => once(&mut self.answer, value.octets()?),
            "t" => once(&mut self.time, value.uint()?),
            "sc" => value.array(|item| self.chain.push(Certificate::parse(item.octets()?)?)),
            _ => value.skip(),
        }
    }

    fn call(&self) -> Option<([u8; SESSION], u32)> {
        Some((self.session?, self.sequence?))
    }

    fn hashes(&self) -> Result<[Digest; 3], Malformed> {
        match self.hashes {
            [Some(chain), Some(anchors), Some(configuration)] => Ok([chain, anchors, configuration]),
            _ => Err(Malformed),
        }
    }
}

/// A member that comes twice has no meaning.
fn once<T>(member: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match member.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

fn wanted<T>(member: Option<T>) -> Result<T, Rc> {
    member.ok_or(Rc::Unsupported)
}

fn nonce<const N: usize>(body: &Body<'_>) -> Result<[u8; N], Rc> {
    body.nonce.and_then(|octets| octets.try_into().ok()).ok_or(Rc::Unsupported)
}

/// What a station wrote in this session.
struct Transfer {
    chain: Octets<MAX_CHAIN>,
    anchors: Octets<MAX_ANCHORS>,
    configuration: Octets<MAX_CONFIGURATION>,
    station: Octets<MAX_STATION_CHAIN>,
}

impl Transfer {
    fn write(&mut self, object: u32, offset: usize, octets: &[u8]) -> Result<usize, Rc> {
        match object {
            1 => write_into(&mut self.chain, offset, octets),
            2 => write_into(&mut self.anchors, offset, octets),
            3 => write_into(&mut self.configuration, offset, octets),
            4 => write_into(&mut self.station, offset, octets),
            _ => Err(Rc::Unsupported),
        }
    }

    fn clear(&mut self) {
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

/// What is answered, beside what the device tells of itself.
enum Reply {
    Hello,
    Ident,
    Read { object: u32, piece: Range<usize> },
    Write(usize),
    Install { is_first: bool },
    Signed(DerSignature),
    Commit,
    Done,
    Status,
    Asked(Option<Asked>),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Nothing is to be sent.
    Silently,
    /// The answer is in the buffer.
    Answered,
    /// As `Answered`; and then the device is to restart.
    AnsweredLast,
}

/// One device at one end of a line.
pub struct Link {
    session: Session,
    is_open: bool,
    is_csr_ready: bool,
    answered: Option<([u8; SESSION], u32)>,
    transfer: Transfer,
    request: Request,
    asked: Option<Ask>,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// Nobody has spoken yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            session: Session { id: [0; SESSION], nonce: [0; NONCE] },
            is_open: false,
            is_csr_ready: false,
            answered: None,
            transfer: Transfer {
                chain: Octets::new(),
                anchors: Octets::new(),
                configuration: Octets::new(),
                station: Octets::new(),
            },
            request: Octets::new(),
            asked: None,
        }
    }

    /// Takes one message; `out` must be the same buffer each time: it holds the last answer, which a
    /// repeated request gets again.
    pub fn handle<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        message: &[u8],
        device: &mut Device<F, R>,
        out: &mut Message,
    ) -> Handled {
        let Ok((header, octets)) = parse(message) else {
            return Handled::Silently;
        };
        if header.group != FACTORY_GROUP {
            self.answered = None;
            return match answer_stock(&header, octets, out) {
                Ok(Then::GoOn) => Handled::Answered,
                Ok(Then::Reset) => Handled::AnsweredLast,
                Err(Full) => Handled::Silently,
            };
        }
        let Ok(body) = Body::parse(octets) else {
            // Not remembered: it may be noise that passed the CRC, and the true request is still to come.
            self.answered = None;
            return sent(refuse(&header, None, Rc::Unsupported, out));
        };
        let call = body.call();
        if call.is_some() && call == self.answered {
            return Handled::Answered;
        }
        self.answered = None;
        let answer = self.answer(&header, &body, device, out);
        self.answered = call.filter(|(session, _)| self.is_open && *session == self.session.id);
        sent(answer)
    }

    fn answer<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        device: &mut Device<F, R>,
        out: &mut Message,
    ) -> Result<(), Full> {
        let Some(call) = body.call() else {
            return refuse(header, None, Rc::Unsupported, out);
        };
        match self.perform(header, body, device) {
            Ok(reply) => header.answer(out, |writer| self.write_reply(&reply, call, device, writer)),
            Err(rc) => refuse(header, Some(call), rc, out),
        }
    }

    fn perform<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        device: &mut Device<F, R>,
    ) -> Result<Reply, Rc> {
        let id = wanted(body.session)?;
        require_op(header)?;
        if header.command == command::HELLO {
            nonce::<NONCE>(body)?;
            self.open(id, device);
        }
        if !self.is_open || id != self.session.id {
            return Err(Rc::Session);
        }
        if !is_allowed(device.record().state(), header.command) {
            return Err(Rc::State);
        }
        match header.command {
            command::HELLO => Ok(Reply::Hello),
            command::IDENT => self.ident(body, device),
            command::READ => self.read(body, device),
            command::WRITE => self.write(body),
            command::INSTALL => self.install(body, device),
            command::PROVE => device.prove(&self.session, &nonce(body)?).map(Reply::Signed),
            command::COMMIT => commit(body, device),
            command::ABORT => Ok(self.abort()),
            command::STATUS => Ok(Reply::Status),
            command::ASK => self.ask(body, device),
            command::HEAR => self.hear(body, device),
            _ => Err(Rc::Unsupported),
        }
    }

    fn open<F: NorFlash, R: RngCore + CryptoRng>(&mut self, id: [u8; SESSION], device: &mut Device<F, R>) {
        if self.is_open && id == self.session.id {
            return;
        }
        self.session = Session { id, nonce: device.draw() };
        self.is_open = true;
        self.abort();
    }

    fn abort(&mut self) -> Reply {
        self.transfer.clear();
        self.is_csr_ready = false;
        self.asked = None;
        Reply::Done
    }

    fn ident<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        body: &Body<'_>,
        device: &mut Device<F, R>,
    ) -> Result<Reply, Rc> {
        let id = body.id.filter(|id| is_device_id(id));
        device.request(wanted(id)?)?;
        self.is_csr_ready = true;
        Ok(Reply::Ident)
    }

    fn read<F: NorFlash, R: RngCore + CryptoRng>(
        &self,
        body: &Body<'_>,
        device: &Device<F, R>,
    ) -> Result<Reply, Rc> {
        let (object, from) = (wanted(body.object)?, wanted(body.offset)? as usize);
        let end = self.object(object, device)?.len();
        let length = wanted(body.length)? as usize;
        if from > end {
            return Err(Rc::Offset);
        }
        let to = end.min(from + length.min(MAX_MESSAGE - OVERHEAD));
        if length == 0 { Err(Rc::Unsupported) } else { Ok(Reply::Read { object, piece: from..to }) }
    }

    fn object<'a, F: NorFlash, R: RngCore + CryptoRng>(
        &'a self,
        object: u32,
        device: &'a Device<F, R>,
    ) -> Result<&'a [u8], Rc> {
        match (object, self.asked) {
            (CSR, _) => device.csr().filter(|_| self.is_csr_ready).ok_or(Rc::State),
            (REQUEST, Some(_)) => Ok(&self.request),
            (SPEAKER, Some(ask)) => device.speaking_leaf(ask),
            (REQUEST | SPEAKER, None) => Err(Rc::State),
            _ => Err(Rc::Unsupported),
        }
    }

    fn write(&mut self, body: &Body<'_>) -> Result<Reply, Rc> {
        let (object, offset) = (wanted(body.object)?, wanted(body.offset)? as usize);
        self.transfer.write(object, offset, wanted(body.data)?).map(Reply::Write)
    }

    fn install<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        body: &Body<'_>,
        device: &mut Device<F, R>,
    ) -> Result<Reply, Rc> {
        let installation = Installation {
            chain: &self.transfer.chain,
            anchors: &self.transfer.anchors,
            configuration: &self.transfer.configuration,
            hashes: body.hashes()?,
        };
        let is_first = device.install(&installation, &self.word(body)?, &self.session)?;
        Ok(Reply::Install { is_first })
    }

    fn word<'a>(&'a self, body: &Body<'a>) -> Result<Word<'a>, Rc> {
        let chain =
            if body.chain.is_empty() { certificates(&self.transfer.station)? } else { body.chain.clone() };
        Ok(Word { chain, signature: body.signature.unwrap_or_default() })
    }

    fn ask<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        body: &Body<'_>,
        device: &mut Device<F, R>,
    ) -> Result<Reply, Rc> {
        let asked = device.ask(&nonce(body)?, wanted(body.time)?, &mut self.request)?;
        self.asked = asked.as_ref().map(|asked| asked.ask);
        self.is_csr_ready = false;
        self.transfer.clear();
        Ok(Reply::Asked(asked))
    }

    fn hear<F: NorFlash, R: RngCore + CryptoRng>(
        &mut self,
        body: &Body<'_>,
        device: &mut Device<F, R>,
    ) -> Result<Reply, Rc> {
        let answer = wanted(body.answer)?;
        device.hear(told(answer)?, &self.word(body)?, &self.session.answer_text(answer))?;
        Ok(Reply::Status)
    }

    fn write_reply<F: NorFlash, R: RngCore + CryptoRng>(
        &self,
        reply: &Reply,
        call: ([u8; SESSION], u32),
        device: &Device<F, R>,
        writer: &mut Writer<'_, Message>,
    ) -> Result<(), Full> {
        writer.map(3 + members_of(reply))?;
        write_call(call, writer)?;
        writer.uint_at("rc", 0)?;
        let fingerprint = device.fingerprint();
        let fingerprint: &[u8] = fingerprint.as_ref().map_or(&[], |digest| digest);
        match reply {
            Reply::Hello => {
                writer.octets_at("n", &self.session.nonce)?;
                writer.octets_at("fp", fingerprint)?;
                write_unit(device, writer)
            }
            Reply::Ident => write_ident(device.csr().unwrap_or_default(), writer),
            Reply::Read { object, piece } => {
                let found = self.object(*object, device).unwrap_or_default();
                writer.octets_at("d", found.get(piece.clone()).unwrap_or_default())
            }
            Reply::Write(length) => writer.uint_at("off", *length as u64),
            Reply::Install { is_first } => {
                writer.octets_at("fp", fingerprint)?;
                if *is_first { writer.uint_at("tofu", 1) } else { Ok(()) }
            }
            Reply::Signed(signature) => writer.octets_at("sg", signature.as_bytes()),
            Reply::Commit => {
                writer.octets_at("fp", fingerprint)?;
                write_state(device, writer)
            }
            Reply::Done => Ok(()),
            Reply::Status => write_state(device, writer),
            Reply::Asked(None) => writer.uint_at("k", 0),
            Reply::Asked(Some(asked)) => {
                let leaf = device.speaking_leaf(asked.ask).unwrap_or_default();
                write_asked(asked, &self.request, leaf, writer)
            }
        }
    }
}

fn sent(written: Result<(), Full>) -> Handled {
    if written.is_ok() { Handled::Answered } else { Handled::Silently }
}

const fn require_op(header: &Header) -> Result<(), Rc> {
    let is_read = matches!(header.command, command::HELLO | command::READ | command::STATUS);
    match (header.op, is_read) {
        (Op::Read, true) | (Op::Write, false) => Ok(()),
        _ => Err(Rc::Unsupported),
    }
}

/// A pair that is not here is refused; a refused command leaves the state as it is.
#[must_use]
pub const fn is_allowed(state: State, command: u8) -> bool {
    let is_keyed = !matches!(state, State::Blank | State::Settled);
    let has_certificate = matches!(state, State::Installed | State::Confirming | State::Settled);
    match command {
        command::WRITE | command::INSTALL => is_keyed,
        command::PROVE | command::COMMIT => has_certificate,
        command::READ | command::ASK | command::HEAR => !matches!(state, State::Blank),
        _ => true,
    }
}

fn commit<F: NorFlash, R: RngCore + CryptoRng>(
    body: &Body<'_>,
    device: &mut Device<F, R>,
) -> Result<Reply, Rc> {
    if device.fingerprint() != Some(wanted(body.fingerprint)?) {
        return Err(Rc::State);
    }
    device.commit()?;
    Ok(Reply::Commit)
}

/// Reads what the server answered, as its gateway writes it: a CBOR map whose `k` says what it is.
fn told(answer: &[u8]) -> Result<Told, Malformed> {
    let (mut kind, mut serial, mut key_hash) = (None, None, None);
    let (mut floor, mut superseded, mut renew_after) = (None, None, None);
    let mut reader = Reader::new(answer);
    reader.map(|key, value| match key {
        "k" => once(&mut kind, value.uint()?),
        "sn" => once(&mut serial, value.exactly()?),
        "kh" => once(&mut key_hash, value.exactly()?),
        "fl" => once(&mut floor, value.uint32()?),
        "su" => once(&mut superseded, value.uint()?),
        "ra" => once(&mut renew_after, value.uint()?),
        _ => value.skip(),
    })?;
    reader.end()?;
    match (kind, serial, key_hash) {
        (Some(1), Some(serial), _) => Ok(Told::Confirmed(serial)),
        (Some(2), _, Some(key_hash)) => Ok(Told::Dead { key_hash, floor: floor.unwrap_or(0) }),
        (Some(3), Some(serial), _) => Ok(Told::Status {
            serial,
            is_superseded: superseded == Some(1),
            renew_after: renew_after.unwrap_or(0),
        }),
        _ => Err(Malformed),
    }
}

fn refuse(
    header: &Header,
    call: Option<([u8; SESSION], u32)>,
    rc: Rc,
    out: &mut Message,
) -> Result<(), Full> {
    header.answer(out, |writer| {
        writer.map(if call.is_some() { 3 } else { 1 })?;
        if let Some(call) = call {
            write_call(call, writer)?;
        }
        writer.uint_at("rc", rc as u64)
    })
}

fn write_call(call: ([u8; SESSION], u32), writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.uint_at("q", u64::from(call.1))?;
    writer.octets_at("s", &call.0)
}

fn write_unit<F: NorFlash, R: RngCore + CryptoRng>(
    device: &Device<F, R>,
    writer: &mut Writer<'_, Message>,
) -> Result<(), Full> {
    writer.text_at("hw", device.passport().hardware_id())?;
    writer.text_at("id", device.record().id())?;
    writer.text_at("md", device.passport().model())?;
    writer.uint_at("mx", MAX_MESSAGE as u64)?;
    write_state(device, writer)
}

fn write_state<F: NorFlash, R: RngCore + CryptoRng>(
    device: &Device<F, R>,
    writer: &mut Writer<'_, Message>,
) -> Result<(), Full> {
    writer.uint_at("st", link_state(device.record().state()))
}

fn write_ident(csr: &[u8], writer: &mut Writer<'_, Message>) -> Result<(), Full> {
    writer.octets_at("h", &Sha256::digest(csr))?;
    writer.uint_at("l", csr.len() as u64)
}

fn write_asked(
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
const fn members_of(reply: &Reply) -> usize {
    match reply {
        Reply::Hello => 7,
        Reply::Ident | Reply::Commit | Reply::Install { is_first: true } => 2,
        Reply::Done => 0,
        Reply::Asked(Some(_)) => 6,
        _ => 1,
    }
}
