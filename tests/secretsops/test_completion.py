"""Shell completion: the script is valid in its shell and the commands answer it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def test_bash_accepts_the_script_and_completes_a_command() -> None:
    """`secretsops re<TAB>` offers `recover`, through the script that bash itself has loaded."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not on the PATH")
    script = (
        'eval "$(secretsops completion bash | sed "s/-o nosort//")"\n'
        "COMP_WORDS=(secretsops re); COMP_CWORD=1; _secretsops_completion secretsops re secretsops\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["recover"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_for_both_commands(shell: str) -> None:
    """The script names both programs and the variable that click answers to."""
    done = subprocess.run([BIN / "secretsops", "completion", shell], capture_output=True, text=True, check=True)
    assert "_SECRETSOPS_COMPLETE" in done.stdout
    assert "_SEAL_COMPLETE" in done.stdout
