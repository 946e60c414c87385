"""tools/torture: a few kills lose nothing, and what is lost is found."""
import json

import pytest

from harness import CAIRN, HELPERS, PROJECT, TIMEOUT, Store, pattern, run, wait_until, write

KILLS = 12
KILLS_FOR_A_FAULT = 5


def torture(folder, kills, program=CAIRN):
    """(exit code, what it says) of a run."""
    result = run([PROJECT / "tools/torture", "--json", f"--cairn={program}", f"--dir={folder}",
                  str(kills)], check=False, timeout=4 * TIMEOUT,
                 env={"CAIRN_HELPERS": str(HELPERS)})
    assert result.out, result
    return result.code, json.loads(result.out)


def test_no_fault(folder):
    code, said = torture(folder, KILLS)
    assert (code, said["faults"]) == (0, [])
    assert said["kills"] >= KILLS
    assert said["counts"]["trees compared"] > 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("loss, fault", [
    # A name that was said to be there, and an export with a byte too many.
    ('*a0:import) "{cairn}" "$@" && "{cairn}" --store "$2" roots remove "$(basename "$last")" ;;',
     " is None, not "),
    ('*:export) "{cairn}" "$@" && if [ -d "$last" ]; then echo x >"$last/added"; fi ;;',
     "has other content"),
], ids=["name", "content"])
def test_fault_is_found(folder, loss, fault):
    program = write(folder / "cairn", f"""#!/bin/sh
        for last; do :; done
        case $2:$3 in
        {loss.format(cairn=CAIRN)}
        *) exec "{CAIRN}" "$@" ;;
        esac
        """, 0o755)
    code, said = torture(folder, KILLS_FOR_A_FAULT, program)
    assert code == 1
    assert any(fault in found for found in said["faults"]), said["faults"]


def test_daemon_dies_under_an_upload(folder, store, source, serve):
    """Who pushes says so."""
    write(source / "tree/file", pattern(3_000_000))
    store.add(source / "tree", "tree")
    there = Store(folder / "there")
    there.add(write(folder / "other", "other"), "other")
    calls = folder / "calls"
    for at in (2, 3):
        calls.write_bytes(bytes(8))
        daemon = serve(there, env={"LD_PRELOAD": str(HELPERS / "libkill_shim.so"),
                                   "CAIRN_KILL_COUNTER": str(calls), "CAIRN_KILL_AT": str(at)},
                       wait=False)
        wait_until(lambda: not daemon.is_alive() or "listening" in daemon.log(), "a daemon")
        result = store.cairn("push", "--to", daemon.address, "tree", check=False)
        assert result.code == 5, result
        assert daemon.wait_exit() == -9
        serve.made.remove(daemon)
    there.cairn("fsck", "--read-data")
