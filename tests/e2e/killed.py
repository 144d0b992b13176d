"""Runs the command line and dies by SIGKILL at its nth write to the cluster: `python -m tests.e2e.killed N before …`.

`before`: the request never leaves; `after`: it was carried out and its answer is lost with the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from secretsops.adapters.kube_session import Session

READS = frozenset({"GET", "HEAD"})


def main() -> None:
    """Take the place of `secretsops`."""
    number, when, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    send, turn, seen = Session._send, threading.Lock(), [0]

    def counted(self: Session, method: str, *rest: Any) -> Any:
        if method in READS:
            return send(self, method, *rest)
        with turn:
            seen[0] += 1
            dies = seen[0] == number
        if dies and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = send(self, method, *rest)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    Session._send = counted  # type: ignore[method-assign,assignment]
    sys.argv = ["secretsops", *arguments]
    from secretsops.cli import main as run

    run()


if __name__ == "__main__":
    main()
