"""cairn daemon to somebody else's client: every call, under both families of package names."""
import base64
import concurrent.futures
import hashlib
import threading

import pytest

import nars
from harness import SLOW, assert_same_tree, cairn, pattern, write
from virtiofs_daemon import SANITIZED

pytest.importorskip("grpc_tools", reason="no python3-grpc-tools")
import grpc  # noqa: E402
from google.protobuf import (  # noqa: E402
    descriptor_pb2, descriptor_pool, message_factory)

import rpc_stubs  # noqa: E402
from content_digest import digest_of  # noqa: E402
from rpc_peer import output_hash  # noqa: E402
from rpc_stubs import FAMILIES, families, packages  # noqa: E402

Code = grpc.StatusCode
ABSENT = digest_of(b"nobody has this")
EMPTY = digest_of(b"")
SERVICES = ("castore.v1.BlobService", "castore.v1.DirectoryService", "store.v1.PathInfoService")
OWN_SERVICES = ("Roots", "Objects", "PathInfos", "Daemon")


class Client:
    """The stubs of one family on one channel."""

    def __init__(self, channel, name):
        family = families[name]
        self.castore, self.store = family.castore, family.store
        self.blobs = family.castore.BlobServiceStub(channel)
        self.directories = family.castore.DirectoryServiceStub(channel)
        self.path_infos = family.store.PathInfoServiceStub(channel)

    def put_blob(self, data, piece=1 << 16):
        pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
        return self.blobs.Put(self.castore.BlobChunk(data=p) for p in pieces).digest

    def read_blob(self, digest):
        request = self.castore.ReadBlobRequest(digest=digest)
        return b"".join(chunk.data for chunk in self.blobs.Read(request))

    def stat_blob(self, digest, **kw):
        return self.blobs.Stat(self.castore.StatBlobRequest(digest=digest, **kw))

    def put_directories(self, *directories):
        return self.directories.Put(iter(directories)).root_digest

    def get_directories(self, digest, recursive=False):
        return list(self.directories.Get(
            self.castore.GetDirectoryRequest(digest=digest, recursive=recursive)))

    def directory(self, directories=(), files=(), symlinks=()):
        """Of (name, Directory), (name, content), (name, target), as they come."""
        made = self.castore.Directory()
        for name, child in directories:
            made.directories.add(name=name, digest=encoded_digest(child), size=size_of(child))
        for name, content in files:
            made.files.add(name=name, digest=digest_of(content), size=len(content))
        for name, target in symlinks:
            made.symlinks.add(name=name, target=target)
        return made


def encoded_digest(directory):
    return digest_of(directory.SerializeToString())


def size_of(directory):
    return (len(directory.files) + len(directory.symlinks)
            + sum(1 + child.size for child in directory.directories))


def code_of(call):
    """The status that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        result = call()
        if hasattr(result, "__next__"):
            list(result)
    assert caught.value.details(), "a status without a word"
    return caught.value.code()


@pytest.fixture
def daemon(store, source, serve):
    store.cairn("import", "--name", "first", write(source / "first", "first\n"))
    return serve(store, "--list")


@pytest.fixture
def channel(daemon):
    with rpc_stubs.channel(daemon.target) as made:
        yield made


@pytest.fixture(params=FAMILIES)
def client(request, channel):
    return Client(channel, request.param)


# ---- Blobs ----

@pytest.mark.parametrize("size", [0, 1, 1024, 65536, 65537, (1 << 20) + 17, 9_000_001])
def test_blobs(client, size):
    data = pattern(size, 3)
    digest = client.put_blob(data)
    assert digest == digest_of(data)
    assert client.read_blob(digest) == data
    client.stat_blob(digest)


def test_pieces_of_all_sizes(client):
    """How an upload is cut does not matter; also pieces without bytes."""
    data = pattern(100_000, 7)
    cuts = [0, 0, 1, 2, 2, 1000, 65_536, 65_537, 100_000, 100_000]
    pieces = [client.castore.BlobChunk(data=data[a:b]) for a, b in zip(cuts, cuts[1:])]
    assert client.blobs.Put(iter(pieces)).digest == digest_of(data)
    assert client.read_blob(digest_of(data)) == data


def test_the_empty_blob_is_there(client):
    client.stat_blob(EMPTY)
    assert client.read_blob(EMPTY) == b""


def test_chunks(client):
    """Whatever chunks the daemon tells of, they are the blob, and can be read."""
    data = pattern(5_000_000, 9)
    digest = client.put_blob(data)
    assert not client.stat_blob(digest).chunks
    chunks = client.stat_blob(digest, send_chunks=True).chunks
    if chunks:
        found = [client.read_blob(chunk.digest) for chunk in chunks]
        assert [len(part) for part in found] == [chunk.size for chunk in chunks]
        assert b"".join(found) == data


def test_faults_of_blobs(client):
    assert code_of(lambda: client.read_blob(ABSENT)) == Code.NOT_FOUND
    assert code_of(lambda: client.stat_blob(ABSENT)) == Code.NOT_FOUND
    for digest in (b"", ABSENT[:31], ABSENT + b"x"):
        assert code_of(lambda: client.read_blob(digest)) == Code.INVALID_ARGUMENT
        assert code_of(lambda: client.stat_blob(digest)) == Code.INVALID_ARGUMENT


def test_local_and_remote_are_one(client, store, folder):
    """What one puts the other has, at once."""
    digest = client.put_blob(b"from afar\n")
    text = "b3:" + base64.b64encode(digest).decode()
    assert store.cairn("cat", text).out == "from afar\n"
    store.add(write(folder / "tree/near", "from near\n").parent, "near")
    assert client.read_blob(digest_of(b"from near\n")) == b"from near\n"


# ---- Directories ----

def test_directories(client):
    leaf = client.directory(files=[(b"file", b"")], symlinks=[(b"link", b"file")])
    middle = client.directory(directories=[(b"one", leaf), (b"two", leaf)])
    root = client.directory(directories=[(b"leaf", leaf), (b"middle", middle)])
    assert client.put_directories(leaf, middle, root) == encoded_digest(root)
    for directory in (leaf, middle, root):
        assert client.get_directories(encoded_digest(directory)) == [directory]
    found = client.get_directories(encoded_digest(root), recursive=True)
    # The order of snix, level by level, would be the same; each comes once.
    assert sorted(map(encoded_digest, found)) == sorted(map(encoded_digest, [root, leaf, middle]))
    assert found[0] == root
    known = set()
    for directory in found:
        assert not known or encoded_digest(directory) in known, "before who refers to it"
        known.update(child.digest for child in directory.directories)


def test_faults_of_directories(client):
    leaf = client.directory(symlinks=[(b"unknown leaf", b"x")])
    root = client.directory(directories=[(b"leaf", leaf)])
    other = client.directory(symlinks=[(b"not connected", b"x")])
    unsorted = client.directory(symlinks=[(b"b", b"x"), (b"a", b"x")])
    twice = client.directory(symlinks=[(b"a", b"x")], files=[(b"a", b"")])
    for sent in ([], [root, leaf], [leaf, other, root], [unsorted], [twice],
                 [client.directory(symlinks=[(b"..", b"x")])],
                 [client.directory(symlinks=[(b"a/b", b"x")])],
                 [client.directory(symlinks=[(b"a", b"")])]):
        assert code_of(lambda: client.put_directories(*sent)) == Code.INVALID_ARGUMENT, sent
    # All of a closure or nothing.
    assert code_of(lambda: client.get_directories(encoded_digest(leaf))) == Code.NOT_FOUND
    for digest in (b"", ABSENT[:31], ABSENT + b"x"):
        assert code_of(lambda: client.get_directories(digest)) == Code.INVALID_ARGUMENT
    nothing = client.castore.GetDirectoryRequest(recursive=True)
    assert code_of(lambda: client.directories.Get(nothing)) == Code.INVALID_ARGUMENT
    # Tvix and snix take any status for an error, and an empty stream for absence.
    assert client.get_directories(ABSENT, recursive=True) == []


def test_a_directory_that_is_large(client):
    """Of more than 4 MiB, which is what gRPC allows by default."""
    large = client.directory(files=[(b"%07d" % i, b"") for i in range(100_000)])
    digest = client.put_directories(large)
    assert digest == encoded_digest(large)
    assert client.get_directories(digest, recursive=True) == [large]


# ---- Path infos ----

def path_info(client, name=b"ffffffffffffffffffffffffffffffff-x", content=b"x"):
    info = client.store.PathInfo()
    info.node.file.name = name
    info.node.file.digest, info.node.file.size = digest_of(content), len(content)
    nar = nars.nar(nars.file(content))
    info.narinfo.nar_size = len(nar)
    info.narinfo.nar_sha256 = hashlib.sha256(nar).digest()
    return info


def test_path_infos(client):
    client.put_blob(b"x")
    info = path_info(client)
    assert client.path_infos.Put(info) == info
    by_hash = client.store.GetPathInfoRequest(by_output_hash=output_hash(info.node.file.name))
    assert client.path_infos.Get(by_hash) == info
    assert list(client.path_infos.List(client.store.ListPathInfoRequest())) == [info]
    # Tvix and snix send nodes without a name, others may send what is in the path info.
    for name in (info.node.file.name, b""):
        info.node.file.name = name
        nar = client.path_infos.CalculateNAR(info.node)
        assert (nar.nar_size, nar.nar_sha256) == (
            info.narinfo.nar_size, info.narinfo.nar_sha256)


def test_faults_of_path_infos(client):
    client.put_blob(b"x")

    def get(value):
        return client.path_infos.Get(client.store.GetPathInfoRequest(by_output_hash=value))

    assert code_of(lambda: get(bytes(20))) == Code.NOT_FOUND
    for value in (b"", bytes(19), bytes(32)):
        assert code_of(lambda: get(value)) == Code.INVALID_ARGUMENT
    assert code_of(lambda: client.path_infos.Get(client.store.GetPathInfoRequest())) \
        == Code.INVALID_ARGUMENT
    bad = [path_info(client, name=b"no store path"), client.store.PathInfo(), path_info(client)]
    bad[2].references.append(bytes(20))
    for info in bad:
        assert code_of(lambda: client.path_infos.Put(info)) == Code.INVALID_ARGUMENT
    assert list(client.path_infos.List(client.store.ListPathInfoRequest())) == []
    absent = path_info(client, content=b"nobody has this").node
    assert code_of(lambda: client.path_infos.CalculateNAR(absent)) == Code.NOT_FOUND
    assert code_of(lambda: client.path_infos.CalculateNAR(client.castore.Node())) \
        == Code.INVALID_ARGUMENT


# ---- What is no message, and what is no method ----

@pytest.mark.parametrize("family", FAMILIES)
def test_no_messages(channel, family):
    for method in ("BlobService/Stat", "BlobService/Read", "DirectoryService/Get"):
        call = channel.unary_stream(f"/{family}.castore.v1.{method}")
        assert code_of(lambda: call(b"\xff\xff\xff")) in (Code.INVALID_ARGUMENT, Code.INTERNAL)
    for method in ("BlobService/Put", "DirectoryService/Put"):
        call = channel.stream_unary(f"/{family}.castore.v1.{method}")
        assert code_of(lambda: call(iter([b"\xff\xff\xff"]))) in (
            Code.INVALID_ARGUMENT, Code.INTERNAL)
    for name in (f"/{family}.castore.v1.BlobService/Eat", f"/{family}.castore.v2.Blobs/Read", "/",
                 "/x"):
        assert code_of(lambda: channel.unary_unary(name)(b"")) == Code.UNIMPLEMENTED


def test_deadline(daemon, client):
    """An upload that never ends is over when its time is."""
    over = threading.Event()

    def endless():
        yield client.castore.BlobChunk(data=b"x")
        over.wait()

    assert code_of(lambda: client.blobs.Put(endless(), timeout=0.1)) == Code.DEADLINE_EXCEEDED
    over.set()
    assert client.read_blob(EMPTY) == b""


# ---- Health and reflection ----

def test_health(channel):
    health = packages["grpc.health.v1"]
    stub, serving = health.HealthStub(channel), health.HealthCheckResponse.SERVING
    names = [f"{family}.{service}" for family in FAMILIES for service in SERVICES]
    for name in ["", *names, *(f"cairn.v1.{service}" for service in OWN_SERVICES)]:
        request = health.HealthCheckRequest(service=name)
        assert stub.Check(request).status == serving, name
        watch = stub.Watch(request)
        assert next(watch).status == serving, name
        watch.cancel()
    unknown = health.HealthCheckRequest(service="x.y")
    assert code_of(lambda: stub.Check(unknown)) == Code.NOT_FOUND
    watch = stub.Watch(unknown)
    assert next(watch).status == health.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


class Reflection:
    """A client that knows nothing but the reflection service."""

    def __init__(self, channel, version):
        self.messages = packages["grpc.reflection.v1"]
        self.call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=self.messages.ServerReflectionRequest.SerializeToString,
            response_deserializer=self.messages.ServerReflectionResponse.FromString)

    def ask(self, *questions):
        requests = [self.messages.ServerReflectionRequest(**q) for q in questions]
        return list(self.call(iter(requests)))

    def services(self):
        answer, = self.ask({"list_services": "*"})
        return {service.name for service in answer.list_services_response.service}

    def load(self, symbol, pool):
        """A symbol's file and all that it needs, into the pool; dependencies first."""
        answer, = self.ask({"file_containing_symbol": symbol})
        files = {}
        for data in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            files[file.name] = file

        def add(name):
            if name not in files:
                answer, = self.ask({"file_by_filename": name})
                for data in answer.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(data)
                    files[file.name] = file
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

        for name in list(files):
            add(name)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(channel, version):
    reflection = Reflection(channel, version)
    wanted = {f"{family}.{service}" for family in FAMILIES for service in SERVICES}
    wanted |= {f"cairn.v1.{service}" for service in OWN_SERVICES}
    services = reflection.services()
    assert wanted | {"grpc.health.v1.Health"} <= services
    for name in services:
        pool = descriptor_pool.DescriptorPool()
        reflection.load(name, pool)
        service = pool.FindServiceByName(name)
        assert service.methods
        assert all(method.input_type and method.output_type for method in service.methods)
    absent, method = reflection.ask({"file_containing_symbol": "no.such.Thing"},
                                    {"file_containing_symbol": "snix.castore.v1.BlobService.Put"})
    assert absent.error_response.error_code == Code.NOT_FOUND.value[0]
    assert method.file_descriptor_response.file_descriptor_proto


def test_a_call_by_reflection_alone(channel):
    """Messages are made of what the daemon says of them."""
    pool = descriptor_pool.DescriptorPool()
    Reflection(channel, "v1").load("snix.castore.v1.BlobService", pool)
    method = pool.FindServiceByName("snix.castore.v1.BlobService").methods_by_name["Read"]
    factory = message_factory.MessageFactory(pool)
    request = factory.GetPrototype(method.input_type)(digest=digest_of(b"first\n"))
    response = factory.GetPrototype(method.output_type)
    call = channel.unary_stream("/snix.castore.v1.BlobService/Read",
                                response_deserializer=response.FromString)
    assert [chunk.data for chunk in call(request.SerializeToString())] == [b"first\n"]


# ---- cairn's own services ----

@pytest.fixture
def own(channel):
    space = packages["cairn.v1"]
    for name in OWN_SERVICES:
        setattr(space, name.lower(), getattr(space, f"{name}Stub")(channel))
    return space


def test_objects(own, client):
    contents = [pattern(size, size + 1) for size in (0, 1, 100, 65536, 300_000)]
    digests = [digest_of(content) for content in contents]
    missing = own.FindMissingRequest(kind="BLOB", digests=b"".join(digests))
    assert list(own.objects.FindMissing(missing).missing) == [False, True, True, True, True]
    batch = own.PutBlobsRequest()
    for digest, content in zip(digests, contents):
        batch.blobs.add(digest=digest, content=content)
    assert own.objects.PutBlobs(iter([batch, own.PutBlobsRequest()])).count == len(contents)
    assert not any(own.objects.FindMissing(missing).missing)
    large = client.put_blob(pattern((1 << 20) + 1, 5))
    wanted = [*digests, ABSENT, large, digests[1]]
    answers = [answer for response in own.objects.GetBlobs(
        own.GetBlobsRequest(digests=b"".join(wanted))) for answer in response.answers]
    states = own.GetBlobsResponse.Answer
    assert [answer.state for answer in answers] == (
        [states.PRESENT] * len(contents) + [states.ABSENT, states.LARGE, states.PRESENT])
    assert [answer.content for answer in answers[: len(contents)]] == contents
    assert own.objects.BlobSize(own.BlobSizeRequest(digest=large)).size == (1 << 20) + 1
    own.objects.Sync(own.SyncRequest())


def test_faults_of_objects(own):
    batch = own.PutBlobsRequest()
    batch.blobs.add(digest=ABSENT, content=b"something else")
    assert code_of(lambda: own.objects.PutBlobs(iter([batch]))) == Code.INVALID_ARGUMENT
    for size, code in ((33, Code.INVALID_ARGUMENT), (32 * 65537, Code.RESOURCE_EXHAUSTED)):
        request = own.FindMissingRequest(digests=bytes(size))
        assert code_of(lambda: own.objects.FindMissing(request)) == code
    assert code_of(lambda: own.objects.GetBlobs(own.GetBlobsRequest(digests=bytes(31)))) \
        == Code.INVALID_ARGUMENT
    assert code_of(lambda: own.objects.BlobSize(own.BlobSizeRequest(digest=ABSENT))) \
        == Code.NOT_FOUND
    assert code_of(lambda: own.objects.ReadRange(own.ReadRangeRequest(digest=ABSENT, length=1))) \
        == Code.NOT_FOUND


def test_put_directories(own, client):
    leaf = client.directory(symlinks=[(b"leaf", b"x")])
    # In no order that a closure has.
    other = client.directory(symlinks=[(b"other", b"x")])
    tvix = families["tvix"].castore.Directory
    batch = [tvix.FromString(d.SerializeToString()) for d in (leaf, other)]
    assert own.objects.PutDirectories(
        iter([own.PutDirectoriesRequest(directories=batch)])).count == 2
    missing = own.FindMissingRequest(
        kind="DIRECTORY", digests=encoded_digest(leaf) + ABSENT + encoded_digest(other))
    assert list(own.objects.FindMissing(missing).missing) == [False, True, False]


@pytest.mark.parametrize("start,length", [(0, 1), (5000, 100_000), (1 << 20, 17), (0, 3_000_000),
                                          (2_999_999, 1)])
def test_ranges(own, client, start, length):
    data = pattern(3_000_000, 11)
    digest = client.put_blob(data)
    responses = list(own.objects.ReadRange(own.ReadRangeRequest(
        digest=digest, offset=start, length=length, send_spans=True)))
    assert responses[0].size == len(data)
    assert len(b"".join(r.spans for r in responses)) == 3 * 32
    parts = [r for r in responses if r.data]
    first = parts[0].offset
    assert first % (16 << 10) == 0 and first <= start
    found = b"".join(r.data for r in parts)
    assert found == data[first : first + len(found)]
    assert first + len(found) >= start + length


def test_roots(own, client):
    first = own.roots.Lookup(own.LookupRootRequest(name=b"first"))
    assert first.file.digest == digest_of(b"first\n")
    client.put_blob(b"x")
    node = type(first)()
    node.file.name, node.file.digest, node.file.size = b"second", digest_of(b"x"), 1
    own.roots.Put(own.PutRootRequest(node=node))
    own.roots.Put(own.PutRootRequest(node=node))
    names = [n.file.name for n in own.roots.List(own.ListRootsRequest())]
    assert names == [b"first", b"second"]
    assert [n.file.name for n in own.roots.List(own.ListRootsRequest(after=b"first"))] \
        == [b"second"]
    node.file.digest, node.file.size = EMPTY, 0
    assert code_of(lambda: own.roots.Put(own.PutRootRequest(node=node))) == Code.ALREADY_EXISTS
    own.roots.Put(own.PutRootRequest(node=node, replace=True))
    assert own.roots.Lookup(own.LookupRootRequest(name=b"second")) == node
    own.roots.Remove(own.RemoveRootRequest(name=b"second"))
    absent = own.LookupRootRequest(name=b"second")
    assert code_of(lambda: own.roots.Lookup(absent)) == Code.NOT_FOUND
    assert code_of(lambda: own.roots.Remove(own.RemoveRootRequest(name=b"second"))) \
        == Code.NOT_FOUND
    for name in (b"", b"..", b"a/b", b"x" * 256):
        node.file.name = name
        assert code_of(lambda: own.roots.Put(own.PutRootRequest(node=node))) \
            == Code.INVALID_ARGUMENT


def test_many_path_infos(own, channel):
    client = Client(channel, "tvix")
    client.put_blob(b"x")
    names = [b"%s-x" % (letter * 32) for letter in (b"a", b"b", b"c")]
    infos = [path_info(client, name=name) for name in names]
    assert own.pathinfos.Put(iter(infos)).count == 3
    listed = list(own.pathinfos.List(own.ListPathInfosRequest()))
    assert [output_hash(i.node.file.name) for i in listed] == sorted(map(output_hash, names))
    after = own.ListPathInfosRequest(after=output_hash(listed[0].node.file.name))
    assert list(own.pathinfos.List(after)) == listed[1:]
    removed = own.RemovePathInfosRequest(hashes=b"".join(map(output_hash, names[:2])))
    assert own.pathinfos.Remove(removed).removed == 2
    assert list(own.pathinfos.List(own.ListPathInfosRequest())) == [infos[2]]


def test_info(own, client):
    client.read_blob(EMPTY)
    info = own.daemon.Info(own.InfoRequest())
    assert info.version and info.may_write and info.may_list
    assert info.calls >= 1 and info.connections == 1


# ---- Much of it ----

def test_a_large_blob(daemon, channel):
    """Memory does not grow with it."""
    client = Client(channel, "snix")
    piece = pattern(1 << 20, 13)
    count = 256 if SLOW == 1 else 24
    digest = client.blobs.Put(client.castore.BlobChunk(data=piece) for _ in range(count)).digest
    size = 0
    for chunk in client.blobs.Read(client.castore.ReadBlobRequest(digest=digest)):
        at = size % len(piece)
        # Chunks are no larger than pieces, so each is in two of them at most.
        assert (piece + piece)[at : at + len(chunk.data)] == chunk.data
        size += len(chunk.data)
    assert size == count << 20
    if not SANITIZED:
        assert int(daemon.status("VmHWM").split()[0]) < 100 << 10


def test_an_export_asks_for_many_at_once(own, daemon, store, source, folder):
    for number in range(600):
        write(source / f"tree/d{number % 60}/{number}", f"file {number}\n")
    store.add(source / "tree", "tree")
    before = own.daemon.Info(own.InfoRequest()).calls
    cairn("--store", daemon.address, "export", "tree", folder / "out")
    assert own.daemon.Info(own.InfoRequest()).calls - before < 40
    assert_same_tree(source / "tree", folder / "out")


def test_many_at_once(daemon):
    """Streams in both directions, on a few channels, do not mix."""
    contents = [pattern(50_000 + 30_000 * i, i + 1) for i in range(48)]
    channels = [rpc_stubs.channel(daemon.target) for _ in range(4)]

    def put_and_read(number):
        client = Client(channels[number % 4], FAMILIES[number // 4 % 2])
        digest = client.put_blob(contents[number])
        return client.read_blob(digest) == contents[number]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(put_and_read, range(len(contents))))
    for channel in channels:
        channel.close()
