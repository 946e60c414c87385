"""NARs, the archives of Nix, made by the harness: no contender is asked what is right."""

import hashlib
import os
import stat
import struct

PIECE = 1 << 20


def text(data):
    """A string as it is in a NAR: its length, its bytes, zeros up to a multiple of 8."""
    return struct.pack("<Q", len(data)) + data + bytes(-len(data) % 8)


def pieces_of_file(path, info):
    yield text(b"(") + text(b"type") + text(b"regular")
    if info.st_mode & stat.S_IXUSR:
        yield text(b"executable") + text(b"")
    yield text(b"contents") + struct.pack("<Q", info.st_size)
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            yield piece
    yield bytes(-info.st_size % 8) + text(b")")


def pieces_of_node(path):
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        yield text(b"(") + text(b"type") + text(b"symlink")
        yield text(b"target") + text(os.readlink(path)) + text(b")")
    elif stat.S_ISREG(info.st_mode):
        yield from pieces_of_file(path, info)
    else:
        yield text(b"(") + text(b"type") + text(b"directory")
        for name in sorted(os.listdir(path)):
            yield text(b"entry") + text(b"(") + text(b"name") + text(name) + text(b"node")
            yield from pieces_of_node(os.path.join(path, name))
            yield text(b")")
        yield text(b")")


def pieces(path):
    yield text(b"nix-archive-1")
    yield from pieces_of_node(os.fsencode(path))


def write(path, goal):
    """Writes the NAR of a path to a file; returns its SHA-256 in hex."""
    digest = hashlib.sha256()
    with open(goal, "wb") as out:
        for piece in pieces(path):
            out.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def digest_of(path):
    """SHA-256 of the NAR of a path."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest()
