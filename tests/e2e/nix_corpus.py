"""
A few hundred trees and files to compare archives of: what Debian packages brought to this
machine, and trees made to be hard. The choice is the same every time on one machine.
"""
import os
import pathlib
import re
import subprocess

from harness import SLOW, pattern, write

# Each package is a tree of its own, of at most so many files and bytes.
PACKAGE_COUNT = 120 if SLOW <= 1 else 24
PACKAGE_FILES = 250
PACKAGE_BYTES = 6 << 20
# Single files and directories as they are.
PLACES = ("/usr/include", "/usr/share", "/usr/lib", "/usr/bin")
PLACE_COUNT = 100 if SLOW <= 1 else 20
PLACE_BYTES = 8 << 20


def packages():
    out = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\\n"], capture_output=True,
                         text=True, check=True).stdout
    return sorted(set(out.split()))


def package_files(name):
    out = subprocess.run(["dpkg-query", "-L", name], capture_output=True, text=True,
                         check=False).stdout
    return [p for p in out.splitlines() if p.startswith("/usr/")]


def copy_one(source, dest):
    if os.path.islink(source):
        os.symlink(os.readlink(source), dest)
    elif os.path.isfile(source):
        with open(source, "rb") as f:
            write(dest, f.read(), os.stat(source).st_mode & 0o777)


def make_package(folder, name):
    """The files of a package as one tree; None when there is little, or too much."""
    paths = [p for p in package_files(name) if os.path.lexists(p)
             and (os.path.islink(p) or os.path.isfile(p))]
    paths = [p for p in paths if not re.search(r"\.pyc$", p)]
    size = sum(os.lstat(p).st_size for p in paths)
    if not 2 <= len(paths) <= PACKAGE_FILES or size > PACKAGE_BYTES:
        return None
    top = folder / re.sub(r"[^0-9a-zA-Z+._?=-]", "-", name)
    for path in paths:
        dest = top / path[1:]
        # A directory of the package may be a symlink on this machine.
        if os.path.lexists(dest):
            continue
        dest.parent.mkdir(parents=True, exist_ok=True)
        copy_one(path, dest)
    return top


def tree_bytes(path, limit):
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_size
            if total > limit:
                return None
    return total


def places():
    """Real paths, as they lie there: entries at equal distances, so that all kinds come."""
    found = []
    for place in PLACES:
        entries = []
        for name in sorted(os.listdir(place)):
            path = os.path.join(place, name)
            if not re.fullmatch(r"[0-9a-zA-Z+_?=][0-9a-zA-Z+._?=-]{0,200}", name):
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                if tree_bytes(path, PLACE_BYTES) is None:
                    continue
            elif os.path.lexists(path) and os.lstat(path).st_size > PLACE_BYTES:
                continue
            entries.append(path)
        step = max(1, len(entries) * len(PLACES) // PLACE_COUNT)
        found += entries[::step][:PLACE_COUNT // len(PLACES)]
    return [pathlib.Path(p) for p in found]


def make_odd(folder):
    """Trees made to be hard."""
    write(folder / "empty-file")
    write(folder / "one-byte", "x")
    write(folder / "executable", "#!/bin/sh\n", 0o755)
    write(folder / "group-executable", "not for its owner\n", 0o654)
    (folder / "empty-directory").mkdir()
    (folder / "symlink").symlink_to("../some/where")
    for size in range(0, 18):
        write(folder / "padding" / f"{size:02}", b"p" * size, 0o755 if size % 2 else 0o644)
    names = folder / "names"
    for name in (b"\xff\xfe", b"line\nbreak", b" ", b"-rf", b"n" * 255, b"case", b"Case", b"CASE",
                 b".hidden", b"..dots", b"...", b"a.b", b"a-b", b"a b", b"ab", b"a", b"\x01", b"\\",
                 "é".encode(), "e\u0301".encode(), b"quote'\"", b"~", b"\x7f"):
        write(names / os.fsdecode(name), name)
        (names / "folders" / os.fsdecode(name)).mkdir(parents=True)
    links = folder / "links"
    links.mkdir()
    for name, target in (("dangling", "nowhere"), ("itself", "itself"), ("root", "/"),
                         ("dots", "../../.."), ("odd", b"\xff\n "), ("long", b"t" * 4000),
                         ("slashes", "//a///b/")):
        os.symlink(target, links / name)
    deep = folder / "deep"
    for i in range(200):
        deep = deep / f"d{i % 7}"
    write(deep / "bottom", "deep down\n")
    for i in range(5000):
        write(folder / "wide" / f"entry-{i * 7919 % 100003}", str(i % 13))
    write(folder / "twins/a/one", "same\n", 0o755)
    write(folder / "twins/b/one", "same\n", 0o644)
    write(folder / "twins/c/one", "same\n", 0o755)
    write(folder / "random", pattern((32 << 20) + 13, 5))
    with open(folder / "sparse", "wb") as f:
        f.truncate(64 << 20)
        f.seek(40 << 20)
        f.write(b"in the middle")
    for i, size in enumerate((4095, 4096, 4097, 65535, 65536, 65537, (1 << 20) - 1, 1 << 20,
                              (1 << 20) + 1, (4 << 20) + 1)):
        write(folder / "sizes" / f"{size}", pattern(size, i + 1))
    return sorted(folder.iterdir())


def make(folder):
    """All of the corpus, as paths whose last components are different and valid in a store."""
    made = folder / "made"
    made.mkdir()
    found = make_odd(made)
    count = 0
    (folder / "packages").mkdir()
    for name in packages():
        tree = make_package(folder / "packages", name)
        if tree is not None:
            found.append(tree)
            count += 1
        if count == PACKAGE_COUNT:
            break
    taken = {p.name for p in found}
    for path in places():
        if path.name not in taken:
            taken.add(path.name)
            found.append(path)
    return found

