"""Use cases of the registration authority: who gets which certificate, and why. It never touches a private key."""
