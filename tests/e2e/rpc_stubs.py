"""gRPC as other programs see it: what protoc makes of proto/*.proto for Python.

Everything is there twice, as it stands in the files (tvix.*) and under snix's names, since these
differ in nothing but the names of packages.
"""
import importlib
import pathlib
import re
import shutil
import sys
import tempfile
import types

import grpc
import grpc_tools
import harness
from grpc_tools import protoc

FAMILIES = ("tvix", "snix")
# Python's own limit of messages is 4 MiB; a Directory may be larger. And each channel is to be a
# connection of its own.
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", 64 << 20),
                   ("grpc.max_send_message_length", 64 << 20),
                   ("grpc.use_local_subchannel_pool", 1)]


def _rename(text, family):
    """The text of a .proto file with a family's packages, and imports of files named like it."""
    text = re.sub(r"\btvix\.(castore|store)\.", rf"{family}.\1.", text)
    return re.sub(r'import "(\w+\.proto)"', rf'import "{family}_\1"', text)


def _write_sources(folder):
    """One file for each family; those of no family are the same for all."""
    names = []
    for path in sorted((harness.PROJECT / "proto").glob("*.proto")):
        text = path.read_text()
        shared = not re.search(r"^package tvix\.", text, re.M)
        for family in FAMILIES[:1] if shared else FAMILIES:
            name = f"{family}_{path.name}"
            (folder / name).write_text(_rename(text, family))
            names.append(name)
    return names


def _compile(folder):
    names = _write_sources(folder)
    standard = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    code = protoc.main(["protoc", f"-I{folder}", f"-I{standard}", f"--python_out={folder}",
                        f"--grpc_python_out={folder}", *names])
    assert code == 0, f"protoc fails on {names}"
    return [name.removesuffix(".proto") for name in names]


def _load():
    """{package: a namespace with all messages, stubs and add_…_to_server of that package}"""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cairn-stubs-"))
    sys.path.insert(0, str(folder))
    found = {}
    try:
        for stem in _compile(folder):
            messages = importlib.import_module(f"{stem}_pb2")
            package = messages.DESCRIPTOR.package
            space = found.setdefault(package, types.SimpleNamespace())
            for module in (messages, importlib.import_module(f"{stem}_pb2_grpc")):
                vars(space).update({name: value for name, value in vars(module).items()
                                    if not name.startswith("_")})
    finally:
        sys.path.remove(str(folder))
        shutil.rmtree(folder)
    return found


packages = _load()


class Family:
    """The packages of one family."""

    def __init__(self, name):
        self.name = name
        self.castore = packages[f"{name}.castore.v1"]
        self.store = packages[f"{name}.store.v1"]


families = {name: Family(name) for name in FAMILIES}


def channel(target, credentials=None):
    if credentials is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
