"""What `seal` costs: one call with a local certificate, and many Secrets in one call.

`python -m tests.bench sealing` prints CPU milliseconds beside what no program could avoid: a bare interpreter, and raw
RSA of the same key in the same run. `KUBESEAL=/path/to/kubeseal` adds the peer. Modules are compiled once, as
an installation has them, whatever the environment says of that (PYTHONDONTWRITEBYTECODE doubles the figure).
"""

from __future__ import annotations

import datetime as dt
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from secretsops.sealing.keys import KeyPair, generate

DOCUMENTS, ITEMS, RUNS = 2000, 3, 5
_SEAL = [sys.executable, "-c", "from secretsops.cli import seal; seal()"]


def main() -> None:
    """Print the table."""
    key = generate(now=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate, one, many = folder / "cert.pem", folder / "one.yaml", folder / "many.yaml"
        certificate.write_bytes(key.certificate.pem)
        one.write_text(_secret(0))
        many.write_text("".join(_secret(number) for number in range(DOCUMENTS)))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
        programs = {"seal": _SEAL}
        if peer := os.environ.get("KUBESEAL"):
            programs["kubeseal"] = [peer, "-o", "yaml"]
        bare, _ = _best([sys.executable, "-c", "pass"])
        raw = _raw(key)
        print(f"{'bare Python':28} {bare * 1000:8.1f} ms CPU")
        print(f"{'raw RSA-4096, one item':28} {raw * 1000:8.3f} ms CPU")
        for program, command in programs.items():
            arguments = [*command, "--cert", str(certificate)]
            single, wall = _best([*arguments, "-f", str(one)])
            bulk, bulk_wall = _best([*arguments, "-f", str(many)], runs=2)
            item = (bulk - single) / (DOCUMENTS * ITEMS)
            print(f"{program + ', one Secret':28} {single * 1000:8.1f} ms CPU  {wall * 1000:8.1f} ms wall")
            print(
                f"{program + ', per item in bulk':28} {item * 1000:8.3f} ms CPU  "
                f"{item / raw:.2f} x raw RSA, {bulk_wall:.1f} s for {DOCUMENTS * ITEMS} items"
            )


def _secret(number: int) -> str:
    values = "".join(f"  key-{item}: dmFsdWUtb2YtYS1zZWNyZXQtMDEyMzQ1Njc4OQ==\n" for item in range(ITEMS))
    head = f"---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: app-{number}\n  namespace: team-{number % 10}\n"
    return f"{head}  labels:\n    app: app-{number}\ntype: Opaque\ndata:\n{values}"


def _raw(key: KeyPair) -> float:
    """Give the CPU seconds of sealing one session key, and nothing else."""
    label = b"team-1/app-1"

    def once() -> None:
        for _ in range(500):
            oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=label)
            key.certificate.public.encrypt(os.urandom(32), oaep)

    return min(_timed(once) for _ in range(RUNS)) / 500


def _timed(work: Callable[[], None]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _best(command: Sequence[str], *, runs: int = RUNS) -> tuple[float, float]:
    """Give the least CPU and wall seconds of several runs, children of children included."""
    found = []
    for _ in range(runs):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((cpu, time.monotonic() - begun))
    return min(cpu for cpu, _ in found), min(wall for _, wall in found)
