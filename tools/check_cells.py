#!/usr/bin/python3
"""Runs the cells of tools/check and counts what really ran.

usage: tools/check [--list] [--no-install] [CELL…]

Each cell builds in build-check/CELL and runs its part of the tests. The last line is always
"tests: N passed, N failed, N skipped". A build that fails, a cell that crashes or hangs, and a
cell that ran nothing count as failures. With CI=true a skip is a failure too, unless SKIPS_ALLOWED
has its reason. CAIRN_CHECK_DIR puts the build directories elsewhere.
"""
import concurrent.futures
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import fuzzers

PROJECT = pathlib.Path(__file__).resolve().parent.parent
BUILDS = pathlib.Path(os.environ.get("CAIRN_CHECK_DIR", PROJECT / "build-check"))
CI = os.environ.get("CI") == "true"
JOBS = os.cpu_count() or 2
PYTHON = "/usr/bin/python3"
FUZZ_SECONDS = 100  # which the fuzzers share

# Skips that are no failure in CI: a pattern of the reason, and why it is right.
SKIPS_ALLOWED = [
    (r"^no loop devices", "a container may be denied loop devices; nothing stands in for them"),
    (r"^this kernel does not send requests again", "mounts end with their servers then"),
    (r"sanitizers need what the sandbox refuses", "the same test runs in the release cell"),
    (r"sanitizers have memory of their own", "the same test runs in the release cell"),
    (r"^other users cannot reach the project", "a home folder may be closed to them"),
    (r"^user_allow_other is set", "the administrator's choice on this machine"),
]

# intercept_tls_get_addr=0: where the thread-local memory of a library that was loaded later begins,
# clang 14 reads from a header that glibc no longer has whenever the address happens to lie 16 bytes
# into a page; the leak sanitizer then dies of what it finds there. It sees that memory anyway.
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:"
                    "intercept_tls_get_addr=0",
    "LSAN_OPTIONS": f"suppressions={PROJECT}/tests/library-leaks.txt:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1",
}


# End to end, there are programs that load libgrpc: see grpc_test_env in tests/meson.build.
SANITIZER_OPTIONS_GRPC = {
    **SANITIZER_OPTIONS,
    "TSAN_OPTIONS": SANITIZER_OPTIONS["TSAN_OPTIONS"] + ":ignore_noninstrumented_modules=1",
}


class Cell:
    """What a cell counted."""

    def __init__(self, name):
        self.name = name
        self.folder = BUILDS / name
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.phases = []  # (what, seconds)

    @contextlib.contextmanager
    def phase(self, what):
        begin = time.monotonic()
        try:
            yield
        finally:
            self.phases.append((what, time.monotonic() - begin))

    def fail(self, what, detail=""):
        self.failed.append(what)
        print(f"FAILED {self.name}: {what}", flush=True)
        if detail:
            print("\n".join(detail.splitlines()[-60:]), flush=True)

    def skip(self, what, reason):
        self.skipped.append(what)
        if CI and not any(re.search(pattern, reason) for pattern, _ in SKIPS_ALLOWED):
            self.skipped.pop()
            self.fail(f"{what} was skipped: {reason}")
        else:
            print(f"skipped {self.name}: {what}: {reason}", flush=True)


def run(args, timeout, env=None, cwd=PROJECT):
    """(exit code, output); the whole process group ends with it. None: it hung."""
    process = subprocess.Popen(
        [str(a) for a in args], cwd=cwd, env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True)
    try:
        out, _ = process.communicate(timeout=timeout)
        code = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        code = None
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    return code, out.decode("utf-8", "replace")


def explain(code):
    return "hangs" if code is None else f"exit code {code}"


def build(cell, compiler, options):
    """Configures and builds afresh where the options changed; false when that fails."""
    stamp = cell.folder / "options"
    wanted = " ".join([str(PROJECT), compiler, *options])
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(cell.folder, ignore_errors=True)
        code, out = run(["meson", "setup", "--werror", "-Dtests=enabled", *options, cell.folder,
                         PROJECT], 300, {"CC": compiler})
        if code != 0:
            cell.fail("meson setup", out)
            return False
        stamp.write_text(wanted)
    with cell.phase("build"):
        code, out = run(["ninja", "-C", cell.folder, f"-j{JOBS}"], 1200)
    if code != 0:
        cell.fail(f"build ({explain(code)})", out)
        return False
    if not (cell.folder / "src/cli/cairn").exists():
        cell.fail("build (no program)")
        return False
    return True


def cmocka_names(text, mark):
    """Names behind marks like "[       OK ] name" in the output of a cmocka program."""
    return set(re.findall(rf"^\[\s*{mark}\s*\] ([A-Za-z_]\w*)$", text, re.M))


def count_meson_test(cell, test):
    """One program: each of its cmocka tests, or the program itself when it has none."""
    text = test.get("stdout", "") + "\n" + test.get("stderr", "")
    name = test["name"]
    failed = cmocka_names(text, "FAILED")
    passed = cmocka_names(text, "OK") - failed
    result = test["result"]
    for function in sorted(cmocka_names(text, "SKIPPED")):
        cell.skip(f"{name}: {function}", "skipped by the program")
    cell.passed += len(passed)
    for function in sorted(failed):
        cell.fail(f"{name}: {function}", text)
    if result == "SKIP":
        cell.skip(name, text.strip().splitlines()[-1] if text.strip() else "no reason given")
    elif result not in ("OK", "EXPECTEDFAIL"):
        if not failed:
            cell.fail(f"{name} ({result}, exit code {test.get('returncode')})", text)
    elif not passed and not failed:
        cell.passed += 1


def run_meson_tests(cell, suites, factor=1, env=None):
    """The programs of some suites, by meson; a log without tests is a failure."""
    log = cell.folder / "meson-logs/testlog.json"
    log.unlink(missing_ok=True)
    arguments = [a for suite in suites for a in ("--suite", suite)]
    with cell.phase("programs"):
        code, out = run(["meson", "test", "-C", cell.folder, "--no-rebuild",
                         "--print-errorlogs", f"--timeout-multiplier={factor}",
                         f"--num-processes={JOBS + 1}", *arguments], 1200, env)
    tests = []
    if log.exists():
        tests = [json.loads(line) for line in log.read_text().splitlines()]
    if not tests:
        cell.fail(f"meson test: nothing ran ({explain(code)})", out)
    before = len(cell.failed)
    for test in tests:
        count_meson_test(cell, test)
    if code != 0 and len(cell.failed) == before:
        cell.fail(f"meson test ({explain(code)})", out)


def count_junit(cell, path):
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            cell.fail(name, bad.get("message", "") + "\n" + (bad.text or ""))
        elif skipped is not None:
            cell.skip(name, skipped.get("message", ""))
        else:
            cell.passed += 1


# What takes long and is run in one cell: virtual machines (sanitizers see the same code with a
# front end of ours), what looks at the machine more than at the code, and peers that have to be
# waited for.
LONG_TESTS = [PROJECT / "tests/e2e" / name for name in (
    "test_bench.py", "test_flips.py", "test_gc_load.py", "test_limits.py",
    "test_older_kernel.py", "test_power_loss.py", "test_resilient.py", "test_rpc_bad_peer.py",
    "test_rpc_faults.py", "test_scale.py", "test_stress.py", "test_torture.py",
    "test_virtiofs_guest.py")]


# What privileges change, beside test_plain_user.py.
PLAIN_TESTS = [PROJECT / "tests/e2e" / name for name in (
    "test_mount.py", "test_read.py", "test_readdir.py", "test_readonly.py",
    "test_resilient.py")]


# What the thread sanitizer would take minutes for, and what it looks at elsewhere: the threads of
# clients and servers in the conformance suite, those of imports and NARs in smaller tests.
SLOW_UNDER_TSAN = [PROJECT / "tests/e2e" / name for name in (
    "test_nix_corpus.py", "test_real_tree.py", "test_remote_store.py", "test_rpc_client.py")]


def run_e2e(cell, slow=1, env=None, timeout=900, left_out=tuple(LONG_TESTS)):
    """All end-to-end tests with this cell's program, but those in left_out."""
    chosen = [*(f"--ignore={path}" for path in left_out), PROJECT / "tests/e2e"]
    run_pytest(cell, cell.folder, chosen, [], slow, env, timeout)


@contextlib.contextmanager
def fuse_for_everybody():
    """As udev has it on every booted Debian."""
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", mode)


def run_e2e_as_user(cell):
    """Mounts by somebody without privileges; root has to begin it."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env"]
    program = cell.folder / "src/cli/cairn"
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        return
    if run([*user, "test", "-x", program, "-a", "-r", PLAIN_TESTS[0]], 30)[0] != 0:
        cell.skip("mounts of a plain user", "other users cannot reach the project")
        return
    with tempfile.TemporaryDirectory() as folder, fuse_for_everybody():
        shutil.chown(folder, "nobody")
        run_pytest(cell, pathlib.Path(folder), ["-m", "not root", *PLAIN_TESTS], user, 1,
                   {"HOME": folder}, 300)


def run_pytest(cell, folder, chosen, prefix, slow, env, timeout):
    report = folder / "e2e.xml"
    report.unlink(missing_ok=True)
    settings = {
        "CAIRN": str(cell.folder / "src/cli/cairn"),
        "CAIRN_HELPERS": str(cell.folder / "tests/e2e"),
        "CAIRN_TEST_SLOW": str(slow),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(env or {}),
    }
    # Tests wait more than they compute: one process more than there are processors. The tests of
    # a file share what it set up.
    with cell.phase("end to end"):
        code, out = run([*prefix, PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rN",
                         f"-n{JOBS + 1}", "--dist=loadfile", "--maxfail=30",
                         f"--junitxml={report}", *chosen], timeout, settings)
    before = len(cell.failed)
    if report.exists():
        count_junit(cell, report)
    if not report.exists() or (code != 0 and len(cell.failed) == before):
        cell.fail(f"pytest ({explain(code)})", out)


def set_randomization(on):
    """Of addresses, for all programs started from now on: they inherit it."""
    no_randomize = 0x0040000
    ctypes.CDLL(None).personality(0 if on else no_randomize)


def check_thread_sanitizer(cell):
    """
    Kernels that randomize more bits of mmap than clang 14 expects make its programs die at
    once: then the tests run without randomization. False when even that does not help.
    """
    source, program = cell.folder / "try.c", cell.folder / "try"
    source.write_text("int main(void) { return 0; }\n")
    code, out = run(["clang", "-fsanitize=thread", source, "-o", program], 60)
    if code != 0:
        cell.fail("thread sanitizer: cannot compile", out)
        return False
    if all(run([program], 30)[0] == 0 for _ in range(5)):
        return True
    set_randomization(False)
    code, out = run([program], 30)
    if code != 0:
        cell.fail("thread sanitizer: its programs do not start", out)
        return False
    return True


def cell_release(cell):
    """gcc, release: unit, plain stores, fuzz corpus, lint, end to end, passed through, as a user"""
    if build(cell, "gcc", ["--buildtype=release"]):
        run_meson_tests(cell, ["unit", "conformance-basic", "fuzz", "lint"])
        run_e2e(cell, left_out=())
        run_e2e(cell, env={"CAIRN_TEST_IO": "passthrough"})
        run_e2e_as_user(cell)


CLANG_OPTIONS = ["--buildtype=debugoptimized"]


def cell_clang(cell):
    """clang: unit, plain stores, fuzz corpus"""
    if build(cell, "clang", CLANG_OPTIONS):
        run_meson_tests(cell, ["unit", "conformance-basic", "fuzz"])


def cell_asan(cell):
    """clang, address and undefined sanitizers: everything"""
    options = ["--buildtype=debugoptimized", "-Db_sanitize=address,undefined",
               "-Db_lundef=false"]
    if build(cell, "clang", options):
        run_meson_tests(cell, ["unit", "conformance", "fuzz"], 4, SANITIZER_OPTIONS)
        run_e2e(cell, 4, {**SANITIZER_OPTIONS, "CAIRN_TEST_CRASHES": "10"})


def cell_tsan(cell):
    """clang, thread sanitizer: unit, composed stores, end to end"""
    options = ["--buildtype=debugoptimized", "-Db_sanitize=thread", "-Db_lundef=false"]
    if not build(cell, "clang", options) or not check_thread_sanitizer(cell):
        return
    try:
        run_meson_tests(cell, ["unit", "conformance-whole"], 8, SANITIZER_OPTIONS)
        run_e2e(cell, 6, {**SANITIZER_OPTIONS_GRPC, "CAIRN_TEST_CRASHES": "10"},
                left_out=[*LONG_TESTS, *SLOW_UNDER_TSAN])
    finally:
        set_randomization(True)


def fuzz_one(folder, name, program, seconds):
    found = folder / "found" / name
    shutil.rmtree(found, ignore_errors=True)
    return fuzzers.fuzz(name, program, [found / "inputs"], found, seconds, SANITIZER_OPTIONS)


def cell_fuzz(cell):
    """each fuzzer for a few seconds"""
    if not build(cell, "clang", fuzzers.BUILD_OPTIONS):
        return
    programs = fuzzers.find(cell.folder)
    if not programs:
        cell.fail("no fuzzers were built")
        return
    seconds = max(1, FUZZ_SECONDS / len(programs))
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for run in pool.map(lambda item: fuzz_one(cell.folder, *item, seconds),
                            programs.items()):
            if run.failed:
                cell.fail(f"fuzz {run.name}: {run.explain()}", run.output)
            elif run.runs == 0:
                cell.fail(f"fuzz {run.name} ran nothing", run.output)
            else:
                cell.passed += 1


def tidy_one(database, path):
    hints = [f"--extra-arg=-include{PROJECT}/tools/tidy_hints.h"]
    if path.endswith("/src/base/error.c"):
        hints = []  # it defines what the hints redefine
    # The analyzer takes most of the time. Tests run under the sanitizers, all of their code.
    checks = ["--checks=-clang-analyzer-*"] if path.startswith(f"{PROJECT}/tests/") else []
    return path, *run(["clang-tidy", "--quiet", "--warnings-as-errors=*", *checks, *hints,
                       "-p", database, path], 600)


def cell_tidy(cell):
    """clang-tidy over src/, and over tests/ without its analyzer"""
    cell.folder = BUILDS / "clang"  # the same build
    if not build(cell, "clang", CLANG_OPTIONS):
        return
    commands = json.loads((cell.folder / "compile_commands.json").read_text())
    paths = sorted({os.path.normpath(os.path.join(c["directory"], c["file"])) for c in commands})
    # Ours, not what is generated in the build directory.
    paths = [p for p in paths if p.endswith(".c") and p.startswith(f"{PROJECT}/")
             and not p.startswith(f"{cell.folder}/")]
    if not paths:
        cell.fail("clang-tidy: no files")
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for path, code, out in pool.map(lambda p: tidy_one(cell.folder, p), paths):
            if code == 0:
                cell.passed += 1
            else:
                cell.fail(f"clang-tidy {os.path.relpath(path, PROJECT)} ({explain(code)})", out)


CELLS = {
    "clang": cell_clang,
    "release": cell_release,
    "asan": cell_asan,
    "tsan": cell_tsan,
    "fuzz": cell_fuzz,
    "tidy": cell_tidy,
}


def run_cell(name):
    cell = Cell(name)
    begin = time.monotonic()
    print(f"== {name}: {CELLS[name].__doc__.strip()}", flush=True)
    BUILDS.mkdir(parents=True, exist_ok=True)
    try:
        CELLS[name](cell)
    except Exception as error:  # a fault of the runner must not pass for success
        cell.fail(f"the cell crashed: {error!r}")
    if cell.passed == 0 and not cell.failed:
        cell.fail("nothing ran")
    phases = ", ".join(f"{what} {seconds:.0f}" for what, seconds in cell.phases)
    print(f"== {name}: {cell.passed} passed, {len(cell.failed)} failed, "
          f"{len(cell.skipped)} skipped, {time.monotonic() - begin:.0f} s"
          f"{f' ({phases})' if phases else ''}", flush=True)
    return cell


def stop(number, _):
    sys.exit(128 + number)


def main():
    signal.signal(signal.SIGTERM, stop)
    arguments = sys.argv[1:]
    if "--list" in arguments:
        for name, function in CELLS.items():
            print(f"{name:10}{function.__doc__.strip()}")
        return 0
    if "-h" in arguments or "--help" in arguments:
        print(__doc__.strip())
        return 0
    unknown = [a for a in arguments if a not in CELLS]
    if unknown:
        print(f"unknown cell {unknown[0]}; there are: {' '.join(CELLS)}", file=sys.stderr)
        print("tests: 0 passed, 1 failed, 0 skipped")
        return 1
    cells = [run_cell(name) for name in arguments or CELLS]
    failed = [f"{cell.name}: {what}" for cell in cells for what in cell.failed]
    if failed:
        print("\nFailed:")
        for what in failed:
            print(f"  {what}")
    print(f"tests: {sum(c.passed for c in cells)} passed, {len(failed)} failed, "
          f"{sum(len(c.skipped) for c in cells)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
