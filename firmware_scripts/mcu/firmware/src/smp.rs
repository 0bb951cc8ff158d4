//! SMP, the management protocol of MCUmgr: an 8-byte header and a CBOR map with text keys.

use crate::cbor::{Malformed, Reader, Writer};
use crate::framing::MAX_MESSAGE;
use crate::octets::{Full, Octets, Sink};

/// The factory group unless both ends are told another; user groups start at 64.
pub const FACTORY_GROUP: u16 = 71;
const OS_GROUP: u16 = 0;
const OS_ECHO: u8 = 0;
const OS_RESET: u8 = 5;
const OS_PARAMETERS: u8 = 6;
const NOT_SUPPORTED: u64 = 8;
const HEADER: usize = 8;

/// One SMP message that this device sends.
pub type Message = Octets<MAX_MESSAGE>;

/// What a packet is; a response is its request's op plus one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Asks, and changes nothing.
    Read,
    /// Asks for a change.
    Write,
}

/// The header of a request, without its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Read or write.
    pub op: Op,
    version: u8,
    /// Which group of commands.
    pub group: u16,
    sequence: u8,
    /// Which command of the group.
    pub command: u8,
}

/// Returns the header and the body of a request; responses and unknown versions are refused.
pub fn parse(message: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let ([first, _, high, low, group_high, group_low, sequence, command], body) =
        message.split_first_chunk::<HEADER>().ok_or(Malformed)?;
    let op = match first & 7 {
        0 => Op::Read,
        2 => Op::Write,
        _ => return Err(Malformed),
    };
    let version = first >> 3 & 3;
    if version > 1 || usize::from(u16::from_be_bytes([*high, *low])) != body.len() {
        return Err(Malformed);
    }
    let group = u16::from_be_bytes([*group_high, *group_low]);
    Ok((Header { op, version, group, sequence: *sequence, command: *command }, body))
}

impl Header {
    /// Writes the response to this request; `body` writes its map.
    pub fn answer(
        &self,
        out: &mut Message,
        body: impl FnOnce(&mut Writer<'_, Message>) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let op = if self.op == Op::Read { 1 } else { 3 };
        let [group_high, group_low] = self.group.to_be_bytes();
        out.clear();
        out.put(&[self.version << 3 | op, 0, 0, 0, group_high, group_low, self.sequence, self.command])?;
        body(&mut Writer::new(out))?;
        let length = ((out.len() - HEADER) as u16).to_be_bytes();
        out.octets_mut()[2..4].copy_from_slice(&length);
        Ok(())
    }
}

/// What is to be done after the answer was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Wait for the next request.
    GoOn,
    /// Restart the device.
    Reset,
}

/// Answers what stock SMP clients ask: echo, the buffer's size, reset. Every other group is not here.
pub fn answer_stock(header: &Header, body: &[u8], out: &mut Message) -> Result<Then, Full> {
    match (header.group, header.command, header.op) {
        (OS_GROUP, OS_ECHO, Op::Write) => match echoed(body) {
            Ok(text) => header.answer(out, |writer| {
                writer.map(1)?;
                writer.text_at("r", text)
            })?,
            Err(Malformed) => refuse(header, out)?,
        },
        (OS_GROUP, OS_PARAMETERS, Op::Read) => header.answer(out, |writer| {
            writer.map(2)?;
            writer.uint_at("buf_size", MAX_MESSAGE as u64)?;
            writer.uint_at("buf_count", 1)
        })?,
        (OS_GROUP, OS_RESET, Op::Write) => {
            header.answer(out, |writer| writer.map(0))?;
            return Ok(Then::Reset);
        }
        _ => refuse(header, out)?,
    }
    Ok(Then::GoOn)
}

fn refuse(header: &Header, out: &mut Message) -> Result<(), Full> {
    header.answer(out, |writer| {
        writer.map(1)?;
        writer.uint_at("rc", NOT_SUPPORTED)
    })
}

fn echoed(body: &[u8]) -> Result<&str, Malformed> {
    let mut reader = Reader::new(body);
    let mut found = None;
    reader.map(|key, value| {
        match key {
            "d" => found = Some(value.text()?),
            _ => value.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    found.ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &[u8]) -> (Message, Then) {
        let mut out = Message::new();
        let then = parse(request)
            .and_then(|(header, body)| answer_stock(&header, body, &mut out).map_err(|_| Malformed));
        (out, then.unwrap_or(Then::GoOn))
    }

    #[test]
    fn an_echo_comes_back_in_the_version_of_its_request() {
        for version in [0u8, 1] {
            let request = [version << 3 | 2, 0, 0, 6, 0, 0, 9, 0, 0xa1, 0x61, b'd', 0x62, b'h', b'i'];
            let expected = [version << 3 | 3, 0, 0, 6, 0, 0, 9, 0, 0xa1, 0x61, b'r', 0x62, b'h', b'i'];
            assert_eq!(&*answered(&request).0, &expected);
        }
    }

    #[test]
    fn a_reset_is_answered_first() {
        let (answer, then) = answered(&[10, 0, 0, 1, 0, 0, 3, 5, 0xa0]);
        assert_eq!((&*answer, then), (&[11, 0, 0, 1, 0, 0, 3, 5, 0xa0][..], Then::Reset));
    }

    #[test]
    fn other_groups_are_refused_by_rc_8() {
        let (answer, then) = answered(&[8, 0, 0, 1, 0, 1, 3, 0, 0xa0]);
        assert_eq!((&answer[8..], then), (&[0xa1, 0x62, b'r', b'c', 8][..], Then::GoOn));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for message in
            [&[8, 0, 0][..], &[9, 0, 0, 0, 0, 0, 0, 0], &[8, 0, 0, 1, 0, 0, 0, 0], &[24, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(parse(message), Err(Malformed));
        }
    }
}
