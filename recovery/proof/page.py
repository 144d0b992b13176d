"""A plan as one self-contained HTML page: steps as a graph to zoom and search, the critical path, reasons. Pure text.

Nothing is fetched and nothing but our own script runs (Content-Security-Policy by its digest); names from Git are data
and reach the page as text only. Never here: what a plan says (`listing.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


def page(body: Mapping[str, Any]) -> str:
    """Give the page of a plan (`listing.plan_body`)."""
    folder = resources.files("recovery.proof")
    script = folder.joinpath("plan.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Inside <script> only `<` can end the data; JSON has an escape for it.
    data = json.dumps(body, ensure_ascii=True).replace("<", "\\u003c")
    frame = folder.joinpath("plan.html").read_text().replace("@HASH@", f"sha256-{digest}")
    before, _, rest = frame.partition("@PLAN@")
    middle, _, after = rest.partition("@SCRIPT@")
    return before + data + middle + script + after
