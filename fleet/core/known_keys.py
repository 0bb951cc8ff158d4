"""Keys whose private half stands in a published text: whoever can read has them, so nobody is known by one.

Test programs that were shipped by mistake use them. The list is by the hash of the public key, each with
the text that it stands in; keys that are made by a weak generator are `goodkey`'s to find.
"""

from collections.abc import Mapping

_RFC_9500 = "RFC 9500 2, a key for tests"
_RFC_6979 = "RFC 6979 A.2, a key of its examples"
_RFC_8032 = "RFC 8032 7.1, a key of its examples"
_RFC_8410 = "RFC 8410 10.3, a key of its examples"
_RFC_9881 = "RFC 9881 C, a key of its examples"
_GENERATOR = "the base point of its curve: the private key is 1"

PUBLISHED: Mapping[str, str] = {
    "b2b04340cfaee616ec9c2c62d261b208e54bb197498df52e8cadede23ac0ba5e": _RFC_9500,
    "c4c10105a0be0ed4dd3354428dc38a9bfee64da141ce16e75c94eda272f9dd3a": _RFC_9500,
    "8fb6bad671cfe698393c453357da61b56d757ab8c0f3fb9c87f2849e63131878": _RFC_9500,
    "5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4": _RFC_6979,
    "2f95601fa82060b909bfc6b979dbd303d34d34e0afb27ea496beac362f242a4b": _RFC_6979,
    "5cd252fb0ce8932436faf8ccd1040981b89ee4ad6b9fe9e2a2b7e71aacb27cd3": _GENERATOR,
    "29f8fe74f38c49d49810cec736a26732a30bff2e64827b709a1c63340d4f7181": _GENERATOR,
    "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9": _RFC_8032,
    "deb2ded39dc26fce0e6085b6fc34bf6b5941913bbfe2ea614113cff9e004c170": _RFC_8032,
    "8d39ba50abe50f77b6bb8ae7b6927aff7ffbeba35ad2837c0e51e82bcbcc60d5": _RFC_8032,
    "e4f982b51ad0bdd87be820b259fe80337ef636e72b9fa7a8867a6949eb610fd6": _RFC_8032,
    "e77db4a9572e9f6552c22bc751d5499ad218a73bdf7e15dc6ea0fc69246a44de": _RFC_8032,
    "a1e9156054e04fac899ae9f275132cdc07a5dbc4ea2c2ad3a1ffc6e0d253681f": _RFC_8410,
    "837832708c5236d951581f1fddf2b79991b3424a0486d16da1ddad0fd69701be": _RFC_9881,
    "b8b62131bfbe84433efb2273d7f5b87f7a22854a2cfd366fc2aead86d837c52d": _RFC_9881,
}
"""Hex SHA-256 of the DER SubjectPublicKeyInfo -> where the private key stands."""
