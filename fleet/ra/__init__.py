"""Use cases of the registration authority: who gets which certificate, and why. It holds no key."""
