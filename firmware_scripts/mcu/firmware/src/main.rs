//! The firmware: one device at one end of a serial line, for ever.

#![no_std]
#![no_main]

mod board;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use embedded_io::{Read, Write};
use fleet_mcu::device::{Device, Parts};
use fleet_mcu::framing::{Decoder, Framing, encode};
use fleet_mcu::link::{Handled, Link};
use fleet_mcu::smp::Message;

use board::{Entropy, Flash, Uart};

/// The parts of this board.
struct Board;

impl Parts for Board {
    type Flash = Flash;
    type Random = Entropy;
}

/// A device that cannot go on starts again: what it remembers is in its flash.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    board::reset()
}

#[entry]
fn main() -> ! {
    let mut uart = Uart::link();
    let mut device = Device::<Board>::new(Flash::take(), Entropy::new());
    if device.start().is_err() {
        say(&mut uart, b"flash fault, it is tried again\r\n");
        board::reset();
    }
    say(&mut uart, b"\r\nfleet-mcu: waiting for a station\r\n");
    serve(&mut uart, &mut device)
}

fn serve(uart: &mut Uart, device: &mut Device<Board>) -> ! {
    let (mut decoder, mut link, mut out) = (Decoder::new(), Link::new(), Message::new());
    loop {
        let mut octet = [0];
        let Ok(_) = uart.read(&mut octet);
        let Some((message, framing)) = decoder.feed(octet[0]) else { continue };
        match link.handle(message, device, &mut out) {
            Handled::Silently => {}
            Handled::Answered => send(uart, &out, framing),
            Handled::AnsweredLast => {
                send(uart, &out, framing);
                board::reset()
            }
        }
    }
}

fn send(uart: &mut Uart, message: &[u8], framing: Framing) {
    encode(message, framing, &mut |octet| say(uart, &[octet]));
    let Ok(()) = uart.flush();
}

fn say(uart: &mut Uart, text: &[u8]) {
    let Ok(()) = uart.write_all(text);
}
