"""cairn daemon as a process: where it listens, what it refuses, and its end."""
import contextlib
import json
import re
import signal
import socket
import stat
import subprocess

import pytest

from harness import (ACTIVATE, CAIRN, Daemon, assert_same_tree, cairn, connect, listener, run,
                     wait_until)


@pytest.fixture
def filled(store, sample):
    store.add(sample, "sample")
    return store


@pytest.fixture
def daemon(folder, sanitizer_folder):
    """A factory: it(store, options…) is a cairn daemon that listens when it returns."""
    made = []

    def make(store, *args, prefix=(), said="listen", **kw):
        command = [*prefix, CAIRN, "--store", store.path, "daemon", *args]
        made.append(Daemon(command, folder / f"daemon{len(made)}.log", **kw))
        made[-1].wait_logged(said)
        return made[-1]

    yield make
    assert all([d.clean_up() for d in made])


def refused(store, *args, **kw):
    """The result of a daemon that does not begin to serve."""
    return store.cairn("daemon", *args, check=False, **kw)


# ---- Where it listens ----

def test_all_addresses(filled, daemon, folder):
    path = folder / "socket"
    d = daemon(filled, f"--listen=unix:{path}", "--listen=tcp:localhost:0",
               "--listen=tcp:[::1]:0", "--list", said="[::1]")
    lines = d.log().splitlines()
    assert lines[0] == f"listening on unix:{path}"
    port = re.fullmatch(r"listening on tcp:127\.0\.0\.1:(\d+)", lines[1])[1]
    port6 = re.fullmatch(r"listening on tcp:\[::1\]:(\d+)", lines[2])[1]
    for address in (f"unix://{path}", f"http://127.0.0.1:{port}", f"http://[::1]:{port6}"):
        listed = cairn("roots", "--store", f"grpc+{address}")
        assert "sample" in listed.out
    assert d.stop() == 0
    assert not path.exists()


def test_json(filled, daemon, folder):
    d = daemon(filled, "--json", f"--listen=unix:{folder}/a", "--listen=tcp:127.0.0.1:0",
               said="tcp")
    told = [json.loads(line)["listen"] for line in d.log().splitlines()]
    assert told[0] == f"unix:{folder}/a"
    assert re.fullmatch(r"tcp:127\.0\.0\.1:[1-9]\d*", told[1])


def test_is_a_store(filled, daemon, source, folder):
    """What one process puts through it, another one finds, and so does the store itself."""
    path = folder / "socket"
    daemon(filled, f"--listen=unix:{path}")
    address = f"grpc+unix://{path}"
    cairn("import", "--store", address, source, "--name", "again")
    cairn("export", "--store", address, "again", folder / "out")
    assert_same_tree(source, folder / "out")
    assert set(filled.roots()) == {"sample", "again"}


def test_default_mode(filled, daemon, folder):
    daemon(filled, f"--listen=unix:{folder}/socket")
    assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o600


@pytest.mark.root
def test_mode_and_owner(filled, daemon, folder):
    daemon(filled, f"--listen=unix:{folder}/socket", "--socket-mode=660", "--socket-owner=4711",
           "--socket-group=4712")
    st = (folder / "socket").stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o660, 4711, 4712)


def test_somebody_listens_there(filled, daemon, folder):
    path = folder / "socket"
    d = daemon(filled, f"--listen=unix:{path}", "--listen=tcp:127.0.0.1:0", said="tcp")
    port = d.log().rsplit(":", 1)[1].strip()
    result = refused(filled, f"--listen=unix:{path}")
    assert result.code == 6 and "listens there" in result.err
    result = refused(filled, f"--listen=tcp:127.0.0.1:{port}")
    assert result.code != 0 and f"port {port}" in result.err


def test_sockets_of_a_service_manager(filled, daemon, folder):
    path = folder / "activated"
    with listener(path) as made:
        d = daemon(filled, pass_fds=[made.fileno()], prefix=[*ACTIVATE, str(made.fileno()), "1"])
    assert "listening on fd:3" in d.log()
    assert cairn("ls", "--store", f"grpc+unix://{path}", "sample").out
    assert d.stop() == 0
    assert path.exists()


def test_no_listening_socket(filled, folder):
    with open(folder / "file", "wb") as f:
        result = run([*ACTIVATE, str(f.fileno()), "1", CAIRN, "--store", filled.path, "daemon"],
                     check=False, pass_fds=[f.fileno()])
    assert result.code == 2 and "no listening socket" in result.err


def test_readiness(filled, daemon, folder):
    with listener(folder / "notify", socket.SOCK_DGRAM) as notify:
        notify.settimeout(30)
        d = daemon(filled, f"--listen=unix:{folder}/socket",
                   env={"NOTIFY_SOCKET": str(folder / "notify")})
        assert notify.recv(100) == b"READY=1"
        assert d.stop() == 0
        assert notify.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(filled, daemon, folder, number):
    """Also while somebody is connected who says nothing."""
    d = daemon(filled, f"--listen=unix:{folder}/socket")
    with connect(folder / "socket"):
        assert d.stop(number) == 0
    assert not (folder / "socket").exists()


def make_certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out",
         folder / "cert.pem"], check=True, capture_output=True)
    return [f"--tls-cert={folder}/cert.pem", f"--tls-key={folder}/key.pem"]


def test_ports_open_again(filled, daemon, folder):
    """Without a descriptor for a connection, gRPC's library listens at its port no more."""
    d = daemon(filled, "-v", "--listen=tcp:127.0.0.1:0", *make_certificate(folder),
               prefix=["prlimit", "--nofile=64:64"])
    port = int(d.log().rsplit(":", 1)[1])
    address = f"grpc+https://127.0.0.1:{port}?ca={folder}/cert.pem"
    assert cairn("ls", "--store", address, "sample").out
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        d.wait_logged("Too many open files")
    d.wait_logged("ports open again")
    wait_until(lambda: cairn("ls", "--store", address, "sample", check=False).code == 0,
               "it listens again")
    assert d.stop() == 0


# ---- What it refuses ----

@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:8000", "[::]:0", "[2001:db8::1]:1"])
def test_open_to_everybody(filled, address):
    result = refused(filled, f"--listen=tcp:{address}")
    assert result.code == 7
    assert "--tls-cert" in result.err and "--insecure" in result.err


def test_open_because_it_is_meant(filled, daemon):
    d = daemon(filled, "--listen=tcp:0.0.0.0:0", "--insecure")
    port = d.log().rsplit(":", 1)[1].strip()
    assert cairn("ls", "--store", f"grpc+http://127.0.0.1:{port}", "sample").out


def test_encrypted_for_nobody_in_particular(filled, folder):
    result = refused(filled, "--listen=tcp:0.0.0.0:0", *make_certificate(folder))
    assert result.code == 7
    assert "--client-ca" in result.err and "--token-file" in result.err


def test_certificate_and_token(filled, daemon, folder):
    (folder / "tokens").write_text("0123456789abcdef\n")
    (folder / "tokens").chmod(0o600)
    d = daemon(filled, "--listen=tcp:0.0.0.0:0", f"--token-file={folder}/tokens",
               *make_certificate(folder))
    port = d.log().rsplit(":", 1)[1].strip()
    assert int(port) > 0
    with pytest.raises(OSError):
        # An address for one daemon alone.
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            other.bind(("0.0.0.0", int(port)))


@pytest.mark.parametrize("args, code, message", [
    ([], 2, "--listen is missing"),
    (["--listen=localhost:80"], 2, "no address to listen on"),
    (["--listen=tcp:example.org:80"], 2, "IP address"),
    (["--listen=tcp:127.0.0.1"], 2, "IP address"),
    (["--listen=tcp:::1:80"], 2, "IP address"),
    (["--listen=tcp:127.0.0.1:http"], 2, "IP address"),
    (["--listen=unix:"], 2, "name"),
    (["--listen=unix:/missing/socket"], 3, "/missing"),
    (["--listen=unix:s", "--tls-cert=c"], 2, "--tls-key"),
    (["--listen=unix:s", "--client-ca=c"], 2, "--tls-cert"),
    (["--listen=tcp:127.0.0.1:0", "--tls-cert=/missing", "--tls-key=k"], 3, "/missing"),
    (["--listen=unix:s", "--token-file=/missing"], 3, "/missing"),
    (["--listen=unix:s", "--threads=0"], 2, "--threads"),
    (["--listen=unix:s", "--allow-uid=nobody-at-all"], 2, "nobody-at-all"),
    (["--listen=unix:s", "more"], 2, "more"),
])
def test_wrong_use(filled, folder, args, code, message):
    result = refused(filled, *args, cwd=folder)
    assert (result.code, message in result.err) == (code, True), result
    assert not (folder / "s").exists()


@pytest.mark.parametrize("text, message", [
    ("short\n", "16 to"), ("0123456789abcdef append\n", "neither read nor write"),
    ("# none\n\n", "no token"), ("0123456789abcdef read more\n", "a token and its rights")])
def test_bad_tokens(filled, folder, text, message):
    (folder / "tokens").write_text(text)
    (folder / "tokens").chmod(0o600)
    result = refused(filled, f"--listen=unix:{folder}/s", f"--token-file={folder}/tokens")
    assert result.code == 2
    assert message in result.err and "abcdef" not in result.err


def test_bad_certificate(filled, folder):
    for name in ("cert.pem", "key.pem"):
        (folder / name).write_text("no certificate\n")
    result = refused(filled, "--listen=tcp:127.0.0.1:0", f"--tls-cert={folder}/cert.pem",
                     f"--tls-key={folder}/key.pem")
    assert result.code > 0
    assert "certificate" in result.err


def test_no_store_to_read(folder, store):
    result = refused(store, "--read-only", f"--listen=unix:{folder}/s")
    assert result.code == 3
