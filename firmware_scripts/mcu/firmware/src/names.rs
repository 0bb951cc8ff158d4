//! Names of devices, units, domains and fleets: their alphabets, and what a leaf must say.

use sha2::{Digest, Sha256};

use crate::octets::{Octets, Sink};

/// Longest device id and hardware id.
pub const MAX_NAME: usize = 64;
const MAX_DOMAIN: usize = 32;

/// 1 to 64 of `A-Z a-z 0-9 _ : -`, first a letter or digit.
#[must_use]
pub fn is_device_id(text: &str) -> bool {
    is_of(text, MAX_NAME, |octet| octet.is_ascii_alphanumeric() || b"_:-".contains(&octet))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// 1 to 64 of `A-Z a-z 0-9 . _ : -`.
#[must_use]
pub fn is_hardware_id(text: &str) -> bool {
    is_of(text, MAX_NAME, |octet| octet.is_ascii_alphanumeric() || b"._:-".contains(&octet))
}

/// A DNS label of at most 32 characters.
#[must_use]
pub fn is_domain(text: &str) -> bool {
    text.len() <= MAX_DOMAIN && is_label(text)
}

fn is_label(text: &str) -> bool {
    is_of(text, 63, |octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_of(text: &str, longest: usize, is_allowed: impl Fn(u8) -> bool) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns (domain, device id) of a broker name `<domain>:<device id>`.
#[must_use]
pub fn split_name(name: &str) -> Option<(&str, &str)> {
    name.split_once(':').filter(|(domain, id)| is_domain(domain) && is_device_id(id))
}

/// Returns the fleet that a leaf's first dNSName, `<label>.[<station>.]<domain>.<fleet>`, ends in.
#[must_use]
pub fn fleet_of<'a>(dns_name: &'a str, device_id: &str, domain: &str) -> Option<&'a str> {
    let label = label_of(device_id);
    let label = core::str::from_utf8(&label).ok()?;
    let rest = dns_name.strip_prefix(label)?.strip_prefix('.')?;
    let (above, fleet) = rest.rsplit_once('.')?;
    // Leaves that a station made off line have its name between theirs and the domain's.
    let station = above.strip_suffix(domain)?;
    let is_right = station.is_empty() || station.strip_suffix('.').is_some_and(is_label);
    (is_right && is_domain(fleet)).then_some(fleet)
}

/// The id itself where it is a DNS label already, else `h-` and 32 hex of its SHA-256.
fn label_of(device_id: &str) -> Octets<MAX_NAME> {
    let mut label = Octets::new();
    if is_label(device_id) && !device_id.starts_with("h-") {
        let _ = label.put(device_id.as_bytes());
    } else {
        let _ = label.put(b"h-");
        hex(&Sha256::digest(device_id)[..16], &mut label);
    }
    label
}

/// Appends octets as lower-case hex, as far as there is room.
pub fn hex(octets: &[u8], out: &mut impl Sink) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for octet in octets {
        let _ = out.put(&[DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_right_or_refused() {
        for id in ["d1", "A:b_c-9", "0"] {
            assert!(is_device_id(id), "{id}");
        }
        for id in ["", "-d", "a.b", "a b", "d\u{e9}", core::str::from_utf8(&[b'a'; 65]).unwrap_or("")] {
            assert!(!is_device_id(id), "{id}");
        }
        assert!(is_hardware_id("stm32.0042"));
        assert!(!is_hardware_id("a/b"));
    }

    #[test]
    fn a_leaf_names_its_fleet_behind_its_label_and_domain() {
        assert_eq!(fleet_of("d1.prod.acme", "d1", "prod"), Some("acme"));
        assert_eq!(fleet_of("d1.line-3.prod.acme", "d1", "prod"), Some("acme"));
        let hashed = "h-a1fce4363854ff888cff4b8e7875d600.prod.acme";
        assert_eq!(label_of("D1").len(), 34);
        assert_eq!(fleet_of(hashed, "d1", "prod"), None);
        for wrong in [
            "d2.prod.acme",
            "d1.lab.acme",
            "d1.prod",
            "d1.xprod.acme",
            "d1.a.b.prod.acme",
            "d1.prod.",
            "d1prod.acme",
        ] {
            assert_eq!(fleet_of(wrong, "d1", "prod"), None, "{wrong}");
        }
    }

    #[test]
    fn a_broker_name_is_a_domain_and_a_device_id() {
        assert_eq!(split_name("prod:a:b"), Some(("prod", "a:b")));
        for wrong in ["prod", "PROD:a", ":a", "prod:", "a-:b"] {
            assert_eq!(split_name(wrong), None, "{wrong}");
        }
    }
}
