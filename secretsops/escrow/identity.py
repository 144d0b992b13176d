"""age identity files as people keep them: read, and refused where others can read them too.

Never here: what an identity opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secretsops.errors import UsageError
from secretsops.secret import Plaintext

IDENTITY_LIMIT = 1024 * 1024


def read_identities(files: Sequence[str]) -> list[Plaintext]:
    """Give the contents of identity files.

    Raises:
        UsageError: one cannot be read, or everybody on this machine can read it.
    """
    found = []
    for name in files:
        path = Path(name)
        try:
            if path.stat().st_mode & 0o077:
                raise UsageError(
                    f"{name} can be read by others", reason="OpenIdentity", hint=f"chmod 600 {name}, and think who did"
                )
            with path.open("rb") as file:
                found.append(Plaintext(file.read(IDENTITY_LIMIT)))
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}", reason="NoIdentity") from None
    return found
