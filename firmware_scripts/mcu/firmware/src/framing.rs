//! Frames of the factory link: SMP-console lines and COBS, each with a CRC16, told apart by what decodes.
//!
//! A decoder never keeps more than one frame, whatever octets come: what is no frame is skipped. A CRC16
//! lets a broken frame pass now and then, so that whoever uses a message checks the contents as well.

use crate::base64;
use crate::octets::{Octets, Sink};

/// Longest SMP message, header included, that this device takes.
pub const MAX_MESSAGE: usize = 2048;
const MIN_MESSAGE: usize = 8;
/// Longest SMP-console line, with its newline (mcumgr serial transport).
const MAX_LINE: usize = 127;
const LINE_OCTETS: usize = (MAX_LINE - 3) / 4 * 3;
const MAX_CHECKED: usize = MAX_MESSAGE + 2;
const MAX_STUFFED: usize = MAX_CHECKED + MAX_CHECKED / 254 + 1;
const START: [u8; 2] = [0x06, 0x09];
const FOLLOWING: [u8; 2] = [0x04, 0x14];

/// How messages are cut out of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `06 09` / `04 14` lines in base64: what Zephyr, Mynewt and MCUboot speak.
    Lines,
    /// `COBS(message || CRC16) 00`.
    Cobs,
}

/// CRC16-XMODEM: polynomial 0x1021, start 0.
#[must_use]
pub fn crc16(octets: &[u8]) -> u16 {
    octets.iter().fold(0, |crc, octet| {
        (0..8).fold(crc ^ u16::from(*octet) << 8, |crc, _| {
            crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

/// Hands out the octets of one frame, for a line that may hold the start of something else.
pub fn encode(message: &[u8], framing: Framing, put: &mut impl FnMut(u8)) {
    match framing {
        Framing::Lines => to_lines(message, put),
        Framing::Cobs => to_cobs(message, put),
    }
}

fn to_lines(message: &[u8], put: &mut impl FnMut(u8)) {
    let length = ((message.len() + 2) as u16).to_be_bytes();
    let crc = crc16(message).to_be_bytes();
    let mut octets = length.iter().chain(message).chain(&crc).copied().peekable();
    let mut marker = START;
    while octets.peek().is_some() {
        marker.into_iter().for_each(&mut *put);
        for _ in 0..LINE_OCTETS / 3 {
            let mut three = Octets::<3>::new();
            while three.len() < 3 && octets.peek().is_some() {
                let _ = octets.next().map(|octet| three.push(octet));
            }
            if !three.is_empty() {
                base64::quadruple(&three).into_iter().for_each(&mut *put);
            }
        }
        put(b'\n');
        marker = FOLLOWING;
    }
}

fn to_cobs(message: &[u8], put: &mut impl FnMut(u8)) {
    let crc = crc16(message).to_be_bytes();
    let end = message.len() + crc.len();
    let at = |place: usize| *message.get(place).unwrap_or_else(|| &crc[place - message.len()]);
    // The delimiter in front parts the frame from a boot log.
    put(0);
    let mut from = 0;
    loop {
        let length = (from..end.min(from + 254)).take_while(|place| at(*place) != 0).count();
        put(length as u8 + 1);
        (from..from + length).for_each(|place| put(at(place)));
        from += length;
        if from == end {
            break;
        }
        if length < 254 {
            from += 1;
        }
    }
    put(0);
}

fn checked(octets: &[u8]) -> Option<&[u8]> {
    let (message, crc) = octets.split_last_chunk::<2>()?;
    // The length in the SMP header must fit too: a CRC that starts at 0 is blind to zeros in front.
    let announced = usize::from(u16::from_be_bytes([*message.get(2)?, *message.get(3)?]));
    let fits =
        (MIN_MESSAGE..=MAX_MESSAGE).contains(&message.len()) && announced == message.len() - MIN_MESSAGE;
    (fits && crc16(message).to_be_bytes() == *crc).then_some(message)
}

/// Reads both framings from one stream, so that nobody has to say which one is spoken.
pub struct Decoder {
    line: Octets<MAX_LINE>,
    packet: Octets<{ 2 + MAX_CHECKED }>,
    is_open: bool,
    run: Octets<MAX_STUFFED>,
    is_too_long: bool,
    is_ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            line: Octets::new(),
            packet: Octets::new(),
            is_open: false,
            run: Octets::new(),
            is_too_long: false,
            is_ended: true,
        }
    }

    /// Takes one octet; returns the message that it completes, and how it was framed.
    pub fn feed(&mut self, octet: u8) -> Option<(&[u8], Framing)> {
        match octet {
            0 => {
                self.line_goes_on(octet);
                self.end_of_run().map(|message| (message, Framing::Cobs))
            }
            b'\n' => {
                self.run_goes_on(octet);
                self.end_of_line().map(|message| (message, Framing::Lines))
            }
            _ => {
                self.line_goes_on(octet);
                self.run_goes_on(octet);
                None
            }
        }
    }

    fn line_goes_on(&mut self, octet: u8) {
        if self.line.push(octet).is_err() {
            // Only the tail of a long line can be one of ours.
            self.line.octets_mut().rotate_left(1);
            self.line.truncate(MAX_LINE - 1);
            let _ = self.line.push(octet);
        }
    }

    fn end_of_line(&mut self) -> Option<&[u8]> {
        let line = self.line.clone();
        self.line.clear();
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        // The markers are no base64, so the last one in the line is the only one that can be right.
        let place = line.windows(2).rposition(|two| *two == START || *two == FOLLOWING)?;
        let mut fragment = Octets::<MAX_LINE>::new();
        if !base64::decode(&line[place + 2..], &mut fragment) {
            return None;
        }
        if line[place] == START[0] {
            self.packet.clear();
            self.is_open = true;
        }
        self.join(&fragment)
    }

    fn join(&mut self, fragment: &[u8]) -> Option<&[u8]> {
        if !self.is_open {
            return None;
        }
        let has_room = self.packet.put(fragment).is_ok();
        let announced = self.packet.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
        let expected = 2 + announced.unwrap_or(usize::MAX - 2);
        if has_room && self.packet.len() < expected && expected <= 2 + MAX_CHECKED {
            return None;
        }
        self.is_open = false;
        if has_room && self.packet.len() == expected {
            return checked(&self.packet[2..]);
        }
        None
    }

    fn run_goes_on(&mut self, octet: u8) {
        if self.is_ended {
            self.run.clear();
            self.is_ended = false;
        }
        self.is_too_long |= self.run.push(octet).is_err();
    }

    fn end_of_run(&mut self) -> Option<&[u8]> {
        let is_whole = !self.is_ended && !self.is_too_long;
        self.is_ended = true;
        self.is_too_long = false;
        let length = if is_whole { unstuff(self.run.octets_mut())? } else { 0 };
        checked(&self.run[..length])
    }
}

/// Undoes COBS in place; returns the length, or None where the block lengths do not fit.
fn unstuff(octets: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while from < octets.len() {
        let code = usize::from(octets[from]);
        if code == 0 || from + code > octets.len() {
            return None;
        }
        octets.copy_within(from + 1..from + code, to);
        to += code - 1;
        from += code;
        if code < 255 && from < octets.len() {
            octets[to] = 0;
            to += 1;
        }
    }
    Some(to)
}

#[cfg(test)]
mod tests {

    use super::*;
    use std::vec::Vec;

    /// An SMP message whose body is `length` octets of a pattern with zeros in it.
    fn message(length: usize) -> Vec<u8> {
        let body = (0..length).map(|place| (place % 5 * 51) as u8);
        let [high, low] = (length as u16).to_be_bytes();
        [0x0a, 0, high, low, 0, 71, 1, 2].into_iter().chain(body).collect()
    }

    fn framed(message: &[u8], framing: Framing) -> Vec<u8> {
        let mut octets = Vec::new();
        encode(message, framing, &mut |octet| octets.push(octet));
        octets
    }

    fn decoded(octets: &[u8]) -> Vec<(Vec<u8>, Framing)> {
        let mut decoder = Decoder::new();
        let mut found = Vec::new();
        for octet in octets {
            found.extend(decoder.feed(*octet).map(|(message, framing)| (message.to_vec(), framing)));
        }
        found
    }

    #[test]
    fn every_length_goes_there_and_back_in_both_framings() {
        for framing in [Framing::Lines, Framing::Cobs] {
            for length in (0..600).chain([1018, 2039, 2040]) {
                let sent = message(length);
                assert_eq!(decoded(&framed(&sent, framing)), [(sent, framing)], "{length}");
            }
        }
    }

    #[test]
    fn the_check_value_of_the_crc_is_that_of_its_definition() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn a_frame_is_found_behind_a_boot_log() {
        for framing in [Framing::Lines, Framing::Cobs] {
            let octets = [
                b"*** booting ***
"
                .as_slice(),
                &framed(&message(30), framing),
            ]
            .concat();
            assert_eq!(decoded(&octets), [(message(30), framing)]);
        }
    }

    #[test]
    fn log_lines_between_the_lines_of_a_message_do_no_harm() {
        let sent = message(300);
        let octets = framed(&sent, Framing::Lines);
        let lines: Vec<&[u8]> = octets.split_inclusive(|octet| *octet == b'\n').collect();
        let logged = lines.join(&b"[00:00:01] app: busy\n"[..]);
        assert_eq!(decoded(&logged), [(sent, Framing::Lines)]);
    }

    #[test]
    fn a_frame_with_any_one_bit_turned_over_is_not_taken() {
        let sent = message(40);
        for framing in [Framing::Lines, Framing::Cobs] {
            let octets = framed(&sent, framing);
            for bit in 0..octets.len() * 8 {
                let mut spoilt = octets.clone();
                spoilt[bit / 8] ^= 1 << (bit % 8);
                let taken = decoded(&spoilt);
                assert!(taken.is_empty() || taken == [(sent.clone(), framing)], "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_longer_than_the_longest_is_skipped_and_the_next_is_found() {
        for framing in [Framing::Lines, Framing::Cobs] {
            let octets = [framed(&message(3000), framing), framed(&message(9), framing)].concat();
            assert_eq!(decoded(&octets), [(message(9), framing)]);
        }
    }
}
