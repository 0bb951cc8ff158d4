//! The device's half of the life of a certificate, as one table: the agent's own, for a device that has
//! no TLS and is heard by signatures alone.
//!
//! What the server did not say is not known: a failure or a refusal deletes nothing. A slot is given up
//! only when the server has answered for this very slot.

/// Where a device stands; derived from its record, never stored beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Holds no key.
    Blank,
    /// Holds a key for a certificate from a station.
    Enrolling,
    /// Holds a key for its next certificate.
    Renewing,
    /// Holds a certificate that a station has installed and not committed.
    Installed,
    /// Holds a next certificate that the server does not know to work.
    Confirming,
    /// Holds one certificate.
    Settled,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A gateway asks what is to be carried; renewal is not due.
    Asked,
    /// A gateway asks, and renewal is due.
    AskedWhenDue,
    /// A key for the next certificate was made.
    KeyMade,
    /// An acceptable certificate for the waiting key came.
    Answer,
    /// The server made the waiting certificate the current one.
    Confirmed,
    /// The server gave up the waiting key.
    Dead,
    /// The server says that the certificate in use was superseded, or has expired.
    Over,
}

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The next certificate.
    Renew = 1,
    /// The waiting certificate works.
    Confirm = 2,
    /// What is my certificate to you?
    Status = 3,
}

/// What to do after the record was written; each may be repeated at any later time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Rest,
    /// Make a key, durably, and come back with `KeyMade`.
    MakeKey,
    /// Ask something, proven by a signature.
    Send(Ask),
    /// Destroy the key that the record no longer names.
    ForgetKey,
}

/// Returns the next state and what to do then.
#[must_use]
pub const fn step(state: State, event: Event) -> (State, Action) {
    use Action::{ForgetKey, MakeKey, Rest, Send};
    match (state, event) {
        (State::Renewing, Event::Asked | Event::AskedWhenDue) => (state, Send(Ask::Renew)),
        (State::Installed | State::Confirming, Event::Asked | Event::AskedWhenDue) => {
            (state, Send(Ask::Confirm))
        }
        (State::Settled, Event::Asked) => (state, Send(Ask::Status)),
        (State::Settled, Event::AskedWhenDue | Event::Over) => (state, MakeKey),
        (State::Settled, Event::KeyMade) => (State::Renewing, Send(Ask::Renew)),
        (State::Enrolling, Event::Answer) => (State::Installed, Send(Ask::Confirm)),
        (State::Renewing, Event::Answer) => (State::Confirming, Send(Ask::Confirm)),
        (State::Installed | State::Confirming, Event::Answer) => (state, Send(Ask::Confirm)),
        (State::Installed | State::Confirming, Event::Confirmed) => (State::Settled, ForgetKey),
        (State::Renewing | State::Confirming, Event::Dead) => (State::Settled, ForgetKey),
        // What admits this key is bound to it: only its certificate is given up.
        (State::Installed, Event::Dead) => (State::Enrolling, Rest),
        _ => (state, Rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_for_a_slot_ends_it() {
        for state in [State::Renewing, State::Installed, State::Confirming] {
            for event in [Event::Asked, Event::AskedWhenDue, Event::KeyMade, Event::Answer, Event::Over] {
                let (next, action) = step(state, event);
                assert_ne!(next, State::Settled, "{state:?} {event:?}");
                assert!(!matches!(action, Action::ForgetKey | Action::MakeKey), "{state:?} {event:?}");
            }
        }
    }
}
