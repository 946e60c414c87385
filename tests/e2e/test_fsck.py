"""A check of the store finds what is damaged, says where it is and whom it affects; a repair
brings it back."""
import os
import re
import shutil

import pytest

from harness import CAIRN, Store, assert_same_tree, pattern, run, start, write
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
    large.chmod(0o644)
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


@pytest.mark.parametrize("pages", [0, 1, 2, 4])
def test_truncated_index(filled, folder, pages):
    """What LMDB maps and believes may lead past the end of its file."""
    path = filled.path / "index/data.mdb"
    assert path.stat().st_size > 8 * 4096
    os.truncate(path, pages * 4096)
    code, faults, _ = fsck(filled)
    assert code == 4
    assert {fault["kind"] for fault in faults} == {"index"}
    write(folder / "new", b"new")
    for args in (["roots"], ["nar", "dump", "sample"], ["import", folder / "new"]):
        result = filled.cairn(*args, check=False)
        assert result.code == 4, result
        assert "index" in result.err
    assert path.stat().st_size == pages * 4096


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


# ---- Repair ----

@pytest.fixture
def other(filled, folder):
    """A store with the same in it."""
    copy = Store(folder / "other")
    shutil.copytree(filled.path, copy.path)
    return copy


def repair(store, *args):
    """Exit code, what was done, faults, and the summary."""
    result = store.cairn("fsck", "--json", "--read-data", "--repair", *args, check=False)
    values = result.json()
    done = [value["repair"] for value in values if "repair" in value]
    return result.code, done, [value for value in values if "kind" in value], values[-1]


def assert_repaired(store, sample, folder, *args):
    roots = {"sample", "sub", "one"}
    code, done, _, summary = repair(store, *args)
    assert (code, summary["clean"], summary["repaired"]) == (10, True, True)
    assert done
    assert fsck(store, "--read-data")[0] == 0
    assert set(store.roots()) == roots
    store.cairn("export", "sample", folder / "out")
    assert_same_tree(sample, folder / "out")
    # What was repaired is in the packs as well.
    store.cairn("reindex")
    assert fsck(store, "--read-data")[0] == 0
    assert set(store.roots()) == roots
    return done


def quarantined(store):
    return sorted(path.name for path in (store.path / "quarantine").glob("*/*"))


def test_nothing_to_repair(filled):
    code, done, faults, summary = repair(filled)
    assert (code, done, faults) == (0, [], [])
    assert (summary["clean"], summary["repaired"]) == (True, False)
    assert not (filled.path / "quarantine").exists()
    assert filled.cairn("fsck", "--from", "x", check=False).code == 2


def test_repair_content(filled, other, sample, folder):
    flip(pack_of(filled), pack_of(filled).read_bytes().index(b"only in sub\n") + 5)
    code, _, faults, summary = repair(filled)
    assert code == 4
    assert [fault["kind"] for fault in faults] == ["object", "missing"]
    assert summary["affected"] == ["sample", "sub"]
    assert [name.endswith(".record") for name in quarantined(filled)] == [True]
    # Not lost for ever.
    assert_repaired(filled, sample, folder, "--from", other.path)


def test_repair_header(filled, sample, folder):
    """The content is still there, and nobody else is needed."""
    pack = pack_of(filled).read_bytes()
    flip(pack_of(filled), pack.rindex(b"cRec", 0, pack.index(b"only in sub\n")) + 20)
    done = assert_repaired(filled, sample, folder)
    assert any("from what was left" in text for text in done)


def test_repair_large_file(filled, other, sample, folder):
    flip(large_of(filled), 100)
    assert_repaired(filled, sample, folder, "--from", f"file://{other.path}")
    assert [len(name) for name in quarantined(filled)] == [64]


def test_repair_outboard(filled, sample, folder):
    pack = pack_of(filled).read_bytes()
    outboards = [m.start() for m in re.finditer(b"cRec....\3", pack, re.S)]
    flip(pack_of(filled), outboards[-1] + 100)
    assert_repaired(filled, sample, folder)
    assert quarantined(filled) == []


def test_repair_many(filled, other, sample, folder):
    """All objects are lost at once, so that trees have to be fetched from above."""
    pack_of(filled).unlink()
    code, _, _, summary = repair(filled)
    # The index had the names.
    assert (code, summary["affected"]) == (4, ["one", "sample", "sub"])
    assert_repaired(filled, sample, folder, "--from", other.path)


def test_repair_directories(filled, other, sample, folder):
    """Only the objects below tell what is missing."""
    with open(pack_of(filled), "r+b") as f:
        pack = f.read()
        # Headers and contents of all Directories.
        for m in re.finditer(b"cRec....\2", pack, re.S):
            f.seek(m.start())
            f.write(bytes(80))
    assert_repaired(filled, sample, folder, "--from", other.path)


@pytest.mark.parametrize("harm", ["lost", "damaged", "value", "pack"])
def test_repair_index(filled, sample, folder, harm):
    index = filled.path / "index/data.mdb"
    if harm == "lost":
        shutil.rmtree(filled.path / "index")
    elif harm == "damaged":
        index.write_bytes(b"\x5a" * 50000)
    elif harm == "value":
        for found in re.finditer(b"one[\n\x12]", index.read_bytes()):
            flip(index, found.start() + 10)
    else:
        flip(pack_of(filled), 40)
    assert_repaired(filled, sample, folder)
    assert "index" in quarantined(filled) or harm == "lost"


def test_repair_format(filled, sample, folder):
    flip(filled.path / "format", 3)
    code, (fault,), _ = fsck(filled)
    assert (code, fault["kind"], fault["file"]) == (4, "format", "format")
    assert_repaired(filled, sample, folder)
    assert quarantined(filled) == ["format"]


@pytest.mark.parametrize("change", ["put", "removal"])
def test_repair_log(filled, sample, folder, change):
    """A change of a name that no pack has any more is written again."""
    filled.add(sample / "two", "gone")
    filled.cairn("roots", "remove", "gone")
    pack = pack_of(filled).read_bytes()
    # Behind the length of the key.
    flip(pack_of(filled), pack.rindex(b"\4gone" if change == "removal" else b"\3one") + 2)
    code, (fault,), _ = fsck(filled)
    assert (code, fault["kind"]) == (4, "log")
    assert ("gone" if change == "removal" else "one") in fault["message"]
    assert_repaired(filled, sample, folder)


def test_repair_in_use(filled, mount):
    m = mount(filled)
    flip(pack_of(filled), 40)
    result = filled.cairn("fsck", "--repair", check=False)
    assert result.code == 5
    assert "in use" in result.err
    assert m.stop() == 0
