"""Stores made of stores, by address and by name, through the commands."""
import shutil
import types

import pytest

from harness import Store, assert_same_tree, cairn, pattern, write

SECTIONS = """
[cairn]
default = main

[store main]
type = cache
near = disk
far = hub
whole = 64K

[store disk]
address = {near}

[store hub]
type = read-only
store = {far}
"""


@pytest.fixture
def far(folder, sample):
    """A store with a tree that has small files and a large one."""
    write(sample / "large", pattern(3 << 20))
    far = Store(folder / "far")
    far.add(sample, "sample")
    return far


@pytest.fixture
def near(folder):
    return Store(folder / "near")


@pytest.fixture
def config(folder, far, near):
    path = folder / "conf"
    path.write_text(SECTIONS.format(near=near.path, far=far.path))
    return {"CAIRN_CONFIG": str(path)}


def cache_of(near, far):
    return f"cache://?near={near.path}&far={far.path}"


def test_cache(far, near, sample, folder):
    """What was exported once comes from near when far is gone."""
    address = cache_of(near, far)
    cairn("--store", address, "export", "sample", folder / "first")
    assert_same_tree(sample, folder / "first")
    shutil.move(far.path, folder / "gone")
    near.cairn("export", "sample", folder / "second")
    assert_same_tree(sample, folder / "second")
    assert cairn("--store", address, "roots", check=False).code == 3


def test_cache_mount(far, near, mount, sample, folder):
    mounted = mount(types.SimpleNamespace(path=cache_of(near, far)))
    assert_same_tree(sample, mounted / "sample")
    mounted.stop()
    again = mount(near)
    shutil.move(far.path, folder / "gone")
    assert_same_tree(sample, again / "sample")


def test_cache_import(far, near, source, folder):
    """Far has what is imported, and near has it too."""
    write(source / "new/file", b"new")
    write(source / "new/large", pattern(2 << 20, seed=7))
    cairn("--store", cache_of(near, far), "import", source / "new", "--name", "new")
    for store in far, near:
        store.cairn("export", "new", folder / "out")
        assert_same_tree(source / "new", folder / "out")
        shutil.rmtree(folder / "out")


def test_damaged_near(far, near, sample, folder):
    """A large file of near that is damaged is passed over, and replaced."""
    address = cache_of(near, far)
    cairn("--store", address, "cat", "sample/large")
    files = [p for p in (near.path / "files").rglob("*") if p.is_file()]
    assert files
    for path in files:
        path.chmod(0o644)
        with open(path, "r+b") as f:
            f.seek(1 << 20)
            f.write(b"damage")
    assert near.cairn("cat", "sample/large", check=False).code == 4
    result = cairn("--store", address, "cat", "sample/large")
    assert result.raw == (sample / "large").read_bytes()
    assert "damaged" in result.err
    cairn("--store", address, "cat", "sample/large")
    assert near.cairn("cat", "sample/large").raw == result.raw


def test_names(config, near, far):
    """The default, a name, and a name inside of an address."""
    roots = far.cairn("roots").out
    assert cairn("roots", env=config).out == roots
    assert cairn("--store", "hub", "roots", env=config).out == roots
    assert cairn("--store", "lru://?store=hub", "roots", env=config).out == roots
    assert cairn("roots", "--config", config["CAIRN_CONFIG"]).out == roots
    refused = cairn("--store", "hub", "roots", "remove", "sample", env=config, check=False)
    assert refused.code == 7
    unknown = cairn("--store", "hbu", "roots", env=config, check=False)
    assert unknown.code == 2 and "main, disk, hub" in unknown.err


def test_usual_place(config, folder, far):
    """A file in ~/.config is found, and --config= goes without it."""
    path = folder / "home/.config/cairn/config"
    path.parent.mkdir(parents=True)
    shutil.copy(config["CAIRN_CONFIG"], path)
    env = {"HOME": str(folder / "home")}
    assert cairn("roots", env=env).out == far.cairn("roots").out
    assert cairn("roots", "--config=", env=env, check=False).code == 3
    assert cairn("roots", "--config", folder / "missing", check=False).code == 3


def test_config_command(config, near, far):
    shown = cairn("config", "--json", env=config).json()
    assert [s["name"] for s in shown] == ["main", "disk", "hub"]
    assert [s["default"] for s in shown] == [True, False, False]
    assert shown[0]["address"] == "cache://?near=disk&far=hub&whole=64K"
    assert cairn("config", "hub", env=config).out.startswith("hub\tread-only://")
    assert cairn("config", "hbu", env=config, check=False).code == 3


@pytest.mark.parametrize("line, message", [
    ("near = main", "a part of itself"),
    ("near = nothing", "main, disk, hub"),
    ("near = s3://bucket", "unknown scheme 's3'"),
    ("naer = disk", "line 7: unknown key 'naer'"),
])
def test_faults(config, line, message):
    path = config["CAIRN_CONFIG"]
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace("near = disk", line))
    for args in ["config"], ["roots"]:
        result = cairn(*args, env=config, check=False)
        assert result.code == 2
        assert path in result.err and "[store main]" in result.err and message in result.err


def test_virtiofs_sandbox(config, folder):
    """A cache writes: that has to be allowed."""
    result = cairn("virtiofs", folder / "socket", env=config, check=False)
    assert result.code == 1 and "--sandbox=none" in result.err
    assert not (folder / "socket").exists()
