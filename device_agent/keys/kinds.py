"""Kinds of keys that devices have."""

from enum import StrEnum


class KeyKind(StrEnum):
    """What a new key is; the server's profile says what it takes."""

    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"
    RSA = "rsa"
    """2048 bits."""
