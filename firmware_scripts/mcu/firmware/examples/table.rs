//! Prints the table of the life cycle, a row a line: state, event, next state, action.

use fleet_mcu::life::{Event, State, step};

fn main() {
    use Event::{Answer, Asked, AskedWhenDue, Confirmed, Dead, KeyMade, Over};
    use State::{Blank, Confirming, Enrolling, Installed, Renewing, Settled};
    for state in [Blank, Enrolling, Renewing, Installed, Confirming, Settled] {
        for event in [Asked, AskedWhenDue, KeyMade, Answer, Confirmed, Dead, Over] {
            let (next, action) = step(state, event);
            println!("{state:?} {event:?} {next:?} {action:?}");
        }
    }
}
