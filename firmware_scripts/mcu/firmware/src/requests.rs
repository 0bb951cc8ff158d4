//! What the device asks the server, as the wire's JSON: text that a gateway carries and cannot change.
//!
//! It is proven by a signature over the exact octets, with the key of the certificate that speaks.

use p256::ecdsa::signature::DigestSigner;
use p256::ecdsa::{DerSignature, Signature, SigningKey};
use sha2::{Digest, Sha256};

use crate::base64;
use crate::life::Ask;
use crate::names::hex;
use crate::octets::{Full, Octets, Sink};

/// Longest request: a renewal with the longest id and six anchors.
pub const MAX_REQUEST: usize = 1280;
/// Octets of the server's nonce.
pub const SERVER_NONCE: usize = 32;
const PEM_LINE: usize = 48;

/// One request.
pub type Request = Octets<MAX_REQUEST>;

/// What a renewal says.
pub struct Renewal<'a> {
    /// DER.
    pub csr: &'a [u8],
    /// Which key since the certificate in use this is.
    pub attempt: u32,
    /// SHA-256 of the anchors that the device holds, one after another.
    pub anchors: &'a [u8],
}

/// Writes a request; `id` is random and names it in logs alone.
pub fn compose(ask: Ask, id: [u8; 16], renewal: Option<&Renewal<'_>>, out: &mut Request) -> Result<(), Full> {
    out.clear();
    out.put(b"{\"v\":1,\"id\":\"")?;
    put_uuid(id, out)?;
    out.put(b"\",\"type\":\"")?;
    out.put(match ask {
        Ask::Renew => b"renew\"",
        Ask::Confirm => b"confirm\"",
        Ask::Status => b"status\"",
    })?;
    if let Some(renewal) = renewal {
        put_renewal(renewal, out)?;
    }
    out.put(b"}")
}

/// Signs a request as `fleet-recover-v1`: for this fleet, domain and nonce alone.
#[must_use]
pub fn sign(
    key: &SigningKey,
    fleet: &str,
    domain: &str,
    nonce: &[u8; SERVER_NONCE],
    request: &[u8],
) -> DerSignature {
    let mut text = Octets::<{ 2 * SERVER_NONCE }>::new();
    hex(nonce, &mut text);
    let parts: [&[u8]; 4] = [b"fleet-recover-v1", fleet.as_bytes(), domain.as_bytes(), &text];
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part);
        digest.update([0]);
    }
    let signature: Signature = key.sign_digest(digest.chain_update(request));
    signature.to_der()
}

fn put_renewal(renewal: &Renewal<'_>, out: &mut Request) -> Result<(), Full> {
    out.put(b",\"csr\":\"-----BEGIN CERTIFICATE REQUEST-----\\n")?;
    for line in renewal.csr.chunks(PEM_LINE) {
        base64::encode(line, out)?;
        out.put(b"\\n")?;
    }
    out.put(b"-----END CERTIFICATE REQUEST-----\\n\",\"attempt\":")?;
    put_number(renewal.attempt, out)?;
    out.put(b",\"anchors\":[")?;
    for (place, anchor) in renewal.anchors.chunks(32).enumerate() {
        out.put(if place == 0 { b"\"" } else { b",\"" })?;
        hex(anchor, out);
        out.put(b"\"")?;
    }
    out.put(b"]")
}

/// RFC 9562 5.4: version 4.
fn put_uuid(mut id: [u8; 16], out: &mut Request) -> Result<(), Full> {
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    for (place, octet) in id.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.put(b"-")?;
        }
        hex(&[*octet], out);
    }
    Ok(())
}

fn put_number(number: u32, out: &mut Request) -> Result<(), Full> {
    if number >= 10 {
        put_number(number / 10, out)?;
    }
    out.put(&[b'0' + (number % 10) as u8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_the_json_of_the_wire() {
        let mut out = Request::new();
        let renewal = Renewal { csr: &[0; 50], attempt: 1203, anchors: &[0xab; 64] };
        assert_eq!(compose(Ask::Renew, [0xff; 16], Some(&renewal), &mut out), Ok(()));
        let zeros = core::str::from_utf8(&[b'A'; 64]).unwrap_or_default();
        let digest = "ab".repeat(32);
        let expected = format!(
            "{{\"v\":1,\"id\":\"ffffffff-ffff-4fff-bfff-ffffffffffff\",\"type\":\"renew\",\
             \"csr\":\"-----BEGIN CERTIFICATE REQUEST-----\\n{zeros}\\nAAA=\\n-----END CERTIFICATE REQUEST-----\\n\",\
             \"attempt\":1203,\"anchors\":[\"{digest}\",\"{digest}\"]}}"
        );
        assert_eq!(core::str::from_utf8(&out), Ok(expected.as_str()));
    }

    #[test]
    fn the_longest_renewal_has_room() {
        let renewal = Renewal { csr: &[0; 320], attempt: u32::MAX, anchors: &[0; 6 * 32] };
        assert_eq!(compose(Ask::Renew, [0; 16], Some(&renewal), &mut Request::new()), Ok(()));
    }

    #[test]
    fn a_confirmation_says_no_more_than_what_it_is() {
        let mut out = Request::new();
        assert_eq!(compose(Ask::Confirm, [0; 16], None, &mut out), Ok(()));
        assert!(out.ends_with(b"\",\"type\":\"confirm\"}"));
    }
}
