"""The factory link: one line, the calls on it, the session with a unit, and why a unit does not go on."""
