"""Inode numbers, and directories that are at two places at once."""
import os
import subprocess

from harness import run, write


def ino(path):
    return os.lstat(path).st_ino


def test_equal_content_equal_inode(store, sample, mount):
    store.add(sample, "first")
    store.add(sample / "one", "second")
    m = mount(store)
    first = m / "first"
    assert ino(first / "one") == ino(first / "two") == ino(m / "second")
    assert ino(first / "one/below") == ino(first / "two/below")
    assert ino(first / "hello") == ino(first / "sub/hello")
    assert ino(first / "link") == ino(first / "sub/link")
    assert ino(first / "sub/a/b/c/deep") == ino(first / "sub/other/name")
    assert ino(first / "run") == ino(first / "sub/run")


def test_different_content_different_inode(store, sample, mount):
    store.add(sample, "first")
    top = mount(store) / "first"
    assert ino(top / "run") != ino(top / "twin")
    paths = ["hello", "run", "twin", "empty", "big", "link", "dangling", "to-sub", "sub", "one",
             "nothing", "sub/a", "sub/a/b", "sub/a/b/c", "sub/other", "sub/a/b/c/deep",
             "one/file", "one/below", "one/below/leaf", ""]
    numbers = {path: ino(top / path) for path in paths}
    assert len(set(numbers.values())) == len(paths), numbers
    assert 1 not in numbers.values()
    assert 0 not in numbers.values()


def test_a_symlink_is_not_the_file_of_its_target(store, source, mount):
    """A file whose content is a target, and an empty directory and file with one digest."""
    write(source / "file", "target")
    (source / "link").symlink_to("target")
    write(source / "empty-file")
    (source / "empty-directory").mkdir()
    store.add(source, "tree")
    top = mount(store) / "tree"
    names = ["file", "link", "empty-file", "empty-directory"]
    assert len({ino(top / name) for name in names}) == 4


def test_stable_over_mounts(store, sample, mount):
    store.add(sample, "sample")
    one, two = mount(store) / "sample", mount(store) / "sample"
    listing = "-printf %P\\t%i\\n"
    assert (run(["find", one, *listing.split()]).out == run(["find", two, *listing.split()]).out)


def test_by_path(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store, "--inodes=path") / "sample"
    assert ino(top / "one") != ino(top / "two")
    assert ino(top / "one/below") != ino(top / "two/below")
    assert ino(top / "hello") == ino(top / "sub/hello")
    directories = run(["find", top, "-type", "d", "-printf", "%i\\n"]).out.split()
    assert len(directories) == len(set(directories)) == 11
    # Twice the same.
    assert ino(top / "one") == ino(top / "one")


def test_by_content_is_the_default(store, sample, mount):
    store.add(sample, "sample")
    top = mount(store, "--inodes=content") / "sample"
    assert ino(top / "one") == ino(top / "two")


def test_dot_dot_of_equal_directories(store, source, mount):
    """A process stands in one of two equal directories while the other one is walked."""
    for place in ("here", "there/far/away"):
        write(source / place / "same/below/file", "content")
        write(source / place / ("mark-" + place.replace("/", "-")), place)
    store.add(source, "tree")
    top = mount(store) / "tree"
    inside = top / "here/same/below"
    script = 'read line; pwd -P; ls ..; ls ../..; cat file'
    process = subprocess.Popen(["sh", "-c", script], cwd=inside, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    held = os.open(top / "here/same", os.O_RDONLY)
    try:
        for _ in range(3):
            run(["find", top / "there", "-ls"])
        run(["cat", top / "there/far/away/same/below/file"])
        out, _ = process.communicate(b"\n", timeout=60)
        assert out.decode().split("\n") == [str(inside), "below", "mark-here", "same", "content"]
        assert os.readlink(f"/proc/self/fd/{held}") == str(top / "here/same")
        assert sorted(os.listdir(os.open("..", os.O_RDONLY, dir_fd=held))) == ["mark-here", "same"]
    finally:
        os.close(held)
        process.kill()


def test_walks_of_equal_trees_at_once(store, sample, mount):
    for name in ("left", "right"):
        store.add(sample, name)
    m = mount(store)
    script = (f'for i in 1 2 3 4; do (cd "{m.path}/left" && find . -type f -exec cat {{}} + | cksum) & '
              f'(cd "{m.path}/right" && find . -type f -exec cat {{}} + | cksum) & done; wait')
    lines = run(["sh", "-c", script]).out.split("\n")[:-1]
    assert len(lines) == 8
    assert len(set(lines)) == 1
