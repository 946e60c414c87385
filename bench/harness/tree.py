"""The measured trees: how they are made from Debian packages, and what is in them.

A data set is a directory with `tree/` (the tree that is imported) and `manifest.json` (what it
holds). It is complete when the manifest exists, which is written last.
"""

import concurrent.futures
import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time

from harness.paths import bench_dir, remove_tree

# Raise it when the recipe changes: data sets of another version are made again.
RECIPE = 1

SOURCE_PACKAGES = ("linux-source-6.1",)
# Of each of these the newest two that the archive has: nearly the same files twice.
VERSIONED_PATTERN = r"^linux-headers-6\.1\.0-[0-9]+-common$"
VERSIONED_COUNT = 2

# What the machine at hand has installed. Left out is what does not come from Debian.
SYSTEM_FOLDERS = ("/usr/share", "/usr/lib", "/usr/include")
SYSTEM_EXCLUDED = ("/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk",
                   "/usr/lib/jvm/temurin*", "/usr/lib/jvm/.temurin*", "/usr/lib/debug")

LARGE_FILE = "large/linux-source.tar"
LARGE_BYTES = 1 << 30
FULL_FILES_MIN = 100_000
FULL_BYTES_MIN = 3 << 30

# Of the folder that is archived as an example of many small files; enough bytes that the start of
# a program does not matter.
WIDE_FILES_MIN = 20_000
WIDE_BYTES_MIN = 256 << 20

QUICK_FILES = 20_000
QUICK_LARGE_BYTES = 256 << 20
# Whole directories are taken, but none so large that a few of them would be the tree.
QUICK_UNIT_FILES_MAX = 4_000
QUICK_UNIT_BYTES_MAX = 150 << 20

NEEDED_FREE = 25 << 30


class SetupError(Exception):
    pass


def say(text):
    print(f"setup: {text}", file=sys.stderr, flush=True)


def run(command, timeout=900, **options):
    done = subprocess.run([str(word) for word in command], timeout=timeout, text=True,
                          stdout=subprocess.PIPE, **options)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout


# Debian packages


def newest_packages(pattern, count):
    """The names of the newest packages with such a name, the newest last."""
    found = run(["apt-cache", "search", "--names-only", pattern]).split("\n")
    names = [line.split(" ")[0] for line in found if line]
    names.sort(key=lambda name: [int(part) for part in name.replace("-", ".").split(".")
                                 if part.isdigit()])
    if len(names) < count:
        raise SetupError(f"the archive has {len(names)} packages like {pattern}")
    return names[-count:]


def download_package(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    held = sorted(folder.glob(f"{name}_*.deb"))
    if held:
        return held[-1]
    say(f"downloading {name}")
    command = ["apt-get", "download", "-q", name]
    try:
        run(command, cwd=folder)
    except SetupError:
        if os.geteuid() != 0:
            raise
        # The lists may name a version that the archive no longer has.
        run(["apt-get", "update", "-q"])
        run(command, cwd=folder)
    held = sorted(folder.glob(f"{name}_*.deb"))
    if not held:
        raise SetupError(f"apt-get download {name} left no package in {folder}")
    return held[-1]


def unpack_package(deb, folder):
    folder.mkdir(parents=True)
    run(["dpkg-deb", "-x", deb, folder])


def unpack_source(deb, tree, scratch):
    """The packed tar of a linux-source package, as files and (its beginning) as one large file."""
    unpack_package(deb, scratch)
    packed = next(scratch.glob("usr/src/linux-source-*.tar.xz"), None)
    if packed is None:
        raise SetupError(f"{deb.name} holds no usr/src/linux-source-*.tar.xz")
    say(f"unpacking {packed.name}")
    tar = scratch / "source.tar"
    with open(tar, "wb") as out:
        subprocess.run(["xz", "-T0", "-dc", str(packed)], stdout=out, check=True, timeout=900)
    run(["tar", "-xf", tar, "-C", tree, "--no-same-owner"])
    large = tree / LARGE_FILE
    large.parent.mkdir(exist_ok=True)
    os.replace(tar, large)
    if large.stat().st_size > LARGE_BYTES:
        os.truncate(large, LARGE_BYTES)
    shutil.rmtree(scratch)


# The installed system


def is_excluded(path):
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in SYSTEM_EXCLUDED)


def copy_folder(source, target, device):
    """Copies what anybody may read; hard links become files of their own."""
    os.makedirs(target)
    for entry in os.scandir(source):
        info = entry.stat(follow_symlinks=False)
        if is_excluded(entry.path) or info.st_dev != device:
            continue
        goal = os.path.join(target, entry.name)
        if stat.S_ISLNK(info.st_mode):
            os.symlink(os.readlink(entry.path), goal)
        elif stat.S_ISDIR(info.st_mode):
            if info.st_mode & 0o005 == 0o005:
                copy_folder(entry.path, goal, device)
        elif stat.S_ISREG(info.st_mode) and info.st_mode & 0o004:
            shutil.copyfile(entry.path, goal)
            os.chmod(goal, info.st_mode & 0o777)


def copy_system(tree):
    for folder in SYSTEM_FOLDERS:
        if os.path.isdir(folder):
            say(f"copying {folder}")
            copy_folder(folder, str(tree / folder.lstrip("/")), os.stat(folder).st_dev)


# Normal form and manifest


def normalise(tree):
    """Modes as cairn shows them (directories keep write permission, or no copy could be made and
    removed without privileges), times in the past, only files, directories and symlinks."""
    for top, dirs, files in os.walk(tree):
        os.chmod(top, 0o755)
        for name in dirs:
            path = os.path.join(top, name)
            if not os.path.islink(path):
                os.chmod(path, 0o755)
        for name in files:
            normalise_file(os.path.join(top, name))


def normalise_file(path):
    info = os.lstat(path)
    if stat.S_ISREG(info.st_mode):
        os.chmod(path, 0o555 if info.st_mode & stat.S_IXUSR else 0o444)
        if info.st_mtime > time.time() - 60:
            os.utime(path, (1, 1))
    elif not stat.S_ISLNK(info.st_mode):
        os.unlink(path)


def hash_file(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest(), os.fstat(file.fileno()).st_size


def measure(tree):
    """What is in a tree; unique_bytes is what a perfect store of whole files would hold."""
    paths = []
    counts = {"directories": 0, "symlinks": 0, "name_bytes": 0}
    for top, dirs, files in os.walk(tree):
        for name in dirs + files:
            path = os.path.join(top, name)
            counts["name_bytes"] += len(os.fsencode(name))
            if os.path.islink(path):
                counts["symlinks"] += 1
            elif name in dirs and os.path.isdir(path):
                counts["directories"] += 1
            else:
                paths.append(path)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = list(pool.map(hash_file, paths, chunksize=64))
    unique = dict(hashed)
    return {"files": len(paths), **counts, "bytes": sum(size for _, size in hashed),
            "unique_files": len(unique), "unique_bytes": sum(unique.values()),
            "small_files": sum(1 for _, size in hashed if size <= 4096)}


def largest_file(tree):
    """(path inside the tree, size)"""
    sizes = ((os.lstat(path).st_size, os.path.relpath(path, tree))
             for top, _, names in os.walk(tree)
             for path in (os.path.join(top, name) for name in names)
             if stat.S_ISREG(os.lstat(path).st_mode))
    size, path = max(sizes, default=(0, ""))
    return path, size


def wide_folder(tree):
    """The folder of the smallest files, of those with many: (path inside the tree, files)."""
    counts = {}

    def visit(folder):
        files = total = 0
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                below_files, below_total = visit(entry.path)
                files, total = files + below_files, total + below_total
            elif entry.is_file(follow_symlinks=False):
                files, total = files + 1, total + entry.stat(follow_symlinks=False).st_size
        counts[folder] = files, total
        return files, total

    all_files, all_bytes = visit(os.fspath(tree))
    files_min, bytes_min = min(WIDE_FILES_MIN, all_files // 4), min(WIDE_BYTES_MIN, all_bytes // 8)
    _, path = min((total / max(files, 1), folder) for folder, (files, total) in counts.items()
                  if files >= files_min and total >= bytes_min)
    return os.path.relpath(path, tree), counts[path][0]


def write_manifest(folder, packages):
    say(f"hashing {folder.name}")
    manifest = {"recipe": RECIPE, "packages": packages, "large_file": LARGE_FILE,
                "large_bytes": (folder / "tree" / LARGE_FILE).stat().st_size,
                **measure(folder / "tree")}
    temporary = folder / "manifest.json.new"
    temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    os.replace(temporary, folder / "manifest.json")
    return manifest


def read_manifest(folder):
    """The manifest of a complete data set of today's recipe, or None."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return manifest if manifest.get("recipe") == RECIPE else None


# The two data sets


def make_full(folder):
    debs = bench_dir() / "packages"
    tree = folder / "tree"
    tree.mkdir(parents=True)
    packages = []
    for name in SOURCE_PACKAGES:
        deb = download_package(name, debs)
        packages.append(deb.name)
        unpack_source(deb, tree, folder / "scratch")
    for name in newest_packages(VERSIONED_PATTERN, VERSIONED_COUNT):
        deb = download_package(name, debs)
        packages.append(deb.name)
        unpack_package(deb, tree / "versions" / name)
    copy_system(tree)
    normalise(tree)
    manifest = write_manifest(folder, packages)
    if manifest["files"] < FULL_FILES_MIN or manifest["bytes"] < FULL_BYTES_MIN:
        say("warning: this machine has little installed, the tree is smaller than it should be")


def quick_units(tree):
    """Whole directories that are small enough, in an order that mixes the parts of the tree but
    keeps two versions of one directory together: (order, path, files)."""
    units = []

    def visit(folder):
        files = total = 0
        children = []
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                children.append(entry.path)
            else:
                files += 1
                total += entry.stat(follow_symlinks=False).st_size
        found = [visit(child) for child in children]
        files += sum(child[0] for child in found)
        total += sum(child[1] for child in found)
        if files > QUICK_UNIT_FILES_MAX or total > QUICK_UNIT_BYTES_MAX:
            units.extend((unit_order(child), child, child_files)
                         for child, (child_files, _, whole) in zip(children, found) if whole)
            return files, total, False
        return files, total, True

    def unit_order(path):
        name = re.sub(r"[0-9]+", "", os.path.relpath(path, tree))
        return hashlib.sha256(os.fsencode(name)).digest(), path

    visit(tree)
    return sorted(units)


def make_quick(folder, full):
    tree = folder / "tree"
    tree.mkdir(parents=True)
    say("choosing and copying the quick subset")
    large = tree / LARGE_FILE
    large.parent.mkdir()
    with open(full / "tree" / LARGE_FILE, "rb") as source, open(large, "wb") as out:
        while out.tell() < QUICK_LARGE_BYTES and (block := source.read(1 << 20)):
            out.write(block)
    files = 1
    for _, path, count in quick_units(full / "tree"):
        if files >= QUICK_FILES:
            break
        goal = tree / os.path.relpath(path, full / "tree")
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(path, goal, symlinks=True)
        files += count
    normalise(tree)
    write_manifest(folder, read_manifest(full)["packages"])


def prepare(quick, again=False):
    """The folder of a complete data set, made first if it has to be."""
    base = bench_dir()
    base.mkdir(parents=True, exist_ok=True)
    full, small = base / "full", base / "quick"
    for folder, wanted, make in ((full, True, lambda: make_full(full)),
                                 (small, quick, lambda: make_quick(small, full))):
        if wanted and (again or read_manifest(folder) is None):
            free = shutil.disk_usage(base).free
            if folder is full and free < NEEDED_FREE:
                raise SetupError(f"{base}: {free >> 30} GiB free, {NEEDED_FREE >> 30} are needed;"
                                 " set CAIRN_BENCH_DIR")
            remove_tree(folder)
            make()
    return small if quick else full
