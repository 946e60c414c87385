"""A server of somebody else: Python's gRPC, with blobs, directories and path infos in dicts.

Like snix it has no empty blob until somebody puts it, wants complete closures, and answers with an
empty stream when all of a closure is absent. It does what it should until it is told otherwise: `peer.faults["BlobService/Read"] = fault` puts a
function between the method and the client. A fault takes the iterator of the responses (which
does nothing until it is asked for the first one), the call's context and the peer, and gives
what the client gets instead.
"""
import collections
import concurrent.futures
import hashlib
import itertools
import threading

import grpc

from content_digest import digest_of
from rpc_stubs import families

THREADS = 32
PIECE = 64 * 1024


# ---- Faults ----

def hang(responses, context, peer):
    """Nothing, until the client gives up or the peer ends."""
    peer.wait_for_end(context)
    yield from ()


def hang_after(count):
    """The first responses, then nothing."""

    def fault(responses, context, peer):
        yield from itertools.islice(responses, count)
        peer.wait_for_end(context)

    return fault


def truncate(count):
    """The first responses, and an end as if that were all."""
    return lambda responses, context, peer: itertools.islice(responses, count)


def fail(code, after=0):
    """A status, after some responses."""

    def fault(responses, context, peer):
        yield from itertools.islice(responses, after)
        context.abort(code, "as the test wants it")

    return fault


def fail_times(code, times):
    """A status for the first calls; then all is well."""
    left = itertools.count(times, -1)

    def fault(responses, context, peer):
        if next(left) > 0:
            context.abort(code, "as the test wants it")
        yield from responses

    return fault


def replace(change):
    """All responses as a list, changed."""
    return lambda responses, context, peer: iter(change(list(responses)))


def each(change):
    """Every response changed."""
    return lambda responses, context, peer: map(change, responses)


def repeat_for_ever(responses, context, peer):
    """The responses again and again."""
    kept = list(responses)
    while context.is_active():
        yield from kept


def drip(piece, seconds):
    """Chunks of a blob in small pieces, with a pause after each."""

    def fault(responses, context, peer):
        for response in responses:
            for at in range(0, len(response.data), piece):
                yield type(response)(data=response.data[at : at + piece])
                if peer.closing.wait(seconds) or not context.is_active():
                    return

    return fault


def flip_bit(response):
    """A chunk of a blob with one bit changed in its middle."""
    data = bytearray(response.data)
    data[len(data) // 2] ^= 1
    return type(response)(data=bytes(data))


# ---- The services, under one family's names ----

class Services:
    def __init__(self, peer, family):
        self.peer = peer
        self.castore = family.castore
        self.store = family.store

    def add_to(self, server):
        for package, service, methods in (
                (self.castore, "BlobService", ("Stat", "Read", "Put")),
                (self.castore, "DirectoryService", ("Get", "Put")),
                (self.store, "PathInfoService", ("Get", "Put", "CalculateNAR", "List"))):
            servicer = type(service, (), {
                name: staticmethod(self.method(service, name)) for name in methods})
            vars(package)[f"add_{service}Servicer_to_server"](servicer, server)

    def method(self, service, name):
        answers = getattr(self, f"{service}_{name}")
        streams = name in ("Read", "List") or f"{service}/{name}" == "DirectoryService/Get"

        def call(request, context):
            responses = self.peer.answer(f"{service}/{name}", answers(request, context), context)
            return responses if streams else next(responses)

        return call

    # Each of these is a generator, so that a fault can keep it from beginning.

    def BlobService_Stat(self, request, context):
        self.find(self.peer.blobs, request.digest, context)
        response = self.castore.StatBlobResponse()
        if request.send_chunks:
            for digest, size in self.peer.chunks.get(request.digest, ()):
                response.chunks.add(digest=digest, size=size)
        yield response

    def BlobService_Read(self, request, context):
        data = self.find(self.peer.blobs, request.digest, context)
        for at in range(0, len(data), PIECE):
            yield self.castore.BlobChunk(data=data[at : at + PIECE])

    def BlobService_Put(self, requests, context):
        data = b"".join(request.data for request in requests)
        yield self.castore.PutBlobResponse(digest=self.peer.add_blob(data))

    def DirectoryService_Get(self, request, context):
        wanted, known = [request.digest], {request.digest}
        if request.recursive and request.digest not in self.peer.directories:
            return  # no status, as snix has it
        self.find(self.peer.directories, request.digest, context)
        while wanted:
            directory = self.castore.Directory.FromString(self.peer.directories[wanted.pop(0)])
            yield directory
            for child in directory.directories if request.recursive else ():
                if child.digest not in known:
                    known.add(child.digest)
                    wanted.append(child.digest)

    def DirectoryService_Put(self, requests, context):
        digest, sent = None, {}
        for directory in requests:
            if any(child.digest not in sent for child in directory.directories):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a child that was not sent")
            for child in directory.directories:
                if self.peer.counts_twice and child.size != sent[child.digest]:
                    context.abort(grpc.StatusCode.INTERNAL, f"{child.name!r} has wrong size")
            digest = self.peer.add_directory(directory)
            entries = [*directory.directories, *directory.files, *directory.symlinks]
            sent[digest] = 2 * len(entries) + sum(c.size for c in directory.directories)
        if digest is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no directory")
        yield self.castore.PutDirectoryResponse(root_digest=digest)

    def PathInfoService_Get(self, request, context):
        data = self.find(self.peer.path_infos, request.by_output_hash, context)
        yield self.store.PathInfo.FromString(data)

    def PathInfoService_Put(self, request, context):
        node = getattr(request.node, request.node.WhichOneof("node"))
        self.peer.path_infos[output_hash(node.name)] = request.SerializeToString()
        yield request

    def PathInfoService_CalculateNAR(self, request, context):
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no NARs here")
        yield None

    def PathInfoService_List(self, request, context):
        for data in list(self.peer.path_infos.values()):
            yield self.store.PathInfo.FromString(data)

    @staticmethod
    def find(objects, key, context):
        if key not in objects:
            context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        return objects[key]


def output_hash(basename):
    """The 20 bytes that the first 32 characters of a store path's basename stand for."""
    number = 0
    for character in basename[:32]:
        number = number * 32 + b"0123456789abcdfghijklmnpqrsvwxyz".index(character)
    return number.to_bytes(20, "little")


class Peer:
    """The server: objects are what its clients put, or what add_… and add_tree put here."""

    def __init__(self, address, names=("tvix", "snix"), credentials=None):
        """address: as gRPC writes it, unix:/path or 127.0.0.1:0; `port` then says which."""
        self.blobs, self.chunks, self.directories, self.path_infos = {}, {}, {}, {}
        self.faults = {}
        self.counts_twice = False  # and refuses other sizes of directories, as snix does
        self.calls = collections.Counter()
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS)
        self._server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0)])
        for name in names:
            Services(self, families[name]).add_to(self._server)
        self.port = (self._server.add_secure_port(address, credentials) if credentials
                     else self._server.add_insecure_port(address))
        self._server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Cuts all calls off."""
        self.closing.set()
        self._server.stop(0).wait()
        self._pool.shutdown()

    def answer(self, method, responses, context):
        with self._lock:
            self.calls[method] += 1
        fault = self.faults.get(method)
        return fault(responses, context, self) if fault else responses

    def wait_for_end(self, context):
        over = threading.Event()
        if context.add_callback(over.set):
            while not over.wait(0.05) and not self.closing.is_set():
                pass

    # ---- Content ----

    def add_blob(self, data):
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def add_chunked_blob(self, data, size):
        """A blob whose chunks, all of one size, can be had on their own."""
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        digest = self.add_blob(data)
        self.chunks[digest] = [(self.add_blob(piece), len(piece)) for piece in pieces]
        return digest

    def add_directory(self, directory):
        data = directory.SerializeToString(deterministic=True)
        digest = digest_of(data)
        self.directories[digest] = data
        return digest

    def add_tree(self, entries, family="tvix"):
        """Of {name: bytes, str (a symlink) or another dict}: (digest, size) of its Directory."""
        castore = families[family].castore
        directory, size = castore.Directory(), len(entries)
        for name, value in sorted(entries.items()):
            if isinstance(value, dict):
                digest, below = self.add_tree(value, family)
                directory.directories.add(name=name.encode(), digest=digest, size=below)
                size += below
            elif isinstance(value, str):
                directory.symlinks.add(name=name.encode(), target=value.encode())
            else:
                directory.files.add(name=name.encode(), digest=self.add_blob(value),
                                    size=len(value))
        return self.add_directory(directory), size

    def add_path_info(self, basename, entries, family="tvix"):
        """A store path with a tree; what stands for its NAR is not looked at by anybody."""
        store = families[family].store
        info = store.PathInfo()
        info.node.directory.name = basename.encode()
        digest, size = self.add_tree(entries, family)
        info.node.directory.digest, info.node.directory.size = digest, size
        info.narinfo.nar_size = 1
        info.narinfo.nar_sha256 = hashlib.sha256(b"").digest()
        self.path_infos[output_hash(basename.encode())] = info.SerializeToString()
        return digest
