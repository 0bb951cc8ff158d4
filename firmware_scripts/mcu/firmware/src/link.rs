//! The device's half of the factory link: SMP messages in and out, one table of what is allowed when.
//!
//! It never acts on what a station wrote before all of it was found right, and it deletes nothing: what a
//! station did not finish stays as it was.

use crate::call::{Body, CallId, nonce, require_op, told, wanted};
use crate::cbor::Writer;
use crate::device::{Device, Installation, Parts};
use crate::framing::MAX_MESSAGE;
use crate::life::{Ask, State};
use crate::names::is_device_id;
use crate::objects::certificates;
use crate::octets::{Full, Octets};
use crate::reply::{
    Reply, members_of, refuse, write_asked, write_call, write_ident, write_state, write_unit,
};
use crate::requests::Request;
use crate::smp::{FACTORY_GROUP, Header, Message, Then, answer_stock, parse};
use crate::transfer::Transfer;
use crate::trust::Word;
use crate::words::{NONCE, Rc, SESSION, Session, command};

/// What an answer holds beside a piece of an object.
const OVERHEAD: usize = 64;
const CSR: u32 = 1;
const REQUEST: u32 = 3;
const SPEAKER: u32 = 4;

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
    answered: Option<CallId>,
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
            transfer: Transfer::new(),
            request: Octets::new(),
            asked: None,
        }
    }

    /// Takes one message; `out` must be the same buffer each time: it holds the last answer, which a
    /// repeated request gets again.
    pub fn handle<P: Parts>(&mut self, message: &[u8], device: &mut Device<P>, out: &mut Message) -> Handled {
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

    fn answer<P: Parts>(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        device: &mut Device<P>,
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

    fn perform<P: Parts>(
        &mut self,
        header: &Header,
        body: &Body<'_>,
        device: &mut Device<P>,
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

    fn open<P: Parts>(&mut self, id: [u8; SESSION], device: &mut Device<P>) {
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

    fn ident<P: Parts>(&mut self, body: &Body<'_>, device: &mut Device<P>) -> Result<Reply, Rc> {
        let id = body.id.filter(|id| is_device_id(id));
        device.request(wanted(id)?)?;
        self.is_csr_ready = true;
        Ok(Reply::Ident)
    }

    fn read<P: Parts>(&self, body: &Body<'_>, device: &Device<P>) -> Result<Reply, Rc> {
        let (object, from) = (wanted(body.object)?, wanted(body.offset)? as usize);
        let end = self.object(object, device)?.len();
        let length = wanted(body.length)? as usize;
        if from > end {
            return Err(Rc::Offset);
        }
        let to = end.min(from + length.min(MAX_MESSAGE - OVERHEAD));
        if length == 0 { Err(Rc::Unsupported) } else { Ok(Reply::Read { object, piece: from..to }) }
    }

    fn object<'a, P: Parts>(&'a self, object: u32, device: &'a Device<P>) -> Result<&'a [u8], Rc> {
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

    fn install<P: Parts>(&mut self, body: &Body<'_>, device: &mut Device<P>) -> Result<Reply, Rc> {
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

    fn ask<P: Parts>(&mut self, body: &Body<'_>, device: &mut Device<P>) -> Result<Reply, Rc> {
        let asked = device.ask(&nonce(body)?, wanted(body.time)?, &mut self.request)?;
        self.asked = asked.as_ref().map(|asked| asked.ask);
        self.is_csr_ready = false;
        self.transfer.clear();
        Ok(Reply::Asked(asked))
    }

    fn hear<P: Parts>(&mut self, body: &Body<'_>, device: &mut Device<P>) -> Result<Reply, Rc> {
        let answer = wanted(body.answer)?;
        device.hear(told(answer)?, &self.word(body)?, &self.session.answer_text(answer))?;
        Ok(Reply::Status)
    }

    fn write_reply<P: Parts>(
        &self,
        reply: &Reply,
        call: CallId,
        device: &Device<P>,
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

fn commit<P: Parts>(body: &Body<'_>, device: &mut Device<P>) -> Result<Reply, Rc> {
    if device.fingerprint() != Some(wanted(body.fingerprint)?) {
        return Err(Rc::State);
    }
    device.commit()?;
    Ok(Reply::Commit)
}
