"""
Mounts on a kernel that lacks what this machine's may have: Debian's 6.1, in a guest. It has no
FUSE passthrough, and does not send the requests of a dead server again (both are of 6.9).
"""
import hashlib
import os
import re
import subprocess

import pytest

from harness import CAIRN, pattern, write
from virtiofs_daemon import SANITIZED

SIZES = [0, 1, 4096, 100_000, 300_000, 3_000_001]
STORE = "/tmp/store"


def libraries(program):
    """{path: path} of a program's libraries, its loader among them."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=30)
    paths = re.findall(r"(/\S+) \(0x", done.stdout)
    assert paths
    return {path: path for path in paths}


@pytest.fixture(name="tree")
def make_tree(folder):
    for number, size in enumerate(SIZES):
        write(folder / f"tree/{number}", pattern(size, number + 1))
    write(folder / "tree/sub/deeper/run", "#!/bin/sh\necho it runs\n", 0o755)
    os.symlink("sub/deeper/run", folder / "tree/link")
    return folder / "tree"


@pytest.fixture(name="guest")
def start(boot, tree):
    if SANITIZED:
        pytest.skip("a sanitizer takes the guest's memory")
    files = {"/bin/cairn": CAIRN, **libraries(CAIRN)}
    sums = ""
    for path in sorted(tree.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(tree)
            files[f"/tree/{name}"] = path
            sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  /mnt/tree/{name}\n"
    files["/sums"] = sums.encode()
    guest = boot(files=files)
    guest.run(f"ln -s sub/deeper/run /tree/link; cairn --store {STORE} import --name tree /tree")
    return guest


def cairn(guest, words, **kw):
    return guest.run(f"cairn --store {STORE} {words}", **kw)


def check(guest):
    assert guest.read("sha256sum -c /sums | grep -v ': OK$' || echo whole") == "whole"
    assert guest.read("/mnt/tree/link") == "it runs"
    assert guest.read("find /mnt | wc -l") == str(2 + len(SIZES) + 4)
    done = guest.run("echo > /mnt/tree/0", check=False)
    assert done.code != 0
    assert "Read-only file system" in done.text


def test_mounts_do_without(guest):
    assert guest.read("uname -r").startswith("6.1.")
    said = cairn(guest, "mount --verbose --list-root /mnt").text
    assert "no PASSTHROUGH, which comes with Linux 6.9" in said
    assert "no HAS_RESEND, which comes with Linux 6.9" in said
    assert "NO_OPEN_SUPPORT: files are opened without a request" in said
    check(guest)
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    check(guest)
    guest.run("cairn umount /mnt")
    assert guest.read("ls /mnt") == ""


def test_what_needs_a_newer_kernel_is_refused(guest):
    done = cairn(guest, "mount --io=passthrough /mnt", check=False)
    assert done.code != 0
    assert "the kernel has no FUSE passthrough (Linux 6.9 and newer do)" in done.text
    assert "/mnt fuse" not in guest.read("cat /proc/mounts")
    # And nothing is left that would be in the way.
    cairn(guest, "mount --io=auto --list-root /mnt")
    check(guest)
