"""A check of the store finds what is damaged, says where it is and whom it affects."""
import os
import re
import shutil

import pytest

from harness import CAIRN, pattern, run, start, write
from nix_paths import StorePath


@pytest.fixture
def filled(store, sample):
    """Two names that share something, a large blob below one of them, and a store path."""
    write(sample / "large", pattern(3 << 20))
    write(sample / "sub/only", b"only in sub\n" * 300)
    store.add(sample, "sample")
    store.add(sample / "sub", "sub")
    store.add(sample / "one", "one")
    return store


def fsck(store, *args):
    """Exit code, faults and the summary."""
    result = store.cairn("fsck", "--json", *args, check=False)
    values = result.json()
    assert values, result
    return result.code, values[:-1], values[-1]


def flip(path, offset, bits=0x40):
    mode = path.stat().st_mode
    path.chmod(0o644)
    with open(path, "r+b") as f:
        f.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ bits]))
    path.chmod(mode)


def pack_of(store):
    return store.path / "packs/00000001.pack"


def large_of(store):
    files = (store.path / "files").glob("*/*")
    return next(path for path in files if path.stat().st_size == 3 << 20)


def test_clean(filled, sample):
    StorePath(sample, "sample").put(filled)
    assert filled.cairn("fsck").out.endswith("no fault found\n")
    for args in [(), ("--read-data",), ("--read-data-subset", "1/2")]:
        code, faults, summary = fsck(filled, *args)
        assert (code, faults, summary["clean"]) == (0, [], True)
        assert summary["names"] == 4
        assert summary["objects"] >= 12
    whole = fsck(filled, "--read-data")[2]["bytes"]
    parts = [fsck(filled, "--read-data-subset", f"{n}/3")[2]["bytes"] for n in (1, 2, 3)]
    assert sum(parts) == whole > 3 << 20
    assert fsck(filled)[2]["bytes"] == 0


def test_damaged_content(filled):
    at = pack_of(filled).read_bytes().index(b"only in sub\n")
    flip(pack_of(filled), at + 5)
    assert fsck(filled)[0] == 0
    code, (fault,), summary = fsck(filled, "--read-data")
    assert code == 4
    assert fault["kind"] == "object"
    assert fault["file"] == "packs/00000001.pack"
    assert at - 600 < fault["offset"] < at
    assert fault["affected"] == ["sample", "sub"] == summary["affected"]
    text = filled.cairn("fsck", "--read-data", check=False)
    assert text.code == 4
    assert fault["digest"] in text.out
    assert "affects sub" in text.out


def test_damaged_header(filled):
    pack = pack_of(filled).read_bytes()
    at = pack.rindex(b"cRec", 0, pack.index(b"only in sub\n"))
    flip(pack_of(filled), at + 20)
    code, faults, _ = fsck(filled)
    assert code == 4
    assert [fault["kind"] for fault in faults] == ["object"]
    assert faults[0]["offset"] == at


@pytest.mark.parametrize("offset", [0, 20, 24, 40, 63])
def test_damaged_pack(filled, offset):
    flip(pack_of(filled), offset)
    code, faults, summary = fsck(filled)
    assert code == 4
    assert faults[0]["kind"] == "pack"
    assert faults[0]["file"] == "packs/00000001.pack"
    assert summary["affected"] == ["one", "sample", "sub"]


def test_large_file(filled):
    flip(large_of(filled), (3 << 20) - 1)
    assert fsck(filled)[0] == 0
    code, (fault,), _ = fsck(filled, "--read-data")
    assert code == 4
    assert fault["kind"] == "file"
    assert filled.path / fault["file"] == large_of(filled)
    assert fault["affected"] == ["sample"]
    large = large_of(filled)
    os.truncate(large, 1000)
    assert fsck(filled)[1][0]["kind"] == "file"
    large.unlink()
    code, (fault,), _ = fsck(filled)
    assert code == 4
    assert "missing" in fault["message"]


def test_lost_pack(filled):
    pack_of(filled).unlink()
    code, faults, summary = fsck(filled)
    assert code == 4
    assert faults[0]["kind"] == "pack"
    assert summary["affected"] == ["one", "sample", "sub"]


def test_truncated_pack(filled):
    os.truncate(pack_of(filled), pack_of(filled).stat().st_size - 8)
    code, faults, _ = fsck(filled)
    assert code == 4
    assert faults[0]["kind"] == "pack"


@pytest.mark.parametrize("offset", [0, 16, 4096 + 16])
def test_damaged_index(filled, offset):
    flip(filled.path / "index/data.mdb", offset)
    code, faults, _ = fsck(filled)
    assert code == 4
    assert faults[0]["kind"] == "index"


def test_lost_index(filled):
    shutil.rmtree(filled.path / "index")
    code, faults, _ = fsck(filled)
    assert code == 4
    assert faults[0]["kind"] == "index"


def test_wrong_name(filled):
    """A byte of a value that no digest protects."""
    index = filled.path / "index/data.mdb"
    # Pages that are not in use any more hold it as well.
    for found in re.finditer(b"one[\n\x12]", index.read_bytes()):
        flip(index, found.start() + 10)
    code, faults, summary = fsck(filled)
    assert code == 4
    assert {fault["kind"] for fault in faults} == {"index"}
    assert summary["affected"] == ["one"]
    assert filled.cairn("cat", "one", check=False).code == 4


def test_beside_a_writer(filled, folder):
    """No false alarms while somebody imports and names come and go."""
    tree = folder / "many"
    for i in range(300):
        write(tree / str(i), pattern(5000 + i))
    writer = start([CAIRN, "--store", filled.path, "import", "--name", "many", tree])
    rounds = 0
    while writer.poll() is None or rounds < 3:
        filled.add(filled.path / "format", "moving", "--replace")
        code, faults, _ = fsck(filled, "--read-data")
        assert (code, faults) == (0, [])
        rounds += 1
    assert writer.wait() == 0


def test_cannot_check(folder, filled):
    assert run([CAIRN, "--store", folder / "none", "fsck"], check=False).code == 3
    assert run([CAIRN, "--store", "memory://", "fsck"], check=False).code == 1
    for args in (["extra"], ["--read-data-subset", "3/2"], ["--read-data-subset", "0/2"],
                 ["--read-data-subset", "2"]):
        assert filled.cairn("fsck", *args, check=False).code == 2
