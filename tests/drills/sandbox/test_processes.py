"""Processes die with their owner, however it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drills.sandbox.processes import Process, Processes, await_ready, free_port, start_on_a_port
from secretsops.errors import Timeout, WorldFailed

Wait = Callable[..., None]

OWNER = """
import sys, time
from pathlib import Path
from drills.sandbox.processes import Processes
processes = Processes(Path(sys.argv[1]))
plain = processes.start("plain", ["/bin/sleep", "600"])
# A child that ignores every polite signal and has a child of its own.
stubborn = processes.start("stubborn", ["/bin/sh", "-c", "trap '' TERM INT HUP; /bin/sleep 601 & echo $!; wait; wait"])
while not stubborn.tail():
    time.sleep(0.02)
print(processes.supervisor_pid, plain.pid, stubborn.pid, stubborn.tail(), flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie has)."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() == "" or state.startswith("Z")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path / "processes") as owner:
        yield owner


@pytest.mark.parametrize("victim", ["owner", "supervisor"])
def test_kill_minus_nine_leaves_no_process(victim: str, tmp_path: Path, wait: Wait) -> None:
    """SIGKILL of the owner, or on Linux of the supervisor, ends every process."""
    if victim == "supervisor" and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent died (PR_SET_PDEATHSIG)")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "p")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 4
        os.kill(owner.pid if victim == "owner" else pids[0], signal.SIGKILL)
        # The grandchild goes with its group when the supervisor lives, and is nobody's on the other path.
        watched = pids if victim == "owner" else pids[:3]
        wait(lambda: all(gone(pid) for pid in watched), "every process is gone", seconds=10)
        if victim == "supervisor":
            os.kill(pids[3], signal.SIGKILL)
        owner.kill()


def test_a_forked_copy_of_the_owner_does_not_keep_things_alive(tmp_path: Path, wait: Wait) -> None:
    """A fork holds the pipe open after the owner's death; the supervisor sees another parent and ends all the same."""
    program = OWNER.replace("print(", "import os\nif os.fork() == 0:\n    time.sleep(30)\n    os._exit(0)\nprint(", 1)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "p")], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        os.kill(owner.pid, signal.SIGKILL)
        wait(lambda: all(gone(pid) for pid in pids), "every process is gone", seconds=10)


def test_stop_is_polite_then_not(processes: Processes, wait: Wait) -> None:
    """SIGTERM is obeyed or, after the grace, replaced by SIGKILL; the code says which."""
    polite = processes.start("polite", ["/bin/sleep", "600"])
    polite.stop(5)
    stubborn = processes.start("stubborn", ["/bin/sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"])
    wait(lambda: stubborn.tail() == "on", "the trap is set")
    stubborn.stop(0.2)
    assert (polite.code, stubborn.code) == (-signal.SIGTERM, -signal.SIGKILL)


def test_output_goes_to_a_private_file(processes: Processes, wait: Wait) -> None:
    """Both streams land in NAME.log, readable by the owner alone."""
    process = processes.start("talks", ["/bin/sh", "-c", "echo one; echo two >&2; exit 4"])
    wait(process.ended.is_set, "it ended")
    assert (process.tail(), process.code) == ("one\ntwo", 4)
    assert process.log.stat().st_mode & 0o777 == 0o600


def test_the_environment_is_what_was_given(processes: Processes, wait: Wait, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ours leaks into a process."""
    monkeypatch.setenv("SOME_CREDENTIAL", "x")
    process = processes.start("env", ["/usr/bin/env"], environment={"ONLY": "this"})
    wait(process.ended.is_set, "it ended")
    assert process.tail() == "ONLY=this"


def test_what_cannot_start_says_so(processes: Processes) -> None:
    """A missing program is an error with its name, and the owner goes on working."""
    with pytest.raises(WorldFailed, match="/no/such/program") as refusal:
        processes.start("missing", ["/no/such/program"])
    assert refusal.value.reason == "CannotStart"
    assert processes.start("true", ["/bin/sleep", "0"]).wait(5)


def test_waiting_for_readiness_ends_with_the_process(processes: Processes) -> None:
    """A process that ends before it is ready is an error that quotes it; one that never is, a timeout."""
    ends = processes.start("ends", ["/bin/sh", "-c", "echo cannot bind; exit 9"])
    with pytest.raises(WorldFailed, match="cannot bind"):
        await_ready(ends, lambda: False, seconds=10)
    stays = processes.start("stays", ["/bin/sleep", "600"])
    with pytest.raises(Timeout, match="stays"):
        await_ready(stays, lambda: False, seconds=0.1)


def test_signals_after_the_end_are_harmless(processes: Processes, wait: Wait) -> None:
    """A process id that may belong to somebody else by now is left alone."""
    process = processes.start("short", ["/bin/sleep", "0"])
    wait(process.ended.is_set, "it ended")
    process.signal(signal.SIGKILL)
    process.stop(1)
    processes.close()
    process.kill()
    assert process.code == 0


def test_free_ports_are_free() -> None:
    """Two ports asked for are not the same."""
    assert free_port() != free_port()


def test_free_ports_are_none_of_those_that_outgoing_connections_take() -> None:
    """Between the choice and the listening lie seconds: no connection of somebody else may come in between."""
    assert all(20_000 <= free_port() < 32_000 for _ in range(50))


@pytest.mark.parametrize("silent", [False, True])
def test_a_port_that_somebody_took_in_between_is_tried_anew(processes: Processes, silent: bool) -> None:
    """Whether or not the process says so; what answers on the port meanwhile is not taken for it."""
    chosen: list[int] = []
    with socket.socket() as somebody:

        def begin(port: int) -> Process:
            if not chosen:
                somebody.bind(("127.0.0.1", port))
                somebody.listen()
            chosen.append(port)
            server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
            return processes.start(f"server-{port}", server, log=Path(os.devnull) if silent else None)

        def ready(port: int) -> bool:
            with socket.socket() as caller:
                return len(chosen) > 1 and caller.connect_ex(("127.0.0.1", port)) == 0

        process, port = start_on_a_port(begin, ready, seconds=20)
        assert [port] == chosen[1:]
        assert not process.ended.is_set()


def test_a_process_that_ends_for_another_reason_is_not_tried_anew(processes: Processes) -> None:
    """One start, and its own words."""
    starts: list[int] = []

    def begin(port: int) -> Process:
        starts.append(port)
        return processes.start("broken", ["/bin/sh", "-c", "echo no such thing; exit 3"])

    with pytest.raises(WorldFailed, match="no such thing"):
        start_on_a_port(begin, lambda _: False, seconds=20)
    assert len(starts) == 1
