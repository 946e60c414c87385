"""bench/run: the harness itself, on a tiny tree; figures of it mean nothing."""
import json
import random
import xml.etree.ElementTree

import pytest

from harness import AS_ROOT, CAIRN, PROJECT, TIMEOUT, run, write

pytestmark = pytest.mark.fuse
RUN = PROJECT / "bench/run"
SCENARIOS = "import,small,large"
CACHES = ("cold", "warm") if AS_ROOT else ("warm",)


def make_tree(top):
    rng = random.Random(1)
    for number in range(60):
        write(top / f"folder{number % 7}/file{number}", rng.randbytes(rng.randrange(20000)), 0o444)
    write(top / "large", rng.randbytes(3 << 20), 0o444)
    return top


def bench(folder, *args, check=True):
    return run([RUN, f"--cairn={CAIRN}", "--contenders=native,cairn", "--rounds=1", "--pin=no",
                "--no-keep-memory", *args], check=check,
               timeout=4 * TIMEOUT, env={"CAIRN_BENCH_DIR": str(folder / "bench")})


def test_run(folder):
    tree, result, picture = make_tree(folder / "tree"), folder / "result", folder / "picture"
    bench(folder, f"--tree={tree}", f"--only={SCENARIOS}", f"--json={result}")
    first = json.loads(result.read_text())
    assert first["failed"] == {}
    assert first["runs"][0]["checked"]
    wanted = {f"{name}.{cache}" for name in ("small", "seq", "rand", "mmap")
              for cache in CACHES} | {"import.warm", "import.again", "size.store"}
    assert wanted <= set(first["samples"])
    for key in ("small.warm", "mmap.warm"):
        assert set(first["samples"][key]) >= {"native", "cairn"}
    # One scenario anew: the others stay.
    bench(folder, f"--tree={tree}", "--only=small", f"--json={result}", "--resume", "--no-check")
    second = json.loads(result.read_text())
    assert second["samples"]["seq.warm"] == first["samples"]["seq.warm"]
    assert second["samples"]["small.warm"] != first["samples"]["small.warm"]
    assert [one["scenarios"] for one in second["runs"]] == [["import", "large"], ["small"]]
    shown = bench(folder, f"--from-json={result}", "--markdown", f"--plot={picture}").out
    assert "| small files, warm | cairn |" in shown
    assert "| first import against cp -a | cairn |" in shown
    assert "contents were not compared (--no-check): small" in shown
    marks = xml.etree.ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}title")
    assert any(one.text.startswith("cairn: ") for one in marks)
    # Nothing is left of either run.
    assert sorted(path.name for path in (folder / "bench").iterdir()) == ["lock"]


def test_wrong_contender_is_out(folder):
    """Whose mounts show something else than was imported has no figures."""
    program = write(folder / "cairn", f"""#!/bin/sh
        for arg; do
            if [ "$arg" = import ]; then
                chmod -R u+w "{folder}/tree"
                printf x >>"{folder}/tree/large"
                "{CAIRN}" "$@" || exit
                truncate -s -1 "{folder}/tree/large"
                exit
            fi
        done
        exec "{CAIRN}" "$@"
        """, 0o755)
    result = bench(folder, f"--tree={make_tree(folder / 'tree')}", "--only=small",
                   f"--cairn={program}", check=False)
    assert result.code == 1
    assert "cairn failed and is out" in result.err
