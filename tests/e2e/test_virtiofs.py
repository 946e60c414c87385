"""cairn virtiofs as a process: its socket, sandbox, and end. test_virtiofs_guest.py has guests."""
import grp
import os
import pathlib
import signal
import socket
import stat

import pytest

from harness import (ACTIVATE, AS_ROOT, CAIRN, Store, as_user, cairn, connect, executable_for_user,
                     give_to_user, listener, run)
from virtiofs_daemon import SANITIZED

in_sandbox = pytest.mark.skipif(SANITIZED, reason="sanitizers need what the sandbox refuses")


@pytest.fixture
def filled(store, sample):
    store.add(sample, "sample")
    return store


def test_says_when_it_listens(filled, virtiofs):
    daemon = virtiofs(filled)
    assert daemon.log() == f"listening on {daemon.socket}\n"
    connect(daemon.socket).close()
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_says_so_in_json(filled, virtiofs):
    daemon = virtiofs(filled, "--json", wait=False)
    with socket.socket(socket.AF_UNIX):
        while "\n" not in daemon.log():
            assert daemon.process.poll() is None
    assert daemon.log() == f'{{"socket":"{daemon.socket}"}}\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals(filled, virtiofs, number):
    """Also while somebody is connected who says nothing."""
    daemon = virtiofs(filled)
    with connect(daemon.socket):
        assert daemon.stop(number) == 0
    assert not daemon.socket.exists()


def test_once(filled, virtiofs):
    daemon = virtiofs(filled, "--once")
    connect(daemon.socket).close()
    assert daemon.wait_exit() == 0
    assert not daemon.socket.exists()


def test_goes_on_when_somebody_has_gone(filled, virtiofs):
    daemon = virtiofs(filled)
    for _ in range(20):
        connect(daemon.socket).close()
    with connect(daemon.socket):
        assert daemon.process.poll() is None


# ---- The socket ----

def test_default_mode(filled, virtiofs):
    daemon = virtiofs(filled)
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", ["666", "0660", "600"])
def test_mode(filled, virtiofs, mode):
    daemon = virtiofs(filled, "--socket-mode", mode)
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == int(mode, 8)


@pytest.mark.root
@pytest.mark.parametrize("names", [("nobody", "nogroup"), ("4711", "4712")])
def test_owner(filled, virtiofs, names):
    daemon = virtiofs(filled, "--socket-owner", names[0], "--socket-group", names[1])
    st = daemon.socket.stat()
    expected = (65534, grp.getgrnam("nogroup").gr_gid) if names[0] == "nobody" else (4711, 4712)
    assert (st.st_uid, st.st_gid) == expected


def test_stale_socket_is_replaced(filled, virtiofs):
    daemon = virtiofs(filled)
    daemon.process.kill()
    daemon.wait_exit()
    assert daemon.socket.exists()
    again = virtiofs(filled, socket=daemon.socket)
    connect(again.socket).close()
    assert again.stop() == 0


def test_live_socket_is_not_replaced(filled, virtiofs):
    daemon = virtiofs(filled)
    result = filled.cairn("virtiofs", daemon.socket, check=False)
    assert result.code == 6
    assert "another process listens there" in result.err
    assert str(daemon.socket) in result.err
    connect(daemon.socket).close()


def test_other_files_are_not_replaced(filled, folder):
    path = folder / "file"
    path.write_text("mine")
    result = filled.cairn("virtiofs", path, check=False)
    assert result.code == 6
    assert "is no socket" in result.err
    assert path.read_text() == "mine"


def test_no_socket_is_left_when_it_fails(folder):
    missing = Store(folder / "no-store")
    result = missing.cairn("virtiofs", folder / "socket", check=False)
    assert result.code == 3
    assert "no-store" in result.err
    assert os.listdir(folder) == []


def test_missing_folder(filled, folder):
    result = filled.cairn("virtiofs", folder / "missing/socket", check=False)
    assert result.code == 3
    assert "missing/socket" in result.err


# ---- Sockets that others open ----

def test_inherited_socket(filled, virtiofs, folder):
    path = folder / "mine"
    with listener(path) as made:
        daemon = virtiofs(filled, socket=path, place=["--fd", str(made.fileno())],
                          pass_fds=[made.fileno()])
    assert "listening on descriptor" in daemon.log()
    connect(path).close()
    assert daemon.stop() == 0
    # Who has made it may remove it.
    assert path.exists()


@pytest.mark.parametrize("kind", ["closed", "file", "datagram", "connected"])
def test_descriptor_of_another_kind(filled, folder, kind):
    made = {
        "file": lambda: open(__file__, "rb"),
        "datagram": lambda: listener(folder / "datagram", socket.SOCK_DGRAM),
        "connected": lambda: socket.socketpair()[0],
    }
    with open(__file__, "rb") if kind == "closed" else made[kind]() as descriptor:
        number = descriptor.fileno()
        result = filled.cairn("virtiofs", "--fd", str(number), check=False,
                              pass_fds=[] if kind == "closed" else [number])
    assert result.code == 2
    assert f"descriptor {number}" in result.err


def test_socket_activation(filled, virtiofs, folder):
    path = folder / "activated"
    with listener(path) as made:
        daemon = virtiofs(filled, socket=path, place=[], pass_fds=[made.fileno()],
                          prefix=[*ACTIVATE, str(made.fileno()), "1"])
    assert "listening on descriptor 3" in daemon.log()
    connect(path).close()
    assert daemon.stop() == 0
    assert path.exists()


def test_too_many_activated_sockets(filled):
    result = run([*ACTIVATE, "0", "2", CAIRN, "--store", filled.path, "virtiofs"], check=False)
    assert result.code == 1
    assert "2 sockets" in result.err


def test_sockets_for_another_process(filled):
    result = filled.cairn("virtiofs", check=False, env={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
    assert result.code == 2


def test_readiness(filled, virtiofs, folder):
    with listener(folder / "notify", socket.SOCK_DGRAM) as notify:
        notify.settimeout(30)
        daemon = virtiofs(filled, env={"NOTIFY_SOCKET": str(folder / "notify")})
        assert notify.recv(100) == b"READY=1"
        assert daemon.stop() == 0
        assert notify.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("place", ["missing", "@cairn-test-missing"])
def test_deaf_service_manager(filled, virtiofs, folder, place):
    where = place if place.startswith("@") else str(folder / place)
    daemon = virtiofs(filled, env={"NOTIFY_SOCKET": where})
    assert daemon.stop() == 0


# ---- The sandbox ----

@in_sandbox
def test_sandbox(filled, virtiofs):
    daemon = virtiofs(filled)
    assert daemon.status("NoNewPrivs") == "1"
    assert daemon.status("Seccomp") == "2"
    for kind in ("Inh", "Prm", "Eff", "Amb", *(["Bnd"] if AS_ROOT else [])):
        assert int(daemon.status(f"Cap{kind}"), 16) == 0, kind


@in_sandbox
@pytest.mark.root
def test_sandbox_of_a_plain_user(filled, virtiofs, folder):
    give_to_user(filled.path)
    place = folder / "run"
    place.mkdir()
    give_to_user(place)
    daemon = virtiofs(filled, socket=place / "socket", program=executable_for_user(folder),
                      prefix=as_user())
    assert daemon.status("NoNewPrivs") == "1"
    assert daemon.status("Seccomp") == "2"
    assert daemon.stop() == 0
    assert not daemon.socket.exists()


@in_sandbox
@pytest.mark.root
def test_store_of_another_user(filled, virtiofs):
    """The one capability that reading it takes is kept, and no other."""
    give_to_user(filled.path)
    daemon = virtiofs(filled)
    assert int(daemon.status("CapEff"), 16) == 1 << 2
    assert int(daemon.status("CapPrm"), 16) == 1 << 2


def test_without_sandbox(filled, virtiofs):
    daemon = virtiofs(filled, "--sandbox=none", sandbox=True)
    assert daemon.status("Seccomp") == pathlib.Path("/proc/self/status").read_text().split(
        "Seccomp:\t")[1].split("\n")[0]


def test_inherited_descriptors_are_closed(filled, virtiofs, folder):
    with open(folder / "secret", "w", encoding="ascii") as secret:
        daemon = virtiofs(filled, pass_fds=[secret.fileno()])
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{daemon.pid}/fd")]
    assert str(folder / "secret") not in links


# ---- Usage ----

@pytest.mark.parametrize("args", [
    [], ["one", "two"], ["one", "--fd", "7"], ["--fd", "x"], ["--fd", "-1"],
    ["x", "--socket-mode", "888"], ["x", "--socket-mode", "7777"], ["x", "--socket-mode", ""],
    ["x", "--socket-owner", "no such user"], ["x", "--socket-group", "no such group"],
    ["x", "--sandbox=some"], ["x", "--inodes=odd"], ["x", "--threads=0"],
], ids=" ".join)
def test_usage_errors(folder, args):
    result = cairn("--store", folder / "store", "virtiofs", *args, check=False, cwd=folder)
    assert result.code == 2, result
    assert result.out == ""
    assert "--help" in result.err
    assert os.listdir(folder) == []
