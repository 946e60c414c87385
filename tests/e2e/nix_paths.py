"""Store paths for tests, without Nix: NARs, and path infos put by a helper program."""
import hashlib
import os
import stat

from harness import HELPERS, run

DIGITS = "0123456789abcdfghijklmnpqrsvwxyz"


def nixbase32(data):
    number = int.from_bytes(data, "little")
    count = (len(data) * 8 + 4) // 5
    return "".join(DIGITS[number >> 5 * i & 31] for i in reversed(range(count)))


def text(value):
    """A string in a NAR."""
    return len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8)


def nar_node(path):
    path = os.fsencode(path)
    mode = os.lstat(path).st_mode
    parts = [text(b"("), text(b"type")]
    if stat.S_ISLNK(mode):
        parts += [text(b"symlink"), text(b"target"), text(os.readlink(path))]
    elif stat.S_ISDIR(mode):
        parts.append(text(b"directory"))
        for name in sorted(os.listdir(path)):
            parts += [text(b"entry"), text(b"("), text(b"name"), text(name), text(b"node"),
                      nar_node(os.path.join(path, name)), text(b")")]
    else:
        parts.append(text(b"regular"))
        if mode & 0o100:
            parts += [text(b"executable"), text(b"")]
        with open(path, "rb") as f:
            parts += [text(b"contents"), text(f.read())]
    return b"".join([*parts, text(b")")])


def nar(path):
    return text(b"nix-archive-1") + nar_node(path)


class StorePath:
    """A tree, and what a path info says of it."""

    def __init__(self, tree, name, references=()):
        self.tree = tree
        self.nar = nar(tree)
        self.sha256 = hashlib.sha256(self.nar).digest()
        self.base = f"{nixbase32(hashlib.sha1(self.sha256 + name.encode()).digest())}-{name}"
        self.path = f"/nix/store/{self.base}"
        self.references = list(references)

    def put(self, store, size=None, sha256=None):
        """Into the store, the info possibly with a wrong size or hash."""
        store.add(self.tree, self.base)
        run([HELPERS / "put_path_info", store.path, self.base, self.base,
             str(size or len(self.nar)), (sha256 or self.sha256).hex(),
             *(r.base for r in self.references)])
        # The path must be found by its info alone.
        store.cairn("roots", "remove", self.base)
        return self
