"""tools/stress: a short run finds nothing, and a wrong byte is found."""
import json
import shutil

import pytest

from harness import AS_ROOT, CAIRN, PROJECT, TIMEOUT, run, write

pytestmark = [
    pytest.mark.fuse,
    pytest.mark.skipif(not shutil.which("fio"), reason="fio is not installed"),
]
READERS = ("fio_pread", "fio_mmap", "find", "tar")
MODES = ("auto", "cached", "passthrough") if AS_ROOT else ("cached",)


def stress(folder, seconds, program=CAIRN):
    """(exit code, what it says) of a run."""
    result = run([PROJECT / "tools/stress", "--json", f"--cairn={program}", f"--dir={folder}",
                  str(seconds / 60)], check=False, timeout=seconds + 3 * TIMEOUT)
    assert result.out, result
    return result.code, json.loads(result.out)


def test_no_fault(folder):
    code, said = stress(folder, 12)
    assert (code, said["faults"]) == (0, [])
    names = {f"{reader} {mode}" for reader in READERS for mode in MODES}
    assert set(said["counts"]) >= names | {"import", "remount"}
    assert said["bytes"] > 100 << 20
    assert list(folder.iterdir()) == []


def test_fault_is_found(folder):
    """A cairn whose exports of what is imported meanwhile get a byte too many."""
    program = write(folder / "cairn", f"""#!/bin/sh
        "{CAIRN}" "$@" || exit
        for last; do :; done
        case "$* " in *" export tree-"*) printf x >>"$last/large" ;; esac
        """, 0o755)
    code, said = stress(folder, 60, program)
    assert code == 1
    assert [fault for fault in said["faults"] if fault.startswith("import: ")]
