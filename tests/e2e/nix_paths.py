"""Store paths for tests, without Nix: NARs, and path infos put by a helper program."""
import hashlib

import nars
from harness import HELPERS, run

DIGITS = "0123456789abcdfghijklmnpqrsvwxyz"


def nixbase32(data):
    number = int.from_bytes(data, "little")
    count = (len(data) * 8 + 4) // 5
    return "".join(DIGITS[number >> 5 * i & 31] for i in reversed(range(count)))


class StorePath:
    """A tree, and what a path info says of it."""

    def __init__(self, tree, name, references=()):
        self.tree = tree
        self.nar = nars.of_tree(tree)
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
