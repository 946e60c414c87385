"""Processors are kept awake while requests come fast, and no longer."""
import itertools
import os
import pathlib
import struct

import pytest

from harness import CAIRN, expect_error, run, wait_until, write

DEVICE = "/dev/cpu_dma_latency"

pytestmark = pytest.mark.fuse


@pytest.fixture
def tree(store, source):
    write(source / "file", "content")
    store.add(source, "tree")
    return store


def demands(m):
    """How many requests to the kernel the mount's process has open."""
    folder = f"/proc/{m.pid}/fd"
    return sum(os.readlink(f"{folder}/{fd}") == DEVICE for fd in os.listdir(folder))


def allowed_latency():
    """In microseconds, of all requests on this machine together."""
    with open(DEVICE, "rb", buffering=0) as f:
        return struct.unpack("i", f.read(4))[0]


def ask_fast(m, names):
    """Each absent name is a request of its own."""
    for name in names:
        assert not (m / "tree" / name).exists()


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists(DEVICE), reason=f"there is no {DEVICE}")
def test_awake_while_requests_come_fast(tree, mount):
    m = mount(tree, "--cpu-latency=low", "-v")
    # The mount is there a moment before its request.
    wait_until(lambda: demands(m) == 1, "the request to the kernel")
    assert "processors are kept awake while requests come fast" in m.log()
    names = map(str, itertools.count())

    def is_low_after_requests():
        ask_fast(m, itertools.islice(names, 100))
        return allowed_latency() == 0

    wait_until(is_low_after_requests, "that processors are kept awake")
    wait_until(lambda: allowed_latency() > 0, "that processors may sleep again")


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists(DEVICE), reason=f"there is no {DEVICE}")
def test_never(tree, mount):
    m = mount(tree, "--cpu-latency=any")
    ask_fast(m, map(str, range(200)))
    assert demands(m) == 0


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists(DEVICE), reason=f"there is no {DEVICE}")
def test_auto(tree, mount):
    """Only where an idle processor is the hypervisor's, and there are few of them."""
    try:
        driver = pathlib.Path("/sys/devices/system/cpu/cpuidle/current_driver").read_text().strip()
    except FileNotFoundError:
        driver = None
    wanted = driver == "haltpoll" and os.cpu_count() <= 16
    m = mount(tree)
    assert (m / "tree" / "file").read_text() == "content"
    assert demands(m) == wanted


def test_other_words(tree, tmp_path):
    result = run([CAIRN, "--store", tree.path, "mount", "--cpu-latency=0", tmp_path], check=False)
    expect_error(result, 2, "--cpu-latency takes auto, low or any, not '0'")
