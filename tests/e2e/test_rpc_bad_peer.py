"""cairn as the client of somebody else's server: one that works, and one that does not."""
import base64
import contextlib
import errno
import os
import socket
import threading
import time

import pytest

from harness import (
    SLOW, assert_same_tree, cairn, expect_error, pattern, wait_until, write)

pytest.importorskip("grpc_tools", reason="no python3-grpc-tools")
import grpc  # noqa: E402

import rpc_peer  # noqa: E402
from content_digest import digest_of  # noqa: E402
from rpc_peer import Peer  # noqa: E402

Code = grpc.StatusCode
TOO_LARGE, ABSENT, CORRUPT, UNREACHABLE, DENIED = 1, 3, 4, 5, 7
# What the clients wait for a peer, and what is certainly too long.
PATIENCE = f"{int(SLOW)}s"
LIMIT = 20 * SLOW
LARGE = pattern(3_000_000, 21)


def text_of(digest):
    return "b3:" + base64.b64encode(digest).decode()


class Far:
    """The peer as a store of cairn's."""

    def __init__(self, path):
        self.path = (f"grpc+unix://{path}?timeout={PATIENCE}&connect-timeout={PATIENCE}"
                     "&max-blob=32M")

    def cairn(self, *args, **kw):
        return cairn("--store", self.path, *args, **kw)

    def fails(self, *args, code):
        """The result of a command that must fail like this, and not take for ever."""
        begin = time.monotonic()
        result = self.cairn(*args, check=False)
        assert time.monotonic() - begin < LIMIT
        assert result.code in (code if isinstance(code, tuple) else (code,)), result
        assert result.err.strip(), "no message"
        return result

    def add(self, path):
        """Such peers have no names of trees. The digest."""
        return self.cairn("import", "--no-name", "--json", path).json()[0]["digest"]


@pytest.fixture
def socket_path(folder):
    return folder / "peer"


@pytest.fixture
def peer(socket_path):
    with Peer(f"unix:{socket_path}") as made:
        yield made


@pytest.fixture
def far(socket_path):
    return Far(socket_path)


TREE = {"file": b"content\n", "large": LARGE, "link": "file", "empty": b"",
        "sub": {"one": {"leaf": b"leaf\n"}, "two": {"leaf": b"leaf\n"}}}


def write_tree(top, entries):
    top.mkdir()
    for name, value in entries.items():
        if isinstance(value, dict):
            write_tree(top / name, value)
        elif isinstance(value, str):
            (top / name).symlink_to(value)
        else:
            write(top / name, value, 0o644)
    return top


# ---- A peer that works ----

@pytest.mark.parametrize("names", [("tvix",), ("snix",), ("tvix", "snix")])
def test_either_family(socket_path, far, folder, names):
    local = write_tree(folder / "tree", TREE)
    with Peer(f"unix:{socket_path}", names) as peer:
        digest, _ = peer.add_tree(TREE)
        far.cairn("export", text_of(digest), folder / "out")
        assert_same_tree(local, folder / "out")
        assert far.cairn("cat", text_of(digest) + "/sub/two/leaf").out == "leaf\n"
        # Uploaded, the same tree is the same objects.
        objects = dict(peer.blobs), dict(peer.directories)
        peer.blobs.clear()
        peer.directories.clear()
        assert far.add(local) == text_of(digest)
        peer.add_blob(b"")
        assert (peer.blobs, peer.directories) == objects


def test_nothing_is_sent_twice(peer, far, folder):
    """A second upload asks what is there, and sends nothing."""
    local = write_tree(folder / "tree", TREE)
    far.add(local)
    first = peer.calls["BlobService/Put"]
    assert first == 3
    far.add(local)
    assert peer.calls["BlobService/Put"] == first


def test_absent_is_no_error(peer, far):
    far.fails("cat", text_of(digest_of(b"nobody has this")), code=ABSENT)
    digest, _ = peer.add_tree({"file": b"1"})
    del peer.blobs[digest_of(b"1")]
    # What a tree refers to should be there.
    result = far.fails("cat", text_of(digest) + "/file", code=UNREACHABLE)
    assert text_of(digest_of(b"1")) in result.err


# ---- Blobs that are not what they should be ----

BAD_BLOBS = {
    "wrong bytes": rpc_peer.each(rpc_peer.flip_bit),
    "truncated": rpc_peer.truncate(10),
    "nothing": rpc_peer.truncate(0),
    "endless": rpc_peer.repeat_for_ever,
    "wrong order": rpc_peer.replace(lambda chunks: chunks[::-1]),
    "duplicates": rpc_peer.replace(lambda chunks: [c for c in chunks for _ in range(2)]),
    "one too many": rpc_peer.replace(lambda chunks: [*chunks, chunks[0]]),
}


@pytest.mark.parametrize("fault", BAD_BLOBS.values(), ids=BAD_BLOBS.keys())
def test_bad_blobs(peer, far, fault):
    """Nothing that was not checked comes out, and never all of it."""
    digest = peer.add_blob(LARGE)
    peer.faults["BlobService/Read"] = fault
    # Where no size is known, what has no end is cut off where blobs become too large.
    endless = fault is rpc_peer.repeat_for_ever
    result = far.fails("cat", text_of(digest), code=TOO_LARGE if endless else CORRUPT)
    assert LARGE.startswith(result.raw) and result.raw != LARGE


@pytest.mark.parametrize("name", ["wrong bytes", "nothing", "one too many"])
def test_bad_small_blobs(peer, far, name):
    digest = peer.add_blob(b"small\n")
    peer.faults["BlobService/Read"] = BAD_BLOBS[name]
    assert far.fails("cat", text_of(digest), code=CORRUPT).raw == b""


@pytest.fixture
def mounted(peer, far, mount):
    """TREE as a store path of the peer, in a mount."""
    basename = "a" * 32 + "-tree"
    peer.add_path_info(basename, TREE)
    return mount(far, "--nix") / basename


@pytest.mark.parametrize("fault", BAD_BLOBS.values(), ids=BAD_BLOBS.keys())
def test_bad_blobs_in_a_mount(peer, mounted, fault):
    """No wrong byte is seen, and when the peer is itself again all can be read."""
    peer.faults["BlobService/Read"] = fault
    with expect_error(errno.EIO), open(mounted / "large", "rb") as file:
        os.pread(file.fileno(), 4096, 2_000_000)
    peer.faults.clear()
    assert (mounted / "large").read_bytes() == LARGE


# ---- Chunks ----

def test_chunks(peer, mounted):
    """Chunks are read on their own, and are the blob."""
    peer.add_chunked_blob(LARGE, 100_000)
    with open(mounted / "large", "rb") as file:
        assert os.pread(file.fileno(), 5000, 1_999_000) == LARGE[1_999_000:2_004_000]
        assert file.read() == LARGE


def other_chunks(chunks):
    return [*chunks[1:], chunks[0]]


BAD_CHUNKS = {
    "other order": other_chunks,
    "one missing": lambda chunks: chunks[:-1],
    "one too many": lambda chunks: [*chunks, chunks[0]],
    "wrong sizes": lambda chunks: [(digest, size + 1) for digest, size in chunks],
    "huge sizes": lambda chunks: [(digest, 1 << 63) for digest, _ in chunks],
    "no digests": lambda chunks: [(b"", size) for _, size in chunks],
    "of itself": lambda chunks: [(digest_of(LARGE), len(LARGE))],
    "of something else": lambda chunks: [(digest_of(b"leaf\n"), 5)],
}


@pytest.mark.parametrize("change", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_lies_about_chunks(peer, mounted, change):
    """Whoever lies about chunks is caught before a byte is used: an error, or the right bytes."""
    digest = peer.add_chunked_blob(LARGE, 100_000)
    peer.chunks[digest] = change(peer.chunks[digest])
    for at in (0, 150_000, len(LARGE) - 4096):
        try:
            with open(mounted / "large", "rb") as file:
                assert os.pread(file.fileno(), 4096, at) == LARGE[at : at + 4096]
        except OSError as error:
            assert error.errno == errno.EIO


# ---- Directories that are not what they should be ----

def other_directory(response):
    changed = type(response)()
    changed.CopyFrom(response)
    changed.symlinks.add(name=b"zz", target=b"not part of it")
    return changed


BAD_DIRECTORIES = {
    "other content": rpc_peer.each(other_directory),
    "nothing": rpc_peer.truncate(0),
    "not valid": rpc_peer.each(lambda response: type(response)(
        files=[{"name": b"../x", "digest": bytes(32)}])),
    "endless": rpc_peer.repeat_for_ever,
}


@pytest.mark.parametrize("fault", BAD_DIRECTORIES.values(), ids=BAD_DIRECTORIES.keys())
def test_bad_directories(peer, far, folder, fault):
    digest, _ = peer.add_tree(TREE)
    peer.faults["DirectoryService/Get"] = fault
    far.fails("export", text_of(digest), folder / "out", code=(ABSENT, CORRUPT))


@pytest.mark.parametrize("fault", [
    rpc_peer.replace(lambda all: all[::-1]), rpc_peer.truncate(2),
    rpc_peer.replace(lambda all: [d for d in all for _ in range(2)]),
    rpc_peer.replace(lambda all: [*all, other_directory(all[0])]),
], ids=["leaves first", "truncated", "duplicates", "one not connected"])
def test_closures_in_bad_order(peer, far, folder, fault):
    """The right tree, or an error that says so."""
    local = write_tree(folder / "tree", TREE)
    digest, _ = peer.add_tree(TREE)
    peer.faults["DirectoryService/Get"] = fault
    result = far.cairn("export", text_of(digest), folder / "out", check=False)
    assert result.code in (0, ABSENT, CORRUPT), result
    if result.code == 0:
        assert_same_tree(local, folder / "out")


# ---- Slow, silent, failing ----

@pytest.mark.parametrize("fault", [
    rpc_peer.hang, rpc_peer.hang_after(3), rpc_peer.drip(1, 0.1),
], ids=["silent", "silent after a while", "drips"])
def test_slow_blobs(peer, far, fault):
    digest = peer.add_blob(LARGE)
    peer.faults["BlobService/Read"] = fault
    result = far.fails("cat", text_of(digest), code=UNREACHABLE)
    assert LARGE.startswith(result.raw)
    assert "peer" in result.err, "the address is not named"


@pytest.mark.parametrize("method", ["BlobService/Stat", "BlobService/Put", "DirectoryService/Put"])
def test_silent_uploads(peer, far, folder, method):
    local = write_tree(folder / "tree", TREE)
    peer.faults[method] = rpc_peer.hang
    far.fails("import", "--no-name", local, code=UNREACHABLE)


@pytest.mark.parametrize("code,exit_code", [
    (Code.UNAVAILABLE, UNREACHABLE), (Code.DATA_LOSS, CORRUPT), (Code.PERMISSION_DENIED, DENIED),
    (Code.UNAUTHENTICATED, DENIED), (Code.INTERNAL, 1), (Code.NOT_FOUND, ABSENT),
])
def test_statuses(peer, far, code, exit_code):
    """Each is an error of its own, and none but NOT_FOUND is absence."""
    digest = peer.add_blob(LARGE)
    peer.faults["BlobService/Read"] = rpc_peer.fail(code)
    result = far.fails("cat", text_of(digest), code=exit_code)
    assert result.raw == b""
    peer.faults["BlobService/Read"] = rpc_peer.fail(code, after=3)
    result = far.fails("cat", text_of(digest), code=exit_code if code != Code.NOT_FOUND else
                       (ABSENT, CORRUPT))
    assert LARGE.startswith(result.raw)


def test_what_fails_for_a_moment(peer, far, folder):
    """Calls that can be made again are made again."""
    far.path = far.path.replace(f"timeout={PATIENCE}", f"timeout={int(20 * SLOW)}s")
    local = write_tree(folder / "tree", TREE)
    for method in ("BlobService/Stat", "BlobService/Put", "DirectoryService/Put"):
        peer.faults[method] = rpc_peer.fail_times(Code.UNAVAILABLE, 2)
    digest = far.add(local)
    for method in ("BlobService/Read", "DirectoryService/Get"):
        peer.faults[method] = rpc_peer.fail_times(Code.UNAVAILABLE, 2)
    far.cairn("export", digest, folder / "out")
    assert_same_tree(local, folder / "out")


def test_wrong_answers_to_uploads(peer, far, folder):
    """The peer's idea of a digest must be ours."""
    local = write_tree(folder / "tree", TREE)
    for method, field in (("BlobService/Put", "digest"), ("DirectoryService/Put", "root_digest")):
        peer.faults[method] = rpc_peer.each(lambda answer: type(answer)(**{field: bytes(32)}))
        far.fails("import", "--no-name", local, code=CORRUPT)
        peer.faults.clear()


def test_nobody_there(far, socket_path):
    result = far.fails("cat", text_of(digest_of(b"")[::-1]), code=UNREACHABLE)
    assert str(socket_path) in result.err


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(range(256)) * 99],
    ids=["silence", "HTTP/1", "noise"])
def test_no_grpc_at_all(far, socket_path, answer):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen(16)
        ends = []

        def accept():
            while True:
                try:
                    end = listener.accept()[0]
                except OSError:
                    return
                ends.append(end)
                with contextlib.suppress(OSError):
                    end.sendall(answer)

        thread = threading.Thread(target=accept)
        thread.start()
        far.fails("cat", text_of(digest_of(b"")[::-1]), code=UNREACHABLE)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for end in ends:
            end.close()


def test_a_peer_that_dies_and_returns(socket_path, far, mount):
    """A mount answers EIO while it is gone, and goes on when it is back."""
    basename = "a" * 32 + "-tree"
    with Peer(f"unix:{socket_path}") as peer:
        peer.add_path_info(basename, TREE)
        top = mount(far, "--nix") / basename
        assert (top / "file").read_bytes() == b"content\n"
    begin = time.monotonic()
    with expect_error(errno.EIO):
        (top / "large").read_bytes()
    assert time.monotonic() - begin < LIMIT
    # What the kernel has needs no peer.
    assert (top / "file").read_bytes() == b"content\n"
    socket_path.unlink(missing_ok=True)
    with Peer(f"unix:{socket_path}") as peer:
        peer.add_path_info(basename, TREE)
        wait_until(lambda: reads(top / "large") == LARGE, "the peer is back")


def reads(path):
    """The content, or None."""
    try:
        return path.read_bytes()
    except OSError:
        return None
