"""Letters of five by seven dots, for what has no fonts: labels as pictures, and large words on a terminal."""

from collections.abc import Mapping, Sequence

HEIGHT = 7
WIDTH = 5

_COLUMNS: Mapping[str, str] = {
    " ": "0000000000", "!": "00005f0000", "$": "242a7f2a12", "%": "2313086462", "*": "082a1c2a08",
    "+": "08083e0808", ",": "0050300000", "-": "0808080808", ".": "0060600000", "/": "2010080402",
    "0": "3e5149453e", "1": "00427f4000", "2": "4261514946", "3": "2141454b31", "4": "1814127f10",
    "5": "2745454539", "6": "3c4a494930", "7": "0171090503", "8": "3649494936", "9": "064949291e",
    ":": "0036360000", "_": "4040404040", "?": "0201510906",
    "A": "7e1111117e", "B": "7f49494936", "C": "3e41414122", "D": "7f4141221c", "E": "7f49494941",
    "F": "7f09090901", "G": "3e4149497a", "H": "7f0808087f", "I": "00417f4100", "J": "2040413f01",
    "K": "7f08142241", "L": "7f40404040", "M": "7f020c027f", "N": "7f0408107f", "O": "3e4141413e",
    "P": "7f09090906", "Q": "3e4151215e", "R": "7f09192946", "S": "4649494931", "T": "01017f0101",
    "U": "3f4040403f", "V": "1f2040201f", "W": "3f4038403f", "X": "6314081463", "Y": "0708700807",
    "Z": "6151494543", "Ä": "7815141578", "Ö": "3845444538", "Ü": "3c4140413c",
    "a": "2054545478", "b": "7f48444438", "c": "3844444420", "d": "384444487f", "e": "3854545418",
    "f": "087e090102", "g": "0c5252523e", "h": "7f08040478", "i": "00447d4000", "j": "2040443d00",
    "k": "7f10284400", "l": "00417f4000", "m": "7c04180478", "n": "7c08040478", "o": "3844444438",
    "p": "7c14141408", "q": "081414187c", "r": "7c08040408", "s": "4854545420", "t": "043f444020",
    "u": "3c4040207c", "v": "1c2040201c", "w": "3c4030403c", "x": "4428102844", "y": "0c5050503c",
    "z": "4464544c44",
}  # fmt: skip
"""Five octets each, one a column, the lowest bit on top."""


def has_letters_for(text: str) -> bool:
    """Tell whether every character can be drawn."""
    return all(letter in _COLUMNS for letter in text)


def dots_of(text: str) -> Sequence[Sequence[bool]]:
    """Return seven rows of dots, with one empty column between letters; what has no letter becomes `?`."""
    columns: list[int] = []
    for letter in text:
        columns += bytes.fromhex(_COLUMNS.get(letter, _COLUMNS["?"])) + b"\0"
    return [[bool(column >> row & 1) for column in columns[:-1]] for row in range(HEIGHT)]


def half_blocks(text: str) -> tuple[str, ...]:
    """Return a word in four lines of a terminal, two dots in each character's height."""
    rows = [*dots_of(text), []]
    rows[HEIGHT] = [False] * len(rows[0])
    signs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(rows[0::2], rows[1::2], strict=True)
    return tuple("".join(signs[up, low] for up, low in zip(*pair, strict=True)) for pair in pairs)
