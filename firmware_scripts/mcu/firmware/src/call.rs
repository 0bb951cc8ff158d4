//! Requests of the factory group: their members, and what a gateway hands on of the server's answers.

use crate::cbor::{Malformed, Reader};
use crate::objects::{Digest, List};
use crate::renewal::Told;
use crate::smp::{Header, Op};
use crate::words::{Rc, SESSION, command};
use crate::x509::Certificate;

/// Names one call: the session, and the number in it.
pub type CallId = ([u8; SESSION], u32);

/// The members of a request that this device knows.
#[derive(Default)]
pub struct Body<'a> {
    /// `s`, the session.
    pub session: Option<[u8; SESSION]>,
    /// `q`, the number of the call.
    pub sequence: Option<u32>,
    /// `n`, a nonce of the station or of the server.
    pub nonce: Option<&'a [u8]>,
    /// The device id wanted.
    pub id: Option<&'a str>,
    /// `o`, an object's number.
    pub object: Option<u32>,
    /// `off`, where a piece begins.
    pub offset: Option<u32>,
    /// `l`, how long a piece may be.
    pub length: Option<u32>,
    /// `d`, a piece.
    pub data: Option<&'a [u8]>,
    /// `h1` to `h3`.
    pub hashes: [Option<Digest>; 3],
    /// `sg`, the station's.
    pub signature: Option<&'a [u8]>,
    /// `sc`, the station's certificate and those above it.
    pub chain: List<Certificate<'a>>,
    /// `fp`, which certificate is meant.
    pub fingerprint: Option<Digest>,
    /// `a`, what the server said.
    pub answer: Option<&'a [u8]>,
    /// `t`, in seconds since 1970.
    pub time: Option<u64>,
}

impl<'a> Body<'a> {
    /// Reads a whole map.
    pub fn parse(octets: &'a [u8]) -> Result<Self, Malformed> {
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

    /// Which call it says that it is.
    #[must_use]
    pub fn call(&self) -> Option<CallId> {
        Some((self.session?, self.sequence?))
    }

    /// All three of them.
    pub fn hashes(&self) -> Result<[Digest; 3], Malformed> {
        match self.hashes {
            [Some(chain), Some(anchors), Some(configuration)] => Ok([chain, anchors, configuration]),
            _ => Err(Malformed),
        }
    }
}

/// A member that comes twice has no meaning.
pub fn once<T>(member: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match member.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed),
    }
}

/// A member that the command cannot do without.
pub fn wanted<T>(member: Option<T>) -> Result<T, Rc> {
    member.ok_or(Rc::Unsupported)
}

/// The nonce, of this very length.
pub fn nonce<const N: usize>(body: &Body<'_>) -> Result<[u8; N], Rc> {
    body.nonce.and_then(|octets| octets.try_into().ok()).ok_or(Rc::Unsupported)
}

/// Reads what the server answered, as its gateway writes it: a CBOR map whose `k` says what it is.
pub fn told(answer: &[u8]) -> Result<Told, Malformed> {
    let (mut kind, mut serial, mut key_hash) = (None, None, None);
    let (mut floor, mut over, mut renew_after) = (None, None, None);
    let mut reader = Reader::new(answer);
    reader.map(|key, value| match key {
        "k" => once(&mut kind, value.uint()?),
        "sn" => once(&mut serial, value.exactly()?),
        "kh" => once(&mut key_hash, value.exactly()?),
        "fl" => once(&mut floor, value.uint32()?),
        "su" => once(&mut over, value.uint()?),
        "ra" => once(&mut renew_after, value.uint()?),
        _ => value.skip(),
    })?;
    reader.end()?;
    match (kind, serial, key_hash) {
        (Some(1), Some(serial), _) => Ok(Told::Confirmed(serial)),
        (Some(2), _, Some(key_hash)) => Ok(Told::Dead { key_hash, floor: floor.unwrap_or(0) }),
        (Some(3), Some(serial), _) => {
            Ok(Told::Status { serial, is_over: over == Some(1), renew_after: renew_after.unwrap_or(0) })
        }
        _ => Err(Malformed),
    }
}

/// Refuses a command that comes with the wrong op.
pub const fn require_op(header: &Header) -> Result<(), Rc> {
    let is_read = matches!(header.command, command::HELLO | command::READ | command::STATUS);
    match (header.op, is_read) {
        (Op::Read, true) | (Op::Write, false) => Ok(()),
        _ => Err(Rc::Unsupported),
    }
}
