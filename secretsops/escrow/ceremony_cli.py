"""`secretsops escrow ceremony` and `combine`: split one recovery identity among custodians, put it together again.

Words are shown on a terminal alone, one custodian after the other, or written to a file each.

Never here: the proof that every subset opens (`ceremony.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from secretsops.errors import Refused, UsageError
from secretsops.escrow.ceremony import Ceremony, hold
from secretsops.escrow.identity import read_identities
from secretsops.files import write_atomic, write_output
from secretsops.ports import Doors
from secretsops.secret import Plaintext


@click.command(epilog="Example: secretsops escrow ceremony --threshold 3 --custodian alice --custodian bob ...")
@click.option("--custodian", "custodians", multiple=True, required=True, help="Name of a custodian; repeat for each.")
@click.option("--threshold", required=True, type=int, help="How many of them are needed together.")
@click.option("--out", default="", metavar="FOLDER", help="Write each share to a file of its own instead.")
@click.pass_obj
def ceremony(doors: Doors, /, custodians: tuple[str, ...], threshold: int, out: str) -> None:
    """Make a recovery identity, split into words for custodians; prints the recipient.

    Do this on a machine without a network. Every subset of custodians is tried before anything is shown.
    """
    if len(set(custodians)) != len(custodians) or not all(name.replace("-", "").isalnum() for name in custodians):
        raise UsageError("each custodian has a name of its own: letters, digits, -", reason="Usage")
    if not out and not _at_a_terminal():
        raise Refused(
            "words are shown on a terminal only",
            reason="NoTerminal",
            hint="run it there, or give --out FOLDER on a memory file system",
        )
    held = hold(doors.age(), doors.shares(), threshold=threshold, count=len(custodians))
    if out:
        _write(held, custodians, Path(out))
    else:
        _show(held, custodians)
    write_output(f"{held.recipient}\n".encode())
    click.echo(f"{held.subsets} subset(s) of {held.threshold} custodians open what it seals", err=True)


@click.command(
    epilog="Example: secretsops escrow combine --share alice.txt --share bob.txt --share eve.txt --out key.txt"
)
@click.option("--share", "files", multiple=True, help="File with the words of a custodian.  [default: asked for]")
@click.option("--out", required=True, metavar="FILE", help="Where the identity goes; best on a memory file system.")
@click.option("--threshold", default=0, help="How many custodians are asked.")
@click.pass_obj
def combine(doors: Doors, /, files: tuple[str, ...], out: str, threshold: int) -> None:
    """Put the identity together from enough shares."""
    if Path(out).exists():
        raise UsageError(f"{out} is there already", reason="FileExists", hint="name a new file")
    shares = read_identities(files)
    if not shares:
        if threshold < 1 or not _at_a_terminal():
            raise UsageError("give --share files, or --threshold at a terminal", reason="Usage")
        for number in range(1, threshold + 1):
            words = click.prompt(f"Words of custodian {number}", hide_input=True, err=True)
            shares.append(Plaintext(str(words).encode()))
    identity = doors.shares().combine(shares)
    write_atomic(Path(out), identity.reveal() + b"\n", mode=0o600)
    click.echo(f"the identity is in {out}; destroy it when you are done", err=True)


def _write(held: Ceremony, custodians: tuple[str, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = [folder / f"{name}.txt" for name in custodians]
    if taken := [file.name for file in files if file.exists()]:
        raise UsageError(f"{taken[0]} is there already", reason="FileExists", hint="name a new folder")
    for file, share in zip(files, held.shares, strict=True):
        write_atomic(file, share.reveal() + b"\n", mode=0o600)


def _show(held: Ceremony, custodians: tuple[str, ...]) -> None:
    """Show each custodian the words alone, on the terminal itself, and clear it in between."""
    with Path("/dev/tty").open("w", encoding="utf-8") as screen:
        for name, share in zip(custodians, held.shares, strict=True):
            click.prompt(f"{name} alone in front of the screen? Press Enter", default="", show_default=False, err=True)
            screen.write(f"\n{_numbered(share)}\n\n")
            screen.flush()
            click.prompt("Written down and checked? Press Enter", default="", show_default=False, err=True)
            screen.write("\x1b[2J\x1b[3J\x1b[H")
            screen.flush()


def _numbered(share: Plaintext) -> str:
    words = share.reveal().decode().split()
    rows = [words[start : start + 3] for start in range(0, len(words), 3)]
    return "\n".join(
        "  ".join(f"{3 * row + column + 1:>2} {word:<10}" for column, word in enumerate(line))
        for row, line in enumerate(rows)
    )


def _at_a_terminal() -> bool:
    return sys.stdin.isatty() and Path("/dev/tty").exists()
