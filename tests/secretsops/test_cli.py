"""The composition root: exit codes, errors on standard error, sub-commands loaded when called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from secretsops.cli import COMMANDS, RealDoors, _umbrella, run
from secretsops.errors import NotFound, Refused, SecretsOpsError, UsageError
from secretsops.ports import Doors

BIN = Path(sys.executable).parent


def _command(error: BaseException | None = None, code: int | None = None) -> click.Command:
    @click.command()
    @click.option("--number", type=int)
    def command(number: int | None) -> int | None:
        if error is not None:
            raise error
        return code

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (Refused("no"), 1),
        (UsageError("what"), 2),
        (NotFound("gone"), 3),
        (SecretsOpsError("broken"), 3),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BrokenPipeError(), 3),
    ],
)
def test_errors_become_exit_codes(error: BaseException | None, code: int) -> None:
    """0 done, 1 no, 2 usage, 3 the world failed, 130 interrupted."""
    assert run(_command(error), [], prog="x") == code


def test_an_answer_of_no_is_an_exit_code() -> None:
    """A command may return its code."""
    assert run(_command(code=1), [], prog="x") == 1


def test_an_error_says_what_why_and_how_to_cure(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines on standard error, nothing on standard output."""
    run(_command(UsageError("no such file", reason="NoSuchFile", hint="name one")), [], prog="x")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "x: error: no such file (NoSuchFile)\nx: hint: name one\n"


def test_wrong_options_are_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """click's own errors exit with 2."""
    assert run(_command(), ["--number", "x"], prog="x") == 2
    assert run(_command(), ["--unknown"], prog="x") == 2
    assert "Usage" in capsys.readouterr().err


def test_an_unexpected_error_is_not_swallowed() -> None:
    """A bug shows itself."""
    with pytest.raises(ZeroDivisionError):
        run(_command(ZeroDivisionError()), [], prog="x")


def test_doors_of_a_test_reach_the_command() -> None:
    """What `obj` is given is what the command gets."""
    seen: list[object] = []

    @click.command()
    @click.pass_obj
    def command(doors: Doors) -> None:
        seen.append(doors)

    mine = RealDoors()
    run(command, [], prog="x", doors=mine)
    assert seen == [mine]


def test_the_real_doors_are_lazy() -> None:
    """Building them loads no vendor; the clock tells time."""
    program = "import sys; from secretsops.cli import RealDoors; RealDoors().clock.now(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout.split()
    assert not {"kubernetes", "boto3", "hvac", "urllib3", "git"} & {name.partition(".")[0] for name in loaded}


def test_help_lists_every_command() -> None:
    """From the table, importing none of them."""
    done = subprocess.run([BIN / "secretsops", "--help"], capture_output=True, check=True, text=True)
    assert [name for name in COMMANDS if f"  {name} " not in done.stdout] == []


def test_an_unknown_command_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2."""
    assert run(_umbrella, ["nothing"], prog="secretsops") == 2
    assert "nothing" in capsys.readouterr().err
