"""Changes that a fleet is led through in waves: planned, started, supervised, stopped and taken back."""
