"""The Merkle tree against RFC 9162: published vectors, and properties over all small trees."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core import merkle
from fleet.core.merkle import Frontier, leaf_hash, root_of

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "merkle.json").read_text())

entries = st.lists(st.binary(max_size=40), max_size=70)
some_entries = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


def grown(leaves: list[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    return frontier


def test_the_root_of_an_empty_tree_is_the_hash_of_nothing() -> None:
    assert root_of([]) == Frontier().root() == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_of_the_reference_log_come_out(size: int) -> None:
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in VECTORS["entries"][:size]]
    assert root_of(leaves).hex() == VECTORS["roots"][size - 1]
    assert grown(leaves).root() == root_of(leaves)


@pytest.mark.parametrize(
    "vector", VECTORS["inclusion"], ids=lambda vector: f"{vector['index']}-{vector['size']}"
)
def test_inclusion_proofs_of_the_reference_log_come_out(vector: dict[str, object]) -> None:
    size, index = int(str(vector["size"])), int(str(vector["index"]))
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in VECTORS["entries"][:size]]
    assert [step.hex() for step in merkle.inclusion_proof(leaves, index)] == vector["proof"]


@pytest.mark.parametrize(
    "vector", VECTORS["consistency"], ids=lambda vector: f"{vector['first']}-{vector['size']}"
)
def test_consistency_proofs_of_the_reference_log_come_out(vector: dict[str, object]) -> None:
    size, first = int(str(vector["size"])), int(str(vector["first"]))
    leaves = [leaf_hash(bytes.fromhex(entry)) for entry in VECTORS["entries"][:size]]
    assert [step.hex() for step in merkle.consistency_proof(leaves, first)] == vector["proof"]


@given(entries)
def test_a_frontier_has_the_root_of_the_whole_tree(content: list[bytes]) -> None:
    leaves = [leaf_hash(entry) for entry in content]
    assert grown(leaves).root() == root_of(leaves)


def test_a_frontier_refuses_peaks_that_do_not_fit_its_size() -> None:
    with pytest.raises(ValueError, match="a tree of 3 leaves has 2 peaks"):
        Frontier(size=3, peaks=(b"\0" * 32,))


@given(some_entries, st.data())
def test_every_leaf_proves_its_place_and_no_other(content: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in content]
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = merkle.inclusion_proof(leaves, index), root_of(leaves)

    assert merkle.is_included(leaves[index], index, size=len(leaves), proof=proof, root=root)
    assert not merkle.is_included(leaf_hash(b"forged" * 9), index, size=len(leaves), proof=proof, root=root)
    assert not merkle.is_included(leaves[index], len(leaves), size=len(leaves), proof=proof, root=root)
    assert not merkle.is_included(leaves[index], index, size=len(leaves), proof=[*proof, root], root=root)
    if proof:
        assert not merkle.is_included(leaves[index], index, size=len(leaves), proof=proof[1:], root=root)


@given(some_entries, st.data())
def test_every_earlier_tree_proves_to_be_the_beginning(content: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(entry) for entry in content]
    first = data.draw(st.integers(1, len(leaves)))
    proof = merkle.consistency_proof(leaves, first)
    earlier, later = root_of(leaves[:first]), root_of(leaves)
    sizes = {"earlier_size": first, "later_size": len(leaves)}

    assert merkle.is_consistent(earlier, later, proof=proof, **sizes)
    assert not merkle.is_consistent(leaf_hash(b"forged" * 9), later, proof=proof, **sizes)
    assert not merkle.is_consistent(earlier, leaf_hash(b"forged" * 9), proof=proof, **sizes)
    assert not merkle.is_consistent(earlier, later, proof=[*proof, later], **sizes)


def test_proofs_hold_over_every_pair_of_sizes_up_to_33() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(33)]
    for size in range(1, 34):
        root = root_of(leaves[:size])
        for index in range(size):
            proof = merkle.inclusion_proof(leaves[:size], index)
            assert merkle.is_included(leaves[index], index, size=size, proof=proof, root=root)
            steps = merkle.consistency_proof(leaves[:size], index + 1)
            sizes = {"earlier_size": index + 1, "later_size": size}
            assert merkle.is_consistent(root_of(leaves[: index + 1]), root, proof=steps, **sizes)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_leaf_that_is_not_there_has_no_proof(index: int) -> None:
    with pytest.raises(ValueError, match="has no leaf"):
        merkle.inclusion_proof([b"\0" * 32] * 3, index)


@pytest.mark.parametrize("size", [0, 4])
def test_a_size_that_never_was_has_no_proof(size: int) -> None:
    with pytest.raises(ValueError, match="has no earlier size"):
        merkle.consistency_proof([b"\0" * 32] * 3, size)


def test_an_entry_cannot_be_passed_off_as_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != merkle.node_hash(left, right)
