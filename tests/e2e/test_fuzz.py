"""tools/fuzz: what it makes of the fuzzers' output, with programs that only look like fuzzers."""
import json

import pytest

from harness import PROJECT, run, write

# Writes its input as a fuzzer does, and says what one says.
FINE = """#!/bin/sh
for argument; do
	case $argument in
	-merge=1 | -set_cover_merge=1) merge=1 ;;
	-*) ;;
	*) [ "$into" ] && from=$argument || into=$argument ;;
	esac
done
if [ "$merge" ]; then
	cp "$from"/* "$into"
	exit
fi
echo x >"$into/$$"
echo "#9	NEW    cov: 100 ft: 200 corp: 3/9b lim: 4 exec/s: 0 rss: 41Mb L: 1/1 MS: 1"
echo "stat::number_of_executed_units: 1000"
echo "stat::new_units_added:          7"
"""
BAD = """#!/bin/sh
for argument; do
	case $argument in
	-artifact_prefix=*) found=${argument#*=} ;;
	esac
done
echo y >"$found"crash-1
cat <<!
==1==ERROR: AddressSanitizer: heap-use-after-free on address 0x1
    #0 0x1 in memcpy (/tmp/fuzz_bad+0x1)
    #1 0x3 in node_decode /build/../src/castore/node.c:12:3
Test unit written to ${found}crash-1
stat::number_of_executed_units: 10
!
exit 77
"""


@pytest.fixture
def fuzzers(folder):
    """A build directory with a fuzzer that finds nothing, and one that always does."""
    write(folder / "build/tests/fuzz/fuzz_fine", FINE, 0o755)
    write(folder / "build/tests/fuzz/fuzz_bad", BAD, 0o755)
    return folder


def fuzz(folder, *arguments):
    result = run([PROJECT / "tools/fuzz", "--json", f"--build={folder}/build",
                  f"--cache={folder}/cache", *arguments], check=False)
    assert result.out, result
    return result.code, json.loads(result.out)


def test_nothing_found(fuzzers):
    code, said = fuzz(fuzzers, "2s", "fine")
    assert code == 0
    target = said["targets"]["fine"]
    assert (target["runs"], target["edges"], target["features"]) == (1000, 100, 200)
    assert (target["new_inputs"], target["inputs"], target["findings"]) == (7, 1, [])
    assert said["run"]["runs"] == said["all"]["runs"] == 1000


def test_finding_is_told_once(fuzzers):
    code, said = fuzz(fuzzers, "80s")
    assert code == 1
    found = fuzzers / "cache/findings/bad"
    assert said["targets"]["bad"]["findings"] == [{
        "what": "AddressSanitizer: heap-use-after-free in node_decode at src/castore/node.c:12",
        "input": f"{found}/crash-1"}]
    assert said["targets"]["fine"]["findings"] == []
    assert "node_decode" in next(found.glob("log-*")).read_text()


def test_goes_on_from_there(fuzzers):
    fuzz(fuzzers, "1s", "fine")
    _, said = fuzz(fuzzers, "1s", "fine")
    assert said["targets"]["fine"]["inputs"] == 2
    assert (said["run"]["runs"], said["all"]["runs"]) == (1000, 2000)


@pytest.mark.parametrize("arguments", [["10"], ["0s"], ["1m", "nothing"]])
def test_refused(fuzzers, arguments):
    result = run([PROJECT / "tools/fuzz", f"--build={fuzzers}/build",
                  f"--cache={fuzzers}/cache", *arguments], check=False)
    assert (result.code, result.out) == (2, "")
