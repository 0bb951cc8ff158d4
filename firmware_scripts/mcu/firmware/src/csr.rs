//! Builds certificate signing requests (RFC 2986): a key, a proof of possession, and the name it is for.

use p256::ecdsa::signature::Signer;
use p256::ecdsa::{DerSignature, SigningKey};

use crate::der::{put, tag};
use crate::octets::{Full, Octets};

/// Longest request: a device id of 64 characters and a signature of 72 octets.
pub const MAX_CSR: usize = 320;
const VERSION: [u8; 3] = [tag::INTEGER, 1, 0];
const NO_ATTRIBUTES: [u8; 2] = [0xa0, 0];
const COMMON_NAME: [u8; 5] = [tag::OID, 3, 0x55, 4, 3];
/// ecdsa-with-SHA256, parameters absent (RFC 5758 3.2).
pub const ECDSA_WITH_SHA256: [u8; 12] =
    [tag::SEQUENCE, 10, tag::OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// A SubjectPublicKeyInfo of P-256 (RFC 5480 2) before its uncompressed point.
pub const P256_KEY: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3,
    1, 7, 3, 0x42, 0,
];
const POINT: usize = 65;

/// A public key as `04 X Y`.
pub type Point = [u8; POINT];

/// Returns the public half of a key.
#[must_use]
pub fn point_of(key: &SigningKey) -> Point {
    let mut point = [0; POINT];
    point.copy_from_slice(key.verifying_key().to_encoded_point(false).as_bytes());
    point
}

/// Returns a request for this key with the device id as its only name, DER.
pub fn request(key: &SigningKey, device_id: &str) -> Result<Octets<MAX_CSR>, Full> {
    let (mut text, mut attribute) = (Octets::<80>::new(), Octets::<96>::new());
    put(tag::UTF8, &[device_id.as_bytes()], &mut text)?;
    put(tag::SEQUENCE, &[&COMMON_NAME, &text], &mut attribute)?;
    let (mut set, mut name) = (Octets::<96>::new(), Octets::<96>::new());
    put(tag::SET, &[&attribute], &mut set)?;
    put(tag::SEQUENCE, &[&set], &mut name)?;
    let mut wanted = Octets::<MAX_CSR>::new();
    let parts: [&[u8]; 5] = [&VERSION, &name, &P256_KEY, &point_of(key), &NO_ATTRIBUTES];
    put(tag::SEQUENCE, &parts, &mut wanted)?;
    let signature: DerSignature = key.sign(&wanted);
    let mut bits = Octets::<80>::new();
    put(tag::BITS, &[&[0], signature.as_bytes()], &mut bits)?;
    let mut csr = Octets::new();
    put(tag::SEQUENCE, &[&wanted, &ECDSA_WITH_SHA256, &bits], &mut csr)?;
    Ok(csr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::key;

    #[test]
    fn the_longest_device_id_has_room() {
        let id = core::str::from_utf8(&[b'd'; 64]).unwrap_or_default();
        assert!(request(&key(1), id).is_ok_and(|csr| csr.len() > 250));
    }

    #[test]
    fn the_same_key_gives_the_same_octets_each_time() {
        let [first, second] = [0, 1].map(|_| request(&key(1), "d1").map(|csr| csr.to_vec()));
        assert_eq!(first, second);
    }
}
