//! Base64 (RFC 4648 4), whole quadruples only, as console lines and PEM need it.

use crate::octets::{Full, Sink};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Puts the text of three octets or, at the end, of fewer.
pub fn quadruple(octets: &[u8]) -> [u8; 4] {
    let at = |place: usize| u32::from(octets.get(place).copied().unwrap_or(0));
    let bits = at(0) << 16 | at(1) << 8 | at(2);
    let sign = |shift: u32| ALPHABET[(bits >> shift) as usize & 63];
    let third = if octets.len() > 1 { sign(6) } else { b'=' };
    let fourth = if octets.len() > 2 { sign(0) } else { b'=' };
    [sign(18), sign(12), third, fourth]
}

/// Appends the text of octets.
pub fn encode(octets: &[u8], out: &mut impl Sink) -> Result<(), Full> {
    octets.chunks(3).try_for_each(|three| out.put(&quadruple(three)))
}

/// Appends what a text stands for; false if it is no base64, or has no room.
#[must_use]
pub fn decode(text: &[u8], out: &mut impl Sink) -> bool {
    let Some((last, others)) = text.split_last_chunk::<4>().map(|(rest, last)| (last, rest)) else {
        return false;
    };
    let (quadruples, rest) = others.as_chunks::<4>();
    rest.is_empty()
        && quadruples.iter().all(|four| triple(four, 3, out))
        && triple(last, 3 - last.iter().rev().take_while(|sign| **sign == b'=').count().min(2), out)
}

fn triple(four: &[u8; 4], length: usize, out: &mut impl Sink) -> bool {
    let mut bits = 0;
    for sign in &four[..=length] {
        let Some(value) = value_of(*sign) else {
            return false;
        };
        bits = bits << 6 | value;
    }
    bits <<= 6 * (3 - length);
    let octets = [(bits >> 16) as u8, (bits >> 8) as u8, bits as u8];
    out.put(&octets[..length]).is_ok()
}

fn value_of(sign: u8) -> Option<u32> {
    match sign {
        b'A'..=b'Z' => Some(u32::from(sign - b'A')),
        b'a'..=b'z' => Some(u32::from(sign - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(sign - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::octets::Octets;

    #[test]
    fn the_vectors_of_rfc_4648_go_both_ways() {
        let vectors: [(&[u8], &[u8]); 6] = [
            (b"f", b"Zg=="),
            (b"fo", b"Zm8="),
            (b"foo", b"Zm9v"),
            (b"foob", b"Zm9vYg=="),
            (b"fooba", b"Zm9vYmE="),
            (b"foobar", b"Zm9vYmFy"),
        ];
        for (plain, text) in vectors {
            let (mut there, mut back) = (Octets::<16>::new(), Octets::<16>::new());
            assert_eq!(encode(plain, &mut there), Ok(()));
            assert_eq!(&*there, text);
            assert!(decode(text, &mut back));
            assert_eq!(&*back, plain);
        }
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in [&b""[..], b"Zg", b"Zg=", b"Z===", b"====", b"Zm9v\n", b"Zg==Zg=="] {
            assert!(!decode(text, &mut Octets::<16>::new()), "{text:?}");
        }
    }
}
