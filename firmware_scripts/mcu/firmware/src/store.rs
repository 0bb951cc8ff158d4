//! Keeps the record in NOR flash so that a power cut at any moment leaves the old one or the new one.
//!
//! Two halves take turns. A half is erased, the body is programmed, and last the head: its digest makes the
//! half valid. The other half, which is valid, is not touched meanwhile.

use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest, Sha256};

use crate::octets::{Full, Octets, Sink};
use crate::record::{MAX_RECORD, Record};

/// What the maker has programmed into the unit stands at the beginning.
pub const PASSPORT_AT: u32 = 0;
/// Octets of the passport and its head.
pub const PASSPORT_SIZE: u32 = 0x1000;
/// Octets of each half of the record, a whole number of sectors.
pub const HALF_SIZE: u32 = 0x4000;
const HALVES: [u32; 2] = [PASSPORT_SIZE, PASSPORT_SIZE + HALF_SIZE];
/// Octets of flash that are used in all.
pub const FLASH_SIZE: u32 = PASSPORT_SIZE + 2 * HALF_SIZE;
const PAGE: usize = 256;
const HEAD: usize = 64;
const PASSPORT_MAGIC: [u8; 4] = *b"FFLP";
const RECORD_MAGIC: [u8; 4] = *b"FFLR";
const _: () = assert!(MAX_RECORD + HEAD <= HALF_SIZE as usize);

/// The flash did not do what it was told, or holds what cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// Before each body: what it is, its number, its length, and SHA-256 over number, length and body.
struct Head {
    magic: [u8; 4],
    number: u32,
    length: u32,
    digest: [u8; 32],
}

impl Head {
    fn encode(&self) -> [u8; HEAD] {
        let mut octets = [0xff; HEAD];
        octets[..4].copy_from_slice(&self.magic);
        octets[4..8].copy_from_slice(&self.number.to_le_bytes());
        octets[8..12].copy_from_slice(&self.length.to_le_bytes());
        octets[12..44].copy_from_slice(&self.digest);
        octets
    }

    fn decode(octets: &[u8; HEAD]) -> Self {
        let word =
            |at: usize| u32::from_le_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]]);
        let mut digest = [0; 32];
        digest.copy_from_slice(&octets[12..44]);
        Self { magic: [octets[0], octets[1], octets[2], octets[3]], number: word(4), length: word(8), digest }
    }
}

fn hasher(number: u32, length: u32) -> Sha256 {
    Sha256::new().chain_update(number.to_le_bytes()).chain_update(length.to_le_bytes())
}

/// The flash of one device.
pub struct Store<F: NorFlash> {
    flash: F,
    number: u32,
    half: usize,
}

impl<F: NorFlash> Store<F> {
    /// Takes the flash over.
    pub const fn new(flash: F) -> Self {
        Self { flash, number: 0, half: 1 }
    }

    /// Reads what the maker has programmed; None where there is nothing.
    pub fn passport<const N: usize>(&mut self, body: &mut Octets<N>) -> Result<Option<()>, Fault> {
        Ok(self.read(PASSPORT_AT, PASSPORT_MAGIC, body)?.map(|_| ()))
    }

    /// Reads the newest record that is whole; a device that has none is blank.
    pub fn load(&mut self, record: &mut Record) -> Result<(), Fault> {
        let mut newest = None;
        let mut body = Octets::<MAX_RECORD>::new();
        for (half, at) in HALVES.into_iter().enumerate() {
            let number = self.read(at, RECORD_MAGIC, &mut body)?;
            if let Some(number) = number.filter(|number| newest.is_none_or(|(other, _)| *number > other)) {
                newest = Some((number, half));
            }
        }
        record.clear();
        if let Some((number, half)) = newest {
            (self.number, self.half) = (number, half);
            self.read(HALVES[half], RECORD_MAGIC, &mut body)?;
            record.decode(&body).map_err(|_| Fault)?;
            body.wipe();
        }
        Ok(())
    }

    /// Replaces the record; it is durable when this returns.
    pub fn save(&mut self, record: &Record) -> Result<(), Fault> {
        let half = 1 - self.half;
        let at = HALVES[half];
        let number = self.number + 1;
        self.flash.erase(at, at + HALF_SIZE).map_err(|_| Fault)?;
        let mut measure = Length(0);
        record.encode(&mut measure).map_err(|Full| Fault)?;
        let mut body = Programmer {
            flash: &mut self.flash,
            at: at + HEAD as u32,
            page: Octets::new(),
            digest: hasher(number, measure.0),
        };
        record.encode(&mut body).map_err(|Full| Fault)?;
        let digest = body.finish()?;
        let head = Head { magic: RECORD_MAGIC, number, length: measure.0, digest };
        self.flash.write(at, &head.encode()).map_err(|_| Fault)?;
        (self.number, self.half) = (number, half);
        Ok(())
    }

    fn read<const N: usize>(
        &mut self,
        at: u32,
        magic: [u8; 4],
        body: &mut Octets<N>,
    ) -> Result<Option<u32>, Fault> {
        let mut octets = [0; HEAD];
        self.flash.read(at, &mut octets).map_err(|_| Fault)?;
        let head = Head::decode(&octets);
        if head.magic != magic || head.length as usize > N {
            return Ok(None);
        }
        body.clear();
        let mut digest = hasher(head.number, head.length);
        let mut page = [0; PAGE];
        for from in (0..head.length).step_by(PAGE) {
            let length = PAGE.min((head.length - from) as usize);
            self.flash.read(at + HEAD as u32 + from, &mut page[..length]).map_err(|_| Fault)?;
            digest.update(&page[..length]);
            body.put(&page[..length]).map_err(|Full| Fault)?;
        }
        let is_whole = digest.finalize()[..] == head.digest;
        Ok(is_whole.then_some(head.number))
    }
}

/// Measures what is put.
struct Length(u32);

impl Sink for Length {
    fn put(&mut self, piece: &[u8]) -> Result<(), Full> {
        self.0 += piece.len() as u32;
        Ok(())
    }
}

/// Programs what is put, page by page, and hashes it.
struct Programmer<'a, F: NorFlash> {
    flash: &'a mut F,
    at: u32,
    page: Octets<PAGE>,
    digest: Sha256,
}

impl<F: NorFlash> Programmer<'_, F> {
    fn program(&mut self) -> Result<(), Full> {
        // The last page is filled up with what erased flash holds.
        let mut page = [0xff; PAGE];
        page[..self.page.len()].copy_from_slice(&self.page);
        self.flash.write(self.at, &page).map_err(|_| Full)?;
        self.at += PAGE as u32;
        self.page.wipe();
        page.fill(0);
        Ok(())
    }

    fn finish(mut self) -> Result<[u8; 32], Fault> {
        if !self.page.is_empty() {
            self.program().map_err(|Full| Fault)?;
        }
        Ok(self.digest.finalize().into())
    }
}

impl<F: NorFlash> Sink for Programmer<'_, F> {
    fn put(&mut self, piece: &[u8]) -> Result<(), Full> {
        self.digest.update(piece);
        let mut rest = piece;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PAGE - self.page.len()));
            self.page.put(now)?;
            rest = later;
            if self.page.len() == PAGE {
                self.program()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Credential, Key, Pending, Slot, Way};
    use crate::testing::CutFlash;

    fn octets<const N: usize>(octet: u8, length: usize) -> Octets<N> {
        let mut held = Octets::new();
        (0..length).for_each(|_| assert_eq!(held.push(octet), Ok(())));
        held
    }

    fn credential(octet: u8) -> Credential {
        Credential { chain: octets(octet, 700), configuration: octets(octet, 200), hashes: [[octet; 32]; 3] }
    }

    fn record(number: u32) -> Record {
        let octet = number as u8;
        Record {
            device_id: octets(b'd', 9),
            attempt: number,
            anchors: octets(octet, 900),
            servers: octets(octet, 32),
            renew_after: u64::from(number),
            active: Some(Slot { key: Key([octet; 32]), credential: credential(octet) }),
            pending: Some(Pending {
                key: Key([octet ^ 1; 32]),
                csr: octets(octet, 200),
                way: Way::Renewal,
                credential: (number.is_multiple_of(2)).then(|| credential(octet ^ 1)),
            }),
            is_to_scrub: number.is_multiple_of(3),
        }
    }

    fn encoded(record: &Record) -> std::vec::Vec<u8> {
        let mut out = Octets::<MAX_RECORD>::new();
        assert_eq!(record.encode(&mut out), Ok(()));
        out.to_vec()
    }

    fn held(flash: CutFlash) -> std::vec::Vec<u8> {
        let mut found = Record::blank();
        assert_eq!(Store::new(flash).load(&mut found), Ok(()));
        encoded(&found)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for number in 1..7 {
            let written = encoded(&record(number));
            let mut read = record(9);
            assert_eq!(read.decode(&written), Ok(()));
            assert!(encoded(&read) == written);
        }
    }

    #[test]
    fn no_cut_or_bent_record_makes_the_reader_fail_otherwise_than_by_refusing() {
        let written = encoded(&record(2));
        for place in 0..written.len() {
            assert!(Record::blank().decode(&written[..place]).is_err());
            let mut bent = written.clone();
            bent[place] ^= 0x55;
            let _ = Record::blank().decode(&bent);
        }
    }

    #[test]
    fn the_longest_record_has_room() {
        let longest =
            Credential { chain: octets(1, 2560), configuration: octets(1, 768), hashes: [[1; 32]; 3] };
        let record = Record {
            device_id: octets(b'd', 64),
            attempt: u32::MAX,
            anchors: octets(1, 2560),
            servers: octets(1, 128),
            renew_after: u64::MAX,
            active: Some(Slot { key: Key([1; 32]), credential: longest.clone() }),
            pending: Some(Pending {
                key: Key([1; 32]),
                csr: octets(1, 320),
                way: Way::Renewal,
                credential: Some(longest),
            }),
            is_to_scrub: true,
        };
        assert!(encoded(&record).len() <= MAX_RECORD);
    }

    #[test]
    fn a_power_cut_at_any_octet_leaves_the_old_record_or_the_new_one() {
        let mut store = Store::new(CutFlash::new());
        assert_eq!(store.save(&record(1)), Ok(()));
        assert_eq!(store.save(&record(2)), Ok(()));
        let (before, old, new) = (store.flash, encoded(&record(2)), encoded(&record(3)));
        let all = HALF_SIZE as usize + 4096;
        for cut in (0..all).step_by(61).chain(HALF_SIZE as usize..all) {
            let flash = before.restarted();
            flash.left.set(cut);
            let mut store = Store::new(flash);
            assert_eq!(store.load(&mut Record::blank()), Ok(()));
            let saved = store.save(&record(3));
            let found = held(store.flash.restarted());
            assert!(found == new || (saved.is_err() && found == old), "cut at {cut}");
        }
    }

    #[test]
    fn after_a_cut_the_next_record_is_kept_again() {
        let mut flash = CutFlash::new();
        for number in 1..9 {
            flash = flash.restarted();
            flash.left.set(HALF_SIZE as usize + 700 * (number as usize % 3));
            let mut store = Store::new(flash);
            assert_eq!(store.load(&mut Record::blank()), Ok(()));
            let _ = store.save(&record(number));
            let mut again = Store::new(store.flash.restarted());
            assert_eq!(again.load(&mut Record::blank()), Ok(()));
            assert_eq!(again.save(&record(number)), Ok(()));
            flash = again.flash;
            assert!(held(flash.restarted()) == encoded(&record(number)));
        }
    }

    #[test]
    fn a_flash_of_noise_is_a_blank_device() {
        let mut flash = CutFlash::new();
        flash
            .octets
            .iter_mut()
            .enumerate()
            .for_each(|(place, octet)| *octet = (place * 7 + place / 251) as u8);
        assert_eq!(held(flash), encoded(&Record::blank()));
    }
}
