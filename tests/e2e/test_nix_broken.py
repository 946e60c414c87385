"""
A NAR that Nix wrote, damaged in every place: each token taken away, doubled, exchanged or replaced,
each length and each padding changed, and bits flipped all over. test_nar.py has the faults that one
thinks of; these are the others. With sanitizers (CAIRN_TEST_SLOW above 1) only every seventh is
tried.
"""
import concurrent.futures
import os
import re

import pytest

import harness
import nars
import real_nix
from harness import write

pytestmark = real_nix.needs_nix
STEP = 1 if harness.SLOW <= 1 else 7
DATA_FOLLOWS = {b"name", b"contents", b"target"}


class Token:
    """A string of a NAR. What is data may be anything, what is not belongs to the format."""

    def __init__(self, offset, value, is_data):
        self.offset = offset
        self.value = value
        self.is_data = is_data
        self.end = offset + len(nars.string(value))

    def data_bytes(self):
        start = self.offset + 8
        return range(start, start + len(self.value)) if self.is_data else range(0)


def tokens_of(nar):
    tokens, offset, is_data = [], 0, False
    while offset < len(nar):
        size = int.from_bytes(nar[offset:offset + 8], "little")
        token = Token(offset, nar[offset + 8:offset + 8 + size], is_data)
        tokens.append(token)
        is_data = not is_data and token.value in DATA_FOLLOWS
        offset = token.end
    return tokens


@pytest.fixture
def nix(folder):
    return real_nix.Nix(folder / "nix")


@pytest.fixture
def nar(nix, source):
    """
    All that a NAR can have. No content is padded or ends in a zero: one that is a byte longer or
    shorter may be a good NAR of another file.
    """
    write(source / "empty")
    write(source / "program", "#!/bin/sh\nexit 0", 0o755)
    write(source / "sub/eight by", "12345678")
    (source / "sub/link").symlink_to("../program")
    (source / "vacant").mkdir()
    return harness.run(["nix-store", "--dump", source], env=nix.env).raw


def without(nar, tokens, i):
    return nar[:tokens[i].offset] + nar[tokens[i].end:]


def doubled(nar, tokens, i):
    return nar[:tokens[i].end] + nar[tokens[i].offset:]


def exchanged(nar, tokens, i):
    if i + 1 == len(tokens) or tokens[i].value == tokens[i + 1].value:
        return None
    a, b = tokens[i], tokens[i + 1]
    return nar[:a.offset] + nar[b.offset:b.end] + nar[a.offset:a.end] + nar[b.end:]


def unknown(nar, tokens, i):
    """Another word; names, contents and targets may be any."""
    if tokens[i].is_data:
        return None
    return nar[:tokens[i].offset] + nars.string("unknown") + nar[tokens[i].end:]


def prefixed(nar, tokens, i):
    """A word and more."""
    if tokens[i].is_data:
        return None
    return nar[:tokens[i].offset] + nars.string(tokens[i].value + b"\0") + nar[tokens[i].end:]


def with_size(nar, token, size):
    return nar[:token.offset] + size.to_bytes(8, "little") + nar[token.offset + 8:]


def one_longer(nar, tokens, i):
    return with_size(nar, tokens[i], len(tokens[i].value) + 1)


def eight_longer(nar, tokens, i):
    return with_size(nar, tokens[i], len(tokens[i].value) + 8)


def one_shorter(nar, tokens, i):
    if not tokens[i].value:
        return None
    return with_size(nar, tokens[i], len(tokens[i].value) - 1)


def as_long_as_the_rest(nar, tokens, i):
    return with_size(nar, tokens[i], len(nar) - tokens[i].offset - 8)


def negative(nar, tokens, i):
    return with_size(nar, tokens[i], (1 << 64) - 8)


def of_2_to_the_63(nar, tokens, i):
    return with_size(nar, tokens[i], 1 << 63 | len(tokens[i].value))


def padded_with_more(nar, tokens, i):
    return nar[:tokens[i].end] + bytes(8) + nar[tokens[i].end:]


def padding_not_zero(nar, tokens, i):
    end = tokens[i].end
    if len(tokens[i].value) % 8 == 0:
        return None
    return nar[:end - 1] + b"\1" + nar[end:]


def state(store):
    """All that others see of a store."""
    infos = store.cairn("nix", "path-info", "--all", "--json").json()
    return store.roots(), infos, store.disk_usage()


def assert_unchanged(store, before):
    roots, infos, usage = state(store)
    assert (roots, infos) == before[:2]
    assert usage <= before[2] + 64 * 1024


@pytest.fixture
def filled(store, nar, source):
    """A store with names and path infos to lose."""
    store.cairn("nix", "import", source)
    store.cairn("nar", "import", "--name=whole", input=nar)
    assert store.cairn("nar", "dump", "whole").raw == nar
    return store


def assert_refused(store, data, where):
    result = store.cairn("nar", "import", "--name=broken", input=data, check=False)
    # A length that no file has is beyond the limits instead.
    beyond = re.search(r"\b\d{19,}\b", result.err)
    assert result.code == 4 or result.code == 1 and beyond, (where, result)
    offset = re.search(r"byte (\d+) of the NAR", result.err)
    assert offset and int(offset[1]) <= len(data), (where, result)
    assert len(result.err.splitlines()) == 1 and result.out == "", (where, result)


def in_parallel(call, values):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(call, values))


MUTATIONS = [without, doubled, exchanged, unknown, prefixed, one_longer, eight_longer, one_shorter,
             as_long_as_the_rest, negative, of_2_to_the_63, padded_with_more, padding_not_zero]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_every_token(filled, nar, mutate):
    tokens = tokens_of(nar)
    broken = [(i, mutate(nar, tokens, i)) for i in range(0, len(tokens), STEP)]
    broken = [(i, data) for i, data in broken if data is not None]
    assert broken
    before = state(filled)
    in_parallel(lambda item: assert_refused(filled, item[1], f"token {item[0]}"), broken)
    assert_unchanged(filled, before)


def flipped(nar, at):
    return nar[:at] + bytes([nar[at] ^ 1 << at % 8]) + nar[at + 1:]


def test_bits_of_the_format(filled, nar):
    """A flip outside of names, contents and targets never passes."""
    data = {at for token in tokens_of(nar) for at in token.data_bytes()}
    places = [at for at in range(len(nar)) if at not in data][::2 * STEP]
    before = state(filled)
    in_parallel(lambda at: assert_refused(filled, flipped(nar, at), f"byte {at}"), places)
    assert_unchanged(filled, before)


def test_bits_of_the_data(filled, nar):
    """A flip in them is another tree, or none: what is taken comes back as it was."""
    taken = 0
    for token in tokens_of(nar):
        for at in token.data_bytes()[::STEP]:
            data = flipped(nar, at)
            result = filled.cairn("nar", "import", input=data, check=False)
            if result.code == 0:
                taken += 1
                assert filled.cairn("nar", "dump", result.out.split()[0]).raw == data, at
            else:
                assert result.code == 4, (at, result)
                assert "of the NAR" in result.err
    assert taken
    assert filled.cairn("nar", "dump", "whole").raw == nar
