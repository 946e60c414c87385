"""Where the benchmark keeps its data."""

import os
import shutil
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
PROJECT = BENCH.parent


def bench_dir():
    given = os.environ.get("CAIRN_BENCH_DIR")
    if given:
        return Path(given).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "cairn-bench"


def remove_tree(path):
    """rm -rf, also through directories without write permission."""
    path = Path(path)
    if not path.is_symlink() and path.is_dir():
        for top, dirs, _ in os.walk(path):
            for name in dirs:
                child = os.path.join(top, name)
                if not os.path.islink(child) and not os.access(child, os.W_OK | os.X_OK):
                    os.chmod(child, 0o755)
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()
