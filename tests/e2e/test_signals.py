"""Interrupting commands: they stop soon, and leave nothing half done to be seen."""
import os
import signal
import subprocess

import pytest

from harness import (CAIRN, TIMEOUT, Store, assert_same_tree, environment, live_processes,
                     pattern, start, wait_until, write)


@pytest.fixture
def large(source):
    """Enough to be still at it when the signal comes."""
    for i in range(24):
        write(source / f"d{i}" / "file", pattern(8 << 20, i + 1))
    return source


def interrupt_import(store, large, number):
    """Starts an import and sends a signal once the store has grown."""
    before = store.disk_usage()
    process = start([CAIRN, "--store", store.path, "import", large, "--name", "large",
                     "--threads=1"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    wait_until(lambda: process.poll() is not None or store.disk_usage() > before,
               "the import starts")
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    live_processes.discard(process)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_import(folder, large, number):
    write(folder / "first/file", "first")
    # A signal may come too late to interrupt anything, but not every time.
    for attempt in range(8):
        store = Store(folder / f"store{attempt}")
        store.add(folder / "first", "first")
        code, out, err = interrupt_import(store, large, number)
        if code != 0:
            break
    assert code in (130, 128 + number, -number), (code, err)
    assert out == ""
    assert set(store.roots()) == {"first"}
    store.add(large, "large")
    assert set(store.roots()) == {"first", "large"}


def test_import_again_after_interruption(store, large, folder):
    store.cairn("import", "--no-name", folder / "source/d0/file")
    interrupt_import(store, large, signal.SIGINT)
    store.add(large, "large", "--replace")
    store.cairn("export", "large", folder / "out")
    assert_same_tree(large, folder / "out")


def test_closed_output(store, sample):
    """A reader that goes away is an error, not a crash."""
    store.add(sample, "sample")
    script = f'"{CAIRN}" --store "{store.path}" cat sample/big; echo "code $?" >&2'
    result = subprocess.run(["sh", "-c", f"({script}) | head -c 10 >/dev/null"],
                            stderr=subprocess.PIPE, timeout=TIMEOUT, check=False,
                            env=environment())
    code = int(result.stderr.split(b"code ")[1])
    assert code == 1 or code == 128 + signal.SIGPIPE, result.stderr


def test_full_output(store, sample):
    store.add(sample, "sample")
    for args in (["cat", "sample/hello"], ["roots"], ["ls", "sample"], ["--help"]):
        with open("/dev/full", "wb") as full:
            process = start([CAIRN, "--store", store.path, *args], stdout=full,
                            stderr=subprocess.PIPE, env=environment())
            _, err = process.communicate(timeout=TIMEOUT)
        assert process.returncode != 0, args
        assert err != b"", args


def test_reader_killed_during_a_read(store, source, mount):
    """Requests whose caller died do not disturb the others."""
    content = pattern(20 << 20, 3)
    write(source / "file", content)
    store.add(source, "tree")
    path = mount(store) / "tree/file"
    for _ in range(10):
        process = start(["cat", path], stdout=subprocess.PIPE)
        process.stdout.read(1)
        process.kill()
        process.wait(TIMEOUT)
        process.stdout.close()
    assert path.read_bytes() == content
    assert os.lstat(path).st_size == len(content)
