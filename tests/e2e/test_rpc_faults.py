"""cairn daemon among clients that vanish, wait, come in hundreds or may not come at all."""
import base64
import concurrent.futures
import contextlib
import os
import signal
import stat
import threading
import time

import pytest

from harness import (
    CAIRN, SLOW, Store, as_user, cairn, executable_for_user, live_processes, loop_disk, pattern,
    run, start, wait_until, write)
from rpc_daemon import free_port
from virtiofs_daemon import SANITIZED

pytest.importorskip("grpc_tools", reason="no python3-grpc-tools")
import grpc  # noqa: E402

import rpc_stubs  # noqa: E402
from content_digest import digest_of  # noqa: E402
from rpc_stubs import families, packages  # noqa: E402
from rpc_wire import Wire  # noqa: E402

Code = grpc.StatusCode
LARGE = pattern(32 << 20, 31)
UNREACHABLE, DENIED = 5, 7
PATIENCE = f"timeout={int(SLOW)}s"
LIMIT = 20 * SLOW
castore, stored = families["tvix"].castore, families["tvix"].store


def text_of(content):
    return "b3:" + base64.b64encode(digest_of(content)).decode()


def read_blob(channel, content, **kw):
    request = castore.ReadBlobRequest(digest=digest_of(content))
    return castore.BlobServiceStub(channel).Read(request, **kw)


def get_blob(channel, content, **kw):
    return b"".join(chunk.data for chunk in read_blob(channel, content, **kw))


def put_blob(channel, content, **kw):
    pieces = (castore.BlobChunk(data=content[at : at + 65536])
              for at in range(0, len(content), 65536))
    return castore.BlobServiceStub(channel).Put(pieces, **kw).digest


def code_of(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code()


def files_of(store):
    return sorted(os.path.join(folder, name)
                  for folder, _, names in os.walk(store.path) for name in names)


@pytest.fixture
def large(store, source):
    """A store with LARGE and a small blob."""
    write(source / "large", LARGE)
    write(source / "small", "small\n")
    store.add(source, "tree")
    return store


@pytest.fixture
def connect():
    """A factory of channels, each a connection."""
    with contextlib.ExitStack() as stack:
        yield lambda daemon, *args: stack.enter_context(rpc_stubs.channel(daemon.target, *args))


def held(daemon):
    """How many sockets and unfinished files a daemon has open. Other files belong to its store, and
    what its threads wake each other with they keep."""
    count = 0
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        path = f"/proc/{daemon.pid}/fd/{name}"
        with contextlib.suppress(FileNotFoundError):
            info = os.stat(path)
            count += stat.S_ISSOCK(info.st_mode) or (
                stat.S_ISREG(info.st_mode) and "/store/tmp/" in os.readlink(path))
    return count


# ---- Ends of either side ----

def test_daemon_killed_while_it_sends(large, serve, connect):
    daemon = serve(large)
    stream = read_blob(connect(daemon), LARGE)
    first = next(stream).data
    daemon.process.kill()
    daemon.wait_exit()
    daemon.code = 0
    with pytest.raises(grpc.RpcError) as caught:
        for chunk in stream:
            first += chunk.data
    assert caught.value.code() == Code.UNAVAILABLE
    assert LARGE.startswith(first)
    result = cairn("--store", f"{daemon.address}?{PATIENCE}", "cat", text_of(LARGE), check=False)
    assert result.code == UNREACHABLE and str(daemon.socket) in result.err


def test_daemon_killed_while_it_receives(store, serve, connect, source, folder):
    """Nothing half is seen afterwards, and the same upload goes through."""
    daemon = serve(store)
    sent, go = threading.Event(), threading.Event()

    def pieces():
        for at in range(0, len(LARGE) // 2, 65536):
            yield castore.BlobChunk(data=LARGE[at : at + 65536])
        sent.set()
        go.wait()

    call = castore.BlobServiceStub(connect(daemon)).Put.future(pieces())
    assert sent.wait(60 * SLOW)
    daemon.process.kill()
    daemon.wait_exit()
    daemon.code = 0
    go.set()
    assert call.code() == Code.UNAVAILABLE
    again = serve(store)
    with rpc_stubs.channel(again.target) as channel:
        assert code_of(lambda: get_blob(channel, LARGE)) == Code.NOT_FOUND
        assert put_blob(channel, LARGE) == digest_of(LARGE)
        assert get_blob(channel, LARGE) == LARGE


def test_clients_that_vanish_while_they_send(store, serve, source):
    """No temporary file, no descriptor and no thread is kept for them."""
    store.add(write(source / "x", "x"), "x")
    daemon = serve(store)
    baseline, threads, before = held(daemon), daemon.threads(), files_of(store)
    for number in range(12):
        go = threading.Event()

        def pieces():
            yield castore.BlobChunk(data=LARGE[: 3 << 20])
            go.wait()

        with rpc_stubs.channel(daemon.target) as channel:
            call = castore.BlobServiceStub(channel).Put.future(pieces())
            wait_until(lambda: held(daemon) > baseline + 1, "the upload begins")
            if number % 2:
                call.cancel()
        go.set()
    wait_until(lambda: held(daemon) <= baseline, "descriptors leak")
    wait_until(lambda: files_of(store) == before, "files are left")
    # Threads are started when they are needed, and then kept for the next.
    assert daemon.threads() <= threads + 12


def test_a_client_that_is_killed(store, serve, source, folder):
    """cairn itself, in the middle of an import."""
    for i in range(20):
        write(source / f"f{i}", pattern(3 << 20, i + 1))
    daemon = serve(store)
    with Wire(folder / "wire", daemon.socket) as wire:
        client = start(cairn_command(wire, "import", "--quiet", source))
        wait_until(lambda: wire.up > 2 << 20, "the import sends")
        client.kill()
        client.wait()
        live_processes.discard(client)
    again = cairn("--store", daemon.address, "import", "--json", source).json()[0]
    here = Store(folder / "here").add(source)
    assert again["digest"] == here["digest"]


def cairn_command(wire, *args):
    return [CAIRN, "--store", f"grpc+unix://{wire.path}?{PATIENCE}", *args]


# ---- The way between ----

@pytest.mark.parametrize("how", ["held", "one byte a second"])
def test_a_wire_that_stalls(large, serve, folder, how):
    """The client gives up in time; nobody else notices."""
    daemon = serve(large)
    with Wire(folder / "wire", daemon.socket) as wire:
        wire.held, wire.rate = how == "held", None if how == "held" else 1
        begin = time.monotonic()
        result = run(cairn_command(wire, "cat", text_of(LARGE)), check=False)
        assert result.code == UNREACHABLE, result
        assert time.monotonic() - begin < LIMIT
        assert LARGE.startswith(result.raw)
        # Meanwhile the way is free for others.
        assert cairn("--store", daemon.address, "cat", "tree/small").out == "small\n"


def test_a_wire_that_is_cut(large, serve, folder):
    """In the middle of a download: all of it in the end, or an error and a part of it."""
    daemon = serve(large)
    with Wire(folder / "wire", daemon.socket) as wire:
        wire.cut_after = 10 << 20
        result = run(cairn_command(wire, "cat", text_of(LARGE)), check=False)
        assert wire.down >= 10 << 20
        assert result.code in (0, UNREACHABLE), result
        assert LARGE.startswith(result.raw)
        assert result.code != 0 or result.raw == LARGE
        wire.cut_after = None
        assert run(cairn_command(wire, "cat", text_of(LARGE))).raw == LARGE


def test_clients_that_do_not_read(large, serve, connect):
    """They hold a thread each until their time is over; others are served all the while."""
    daemon = serve(large, "--threads=8", f"--timeout={int(SLOW)}")
    stalled = [read_blob(connect(daemon), LARGE) for _ in range(4)]
    for stream in stalled:
        next(stream)
    channel = connect(daemon)
    for _ in range(20):
        assert get_blob(channel, b"small\n") == b"small\n"
    own = packages["cairn.v1"]
    daemon_info = own.DaemonStub(channel).Info
    wait_until(lambda: daemon_info(own.InfoRequest()).running_calls == 1, "the calls end")
    for stream in stalled:
        assert outcome(stream) is not None, "all of it came to one who did not read"


def test_clients_that_hardly_send(store, serve, connect):
    """A byte within each timeout is not enough to keep a thread."""
    daemon = serve(store, "--threads=1", f"--timeout={int(SLOW)}")
    ended = threading.Event()

    def dribble():
        while not ended.wait(SLOW / 20):
            yield castore.BlobChunk(data=b"x")

    put = castore.BlobServiceStub(connect(daemon)).Put
    try:
        assert code_of(lambda: put(dribble())) == Code.DEADLINE_EXCEEDED
    finally:
        ended.set()
    assert put_blob(connect(daemon), b"after\n") == digest_of(b"after\n")


# ---- Memory ----

def get_patiently(channel, content):
    """As clients do: where memory is short, connections without calls are closed."""
    while True:
        try:
            return get_blob(channel, content, wait_for_ready=True, timeout=LIMIT)
        except grpc.RpcError as error:
            if error.code() != Code.UNAVAILABLE:
                raise


def test_messages_that_never_end(large, serve, connect, folder):
    """Many connections with large messages that stay unfinished: some calls are ended for want
    of memory, and who asks for little is served all the while."""
    size, count, connections = 7 << 20, 6, 8
    daemon = serve(large, "--max-memory=64M", "--drain=1")
    content = bytes(size)
    ended = threading.Event()

    def endless():
        yield castore.BlobChunk(data=content)
        ended.wait()

    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire(folder / "wire", daemon.socket))
        wire.up_max = count * size * 9 // 10
        calls = []
        for _ in range(connections):
            channel = stack.enter_context(rpc_stubs.channel(f"unix:{wire.path}"))
            stub = castore.BlobServiceStub(channel)
            calls += [stub.Put.future(endless()) for _ in range(count)]
        stack.callback(ended.set)
        own = packages["cairn.v1"]
        served = connect(daemon)
        refused = lambda: [call for call in calls if call.done()]
        while wire.up < connections * wire.up_max and not refused():
            assert get_patiently(served, b"small\n") == b"small\n"
        wait_until(lambda: len(refused()) >= 4, "nobody is refused")
        for _ in range(20):
            assert get_patiently(served, b"small\n") == b"small\n"
        assert {call.code() for call in refused()} <= {Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE}
        assert own.DaemonStub(served).Info(own.InfoRequest()).running_calls > 1
        if not SANITIZED:
            assert int(daemon.status("VmHWM").split()[0]) < 160 << 10


def wide_directory(number):
    """Of about 3 MB."""
    made = castore.Directory()
    for entry in range(10_000):
        made.symlinks.add(name=b"%0250d" % entry, target=b"%040d" % number)
    return made


def test_closures_that_never_end(store, serve, connect):
    daemon = serve(store, "--max-memory=32M")
    directories = castore.DirectoryServiceStub(connect(daemon))
    many = [wide_directory(number) for number in range(4)]
    with pytest.raises(grpc.RpcError) as caught:
        directories.Put(iter(many))
    assert caught.value.code() == Code.RESOURCE_EXHAUSTED
    assert "calls hold" in caught.value.details()
    # All of it was given back.
    for directory in many[:2]:
        encoded = directory.SerializeToString()
        assert directories.Put(iter([directory])).root_digest == digest_of(encoded)


def test_messages_that_are_too_large(store, serve, connect):
    channel = connect(serve(store, "--max-memory=32M"))
    put = lambda size: castore.BlobServiceStub(channel).Put(
        iter([castore.BlobChunk(data=bytes(size))]))
    assert put(3 << 20).digest == digest_of(bytes(3 << 20))
    assert code_of(lambda: put(5 << 20)) == Code.RESOURCE_EXHAUSTED


# ---- Many ----

def test_two_hundred_clients(large, serve):
    daemon = serve(large)
    baseline = held(daemon)

    def work(number):
        content = pattern(10_000 + number, number + 1)
        with rpc_stubs.channel(daemon.target) as channel:
            assert put_blob(channel, content, timeout=60 * SLOW) == digest_of(content)
            barrier.wait(60 * SLOW)
            assert get_blob(channel, content, timeout=60 * SLOW) == content

    # All are connected at the same time.
    barrier = threading.Barrier(200)
    with concurrent.futures.ThreadPoolExecutor(200) as pool:
        list(pool.map(work, range(200)))
    wait_until(lambda: held(daemon) <= baseline, "descriptors leak")


def test_no_descriptors(large, serve):
    """Those who find none are told or wait; who was there is served, and later all are."""
    daemon = serve(large, prefix=["prlimit", "--nofile=80:80"])
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(rpc_stubs.channel(daemon.target))
        assert get_blob(first, b"small\n") == b"small\n"
        channels = [stack.enter_context(rpc_stubs.channel(daemon.target)) for _ in range(100)]
        ends = [read_blob(channel, b"small\n", timeout=SLOW) for channel in channels]
        codes = [outcome(end) for end in ends]
        assert codes.count(None) >= 10, "hardly anybody was served"
        assert set(codes) <= {None, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED,
                              Code.RESOURCE_EXHAUSTED}
        assert get_blob(first, b"small\n") == b"small\n"
    with rpc_stubs.channel(daemon.target) as channel:
        wait_until(lambda: outcome(read_blob(channel, LARGE)) is None, "all is well again")


def outcome(stream):
    """None, or the status that it fails with."""
    try:
        for _ in stream:
            pass
        return None
    except grpc.RpcError as error:
        return error.code()


# ---- Ending ----

def test_drain(large, serve, connect):
    """Calls that run may end, new ones are not taken."""
    daemon = serve(large, f"--drain={int(60 * SLOW)}")
    stream = read_blob(connect(daemon), LARGE)
    got = next(stream).data
    daemon.process.send_signal(signal.SIGTERM)

    def refused():
        with rpc_stubs.channel(daemon.target) as channel:
            return outcome(read_blob(channel, b"small\n", timeout=SLOW)) is not None

    wait_until(refused, "new calls are not taken")
    assert daemon.is_alive()
    got += b"".join(chunk.data for chunk in stream)
    assert got == LARGE
    assert daemon.wait_exit() == 0


def test_drain_does_not_wait_for_ever(large, serve, connect):
    daemon = serve(large, f"--drain={int(SLOW)}")
    stream = read_blob(connect(daemon), LARGE)
    next(stream)
    begin = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begin < LIMIT
    assert outcome(stream) is not None, "all of it came to one who did not read"


# ---- The store ----

@pytest.mark.root
def test_full_disk(folder, serve, connect):
    with loop_disk(folder, 48 << 20, "mkfs.ext4", "-q", "-F", "-m", "0") as disk:
        daemon = serve(Store(disk / "store"))
        channel = connect(daemon)
        put_blob(channel, b"before\n")
        with pytest.raises(grpc.RpcError) as caught:
            for i in range(4):
                put_blob(channel, pattern(20 << 20, i + 1))
        assert caught.value.code() == Code.RESOURCE_EXHAUSTED
        assert "space" in caught.value.details().lower()
        assert get_blob(channel, b"before\n") == b"before\n"
        assert daemon.stop() == 0


def test_damaged_blob(large, serve, connect):
    for path in files_of(large):
        if os.path.getsize(path) == len(LARGE):
            os.chmod(path, 0o600)
            with open(path, "r+b") as file:
                file.seek(20 << 20)
                file.write(b"damage")
    channel = connect(serve(large))
    stream, got = read_blob(channel, LARGE), b""
    with pytest.raises(grpc.RpcError) as caught:
        for chunk in stream:
            got += chunk.data
    assert caught.value.code() == Code.DATA_LOSS
    assert LARGE.startswith(got)
    assert get_blob(channel, b"small\n") == b"small\n"


# ---- Who may do what ----

def test_read_only(large, serve, connect):
    channel = connect(serve(large, "--read-only"))
    before = files_of(large)
    assert get_blob(channel, b"small\n") == b"small\n"
    assert code_of(lambda: put_blob(channel, b"new")) == Code.PERMISSION_DENIED
    directories = castore.DirectoryServiceStub(channel)
    assert code_of(lambda: directories.Put(iter([castore.Directory()]))) == Code.PERMISSION_DENIED
    path_infos = stored.PathInfoServiceStub(channel)
    assert code_of(lambda: path_infos.Put(stored.PathInfo())) == Code.PERMISSION_DENIED
    own = packages["cairn.v1"]
    assert code_of(lambda: own.RootsStub(channel).Remove(own.RemoveRootRequest(name=b"tree"))) \
        == Code.PERMISSION_DENIED
    assert files_of(large) == before


def test_no_listing(large, serve, connect):
    """Names that are known can be looked up; lists are only for those who may have them."""
    channel = connect(serve(large))
    own = packages["cairn.v1"]
    assert own.RootsStub(channel).Lookup(own.LookupRootRequest(name=b"tree")).directory.digest
    for call, request in ((own.RootsStub(channel).List, own.ListRootsRequest()),
                          (own.PathInfosStub(channel).List, own.ListPathInfosRequest()),
                          (stored.PathInfoServiceStub(channel).List,
                           stored.ListPathInfoRequest())):
        assert code_of(lambda: list(call(request))) == Code.PERMISSION_DENIED


@pytest.mark.root
def test_users(large, serve, folder):
    """Who is not on the list gets nothing, though the socket's mode lets him connect."""
    daemon = serve(large, "--allow-uid=0", "--socket-mode=0666")
    folder.chmod(0o755)
    program = executable_for_user(folder)
    command = [program, "--store", f"{daemon.address}?{PATIENCE}", "cat", "tree/small"]
    assert run(command).out == "small\n"
    result = run(as_user(*command), check=False)
    assert result.code in (UNREACHABLE, DENIED), result
    assert result.raw == b""


@pytest.fixture
def certificates(folder):
    """A CA and another one; a server and a client of the first."""
    top = folder / "tls"
    top.mkdir()
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-subj"]
    for ca in ("ca", "other"):
        run([*new, f"/CN={ca}", "-x509", "-days", "2", "-keyout", top / f"{ca}.key",
             "-out", top / f"{ca}.pem"])
    for name in ("server", "client"):
        write(top / f"{name}.ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        run([*new, f"/CN={name}", "-keyout", top / f"{name}.key", "-out", top / f"{name}.csr"])
        run(["openssl", "x509", "-req", "-days", "2", "-in", top / f"{name}.csr", "-CA",
             top / "ca.pem", "-CAkey", top / "ca.key", "-CAcreateserial", "-extfile",
             top / f"{name}.ext", "-out", top / f"{name}.pem"])
    return top


def tls(certificates, ca="ca", client=None):
    def text(name):
        return (certificates / name).read_bytes()

    return grpc.ssl_channel_credentials(
        text(f"{ca}.pem"), *((text(f"{client}.key"), text(f"{client}.pem")) if client else ()))


def test_tls(large, serve, connect, certificates):
    daemon = serve(large, f"--tls-cert={certificates}/server.pem",
                   f"--tls-key={certificates}/server.key", port=free_port(), tls=True)
    assert get_blob(connect(daemon, tls(certificates)), b"small\n") == b"small\n"
    assert code_of(lambda: get_blob(connect(daemon, tls(certificates, "other")), b"small\n")) \
        == Code.UNAVAILABLE
    assert code_of(lambda: get_blob(connect(daemon), b"small\n")) == Code.UNAVAILABLE
    address = f"{daemon.address}?{PATIENCE}"
    assert cairn("--store", f"{address}&ca={certificates}/ca.pem", "cat",
                 "tree/small").out == "small\n"
    for ca in (f"&ca={certificates}/other.pem", ""):
        result = cairn("--store", address + ca, "cat", "tree/small", check=False)
        assert result.code in (UNREACHABLE, DENIED), result


def test_mutual_tls(large, serve, connect, certificates):
    daemon = serve(large, f"--tls-cert={certificates}/server.pem",
                   f"--tls-key={certificates}/server.key",
                   f"--client-ca={certificates}/ca.pem", port=free_port(), tls=True)
    assert get_blob(connect(daemon, tls(certificates, client="client")), b"small\n") == b"small\n"
    assert code_of(lambda: get_blob(connect(daemon, tls(certificates)), b"small\n")) \
        == Code.UNAVAILABLE
    address = f"{daemon.address}?{PATIENCE}&ca={certificates}/ca.pem"
    own = f"&cert={certificates}/client.pem&key={certificates}/client.key"
    assert cairn("--store", address + own, "cat", "tree/small").out == "small\n"
    result = cairn("--store", address, "cat", "tree/small", check=False)
    assert result.code in (UNREACHABLE, DENIED), result


def test_tokens(large, serve, connect, folder):
    secret = "a-token-of-32-characters-or-more-0123456789"
    tokens = write(folder / "tokens", f"{secret} read\n", 0o600)
    daemon = serve(large, f"--token-file={tokens}", port=free_port())
    channel = connect(daemon)

    def read(*metadata):
        return get_blob(channel, b"small\n", metadata=metadata)

    assert read(("authorization", f"Bearer {secret}")) == b"small\n"
    for metadata in ([], [("authorization", f"Bearer {secret}x")],
                     [("authorization", f"Bearer {secret[:-1]}")], [("authorization", secret)],
                     [("authorization", "Bearer ")]):
        assert code_of(lambda: read(*metadata)) == Code.UNAUTHENTICATED
    own = write(folder / "own", secret + "\n", 0o600)
    assert cairn("--store", f"{daemon.address}?token-file={own}", "cat",
                 "tree/small").out == "small\n"
    result = cairn("--store", f"{daemon.address}?{PATIENCE}", "cat", "tree/small", check=False)
    assert result.code == DENIED, result
    assert secret not in daemon.log()
