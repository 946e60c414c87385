"""Trees that change, with what a store must have of each of their states."""
import hashlib
import os

import harness
import nars

# Packed, at the border, and a file of its own.
SIZES = (0, 1, 300, 4000, 20_000, 262_143, 262_144)
LARGE = (400_000, 3_000_000)


def fingerprint(path):
    """Of all that a store keeps of a tree."""
    digest = hashlib.sha256()
    for name, value in sorted(harness.tree_entries(path).items()):
        digest.update(repr((name, value)).encode())
    return digest.hexdigest()


class Tree:
    """A folder whose name is that of the tree in the stores."""

    def __init__(self, folder, name, rng):
        self.path = folder / name
        self.name = name
        self.path.mkdir()
        for number in range(rng.randrange(1, 80)):
            self.write(rng, f"d{number % 5}/f{number}")
        (self.path / "link").symlink_to(f"d{rng.randrange(9)}")

    def write(self, rng, name):
        size = rng.choice(SIZES) if rng.random() < 0.2 else int(rng.lognormvariate(7, 1.5))
        if rng.random() < 0.02:
            size = rng.randrange(*LARGE)
        # Some content comes again, in other trees too.
        source = type(rng)(rng.randrange(50)) if rng.random() < 0.3 else rng
        half = source.randbytes(size // 2)
        harness.write(self.path / name, half + half, 0o755 if rng.random() < 0.1 else None)

    def change(self, rng):
        """Some files are others, come or go."""
        for number in range(rng.randrange(1, 20)):
            path = f"d{rng.randrange(6)}/f{rng.randrange(100)}"
            if rng.random() < 0.2:
                (self.path / path).unlink(missing_ok=True)
            else:
                self.write(rng, path)


class Forest:
    """What every digest and every store path stands for."""

    def __init__(self, cairn):
        self.cairn = cairn
        self.content = {}

    def digest(self, path):
        """The digest that a store must give this tree, as it is now."""
        value, = self.cairn("--store", "memory://", "import", "--json", "--no-name", path).json()
        if value["digest"] not in self.content:
            self.content[value["digest"]] = fingerprint(path)
        return value["digest"]

    def store_path(self, path):
        """The store path of this tree."""
        value, = self.cairn("--store", "memory://", "nix", "import", "--json", path).json()
        return value["path"]


def write_nar(tree, path):
    """The hash of the NAR that is written."""
    data = nars.of_tree(tree.path)
    path.write_bytes(data)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def remove(path):
    if os.path.lexists(path):
        harness.remove_tree(path)
