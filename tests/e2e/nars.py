"""NARs made by hand: the format in its plainest form, and NARs that are none."""
import os
import stat


def string(value):
    value = os.fsencode(value)
    return len(value).to_bytes(8, "little") + value + bytes(-len(value) % 8)


def strings(*values):
    return b"".join(string(value) for value in values)


def file(content, executable=False):
    return strings("(", "type", "regular", *(["executable", ""] if executable else []),
                   "contents", content, ")")


def symlink(target):
    return strings("(", "type", "symlink", "target", target, ")")


def entry(name, node):
    return strings("entry", "(", "name", name, "node") + node + string(")")


def directory(*entries):
    """Of (name, node), in the order that is given."""
    return strings("(", "type", "directory") + b"".join(entry(*e) for e in entries) + string(")")


def nar(node):
    return string("nix-archive-1") + node


def of_path(path):
    """The node of a tree on the disk."""
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return symlink(os.readlink(path))
    if stat.S_ISDIR(mode):
        names = sorted(os.listdir(os.fsencode(path)))
        return directory(*((n, of_path(os.path.join(os.fsencode(path), n))) for n in names))
    with open(path, "rb") as f:
        return file(f.read(), bool(mode & 0o100))


def of_tree(path):
    """The NAR of a tree on the disk."""
    return nar(of_path(path))


X = file(b"x")
GOOD = nar(directory(("a", file(b"first one", True)), ("b", directory(("c", symlink("../a")))),
                     ("d", file(b"12345"))))


def padded_wrongly(text):
    return text.replace(string("12345"), string("12345")[:-1] + b"\1")


# What is no NAR, and what the message must speak of.
BROKEN = {
    "nothing": (b"", "ends too early"),
    "magic": (string("nix-archive-2") + X, "nix-archive-2"),
    "compressed": (b"\xfd7zXZ\0\0\4" + GOOD, "bytes where"),
    "padding of a word": (GOOD[:21] + b"\1" + GOOD[22:], "padding"),
    "padding of content": (padded_wrongly(GOOD), "padding"),
    "order": (nar(directory(("b", X), ("a", X))), '"a" does not come after "b"'),
    "twice the same name": (nar(directory(("a", X), ("a", X))), '"a" does not come after "a"'),
    "prefix after": (nar(directory(("ab", X), ("a", X))), '"a" does not come after "ab"'),
    "parent": (nar(directory(("..", X))), '".."'),
    "self": (nar(directory((".", X))), '"."'),
    "slash": (nar(directory(("a/b", X))), "a/b"),
    "absolute": (nar(directory(("/etc", X))), "/etc"),
    "empty name": (nar(directory(("", X))), "name"),
    "NUL in a name": (nar(directory((b"a\0b", X))), "name"),
    "long name": (nar(directory((b"n" * 256, X))), "name"),
    "empty target": (nar(symlink("")), "target"),
    "NUL in a target": (nar(symlink(b"a\0b")), "target"),
    "long target": (nar(symlink(b"t" * 4096)), "target"),
    "trailing byte": (GOOD + b"\0", "goes on behind its end"),
    "second NAR": (GOOD + GOOD, "goes on behind its end"),
    "kind": (nar(strings("(", "type", "device", ")")), "device"),
    "no kind": (nar(strings("(", "contents", "x", ")")), "contents"),
    "executable with a value": (
        nar(strings("(", "type", "regular", "executable", "1", "contents", "x", ")")), "1"),
    "no contents": (nar(strings("(", "type", "regular", ")")), '")"'),
    "not closed": (GOOD[:-16], "ends too early"),
    "content beyond the end": (
        nar(strings("(", "type", "regular", "contents"))
        + (1 << 40).to_bytes(8, "little") + b"x" * 64, "ends too early"),
    "content without measure": (
        nar(strings("(", "type", "regular", "contents")) + b"\xff" * 8 + b"x" * 64,
        "18446744073709551615"),
    "word without measure": (nar(b"\xff" * 8), "18446744073709551615"),
    "name without measure": (
        nar(strings("(", "type", "directory", "entry", "(", "name")) + b"\xf8" + b"\xff" * 7,
        "18446744073709551608"),
    "deep": (nar(b"".join(strings("(", "type", "directory", "entry", "(", "name", "d", "node")
                          for _ in range(5000))), "more than 2048 directories"),
}
BEYOND_LIMITS = {"content without measure", "deep"}
