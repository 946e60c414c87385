"""Where the disk can share blocks, a large file and its blob do."""
import os
import shutil

import pytest

from harness import Store, loop_disk, pattern

pytestmark = pytest.mark.root


def used(path):
    os.sync()
    st = os.statvfs(path)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def test_large_file_is_shared(folder):
    size = 64 << 20
    with loop_disk(folder, 512 << 20, "mkfs.xfs", "-q") as disk:
        large = disk / "large"
        large.write_bytes(pattern(1 << 20) * (size >> 20))
        before = used(disk)
        store = Store(disk / "store")
        store.add(large, "large")
        assert used(disk) - before < size // 4
        # The blob keeps what it was when its source changes.
        shutil.copyfile(large, folder / "copy")
        with open(large, "r+b") as f:
            f.write(b"changed")
        assert store.cairn("cat", "large").raw == (folder / "copy").read_bytes()
