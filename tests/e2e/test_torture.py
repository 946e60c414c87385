"""tools/torture: a few kills lose nothing, and what is lost is found."""
import json

import pytest

from harness import CAIRN, HELPERS, PROJECT, TIMEOUT, run, write

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
