"""
Many entries: the memory of a mount's daemon, and a directory of hundreds of thousands of names.
CAIRN_TEST_ENTRIES=1000000 takes them all to a million.
"""
import contextlib
import os
import pathlib
import re
import sys

import pytest

from harness import CAIRN, HELPERS, run, wait_until
from virtiofs_daemon import SANITIZED

pytestmark = pytest.mark.fuse
ENTRIES = int(os.environ.get("CAIRN_TEST_ENTRIES", "200000"))
# A million entries: 250 MB while the kernel knows all of them, 60 MB when it has forgotten.
PROGRAM = 10 << 20
HELD_PER_ENTRY = 240
KEPT_PER_ENTRY = 50
# With its libraries, and what it holds of an index; a million entries: 48 MB.
PROGRAM_AND_INDEX = 40 << 20
COUNTED_PER_ENTRY = 50
# Prints the most memory that a command had, in KiB, after its output. (Of a process that was
# started from here, what is here would count as well.)
MEASURE = [sys.executable, "-c", """import resource, subprocess, sys
subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""]


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s*(\d+) kB", status)[1]) << 10


def walk(top):
    """Entries below a folder, each of them looked at."""
    count = 0
    for entry in os.scandir(top):
        entry.stat(follow_symlinks=False)
        count += 1
        if entry.is_dir(follow_symlinks=False):
            count += walk(entry.path)
    return count


@pytest.mark.root
@pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")
def test_memory_of_a_walk(store, mount):
    run([HELPERS / "wide_store", store.path, "wide", str(ENTRIES // 1000)])
    m = mount(store)
    for _ in range(2):
        assert walk(m / "wide") == ENTRIES + ENTRIES // 1000
        assert resident(m.process.pid) < PROGRAM + HELD_PER_ENTRY * ENTRIES
        with contextlib.suppress(PermissionError):
            # What the kernel drops it tells the daemon, in batches.
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("2", encoding="ascii")
        wait_until(lambda: resident(m.process.pid) < PROGRAM + KEPT_PER_ENTRY * ENTRIES,
                   "memory to be given back")


@pytest.mark.skipif(SANITIZED, reason="sanitizers have memory of their own")
@pytest.mark.parametrize("command", ["du", "stats"])
def test_memory_of_counting(store, command):
    """Different files in many directories, each of which is counted."""
    run([HELPERS / "wide_store", store.path, "wide", str(ENTRIES // 100), "100"])
    result = run([*MEASURE, CAIRN, "--store", store.path, command, "--json"])
    counted, used = result.json()
    assert counted["objects"] == ENTRIES + ENTRIES // 100 + 1
    assert used << 10 < PROGRAM_AND_INDEX + COUNTED_PER_ENTRY * ENTRIES


def test_huge_directory(store, mount):
    """One directory with all entries: each is there, once, in order, and found by its name."""
    run([HELPERS / "wide_store", store.path, "huge", "1", str(ENTRIES)])
    folder = mount(store) / "huge/folder000000"
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    assert names == sorted(f"file{i:06}" for i in range(ENTRIES))
    for i in (0, ENTRIES // 2, ENTRIES - 1):
        assert (folder / f"file{i:06}").stat().st_size == 4
    assert not (folder / f"file{ENTRIES:06}").exists()
