"""One template as the recorded cases ask for it, through the product's own code: for the tests here and for replays.

python3 replay.py eso-templates --callable tests.conformance.render_template:render
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secretsops.external.template import fill
from secretsops.secret import Plaintext


def render(template: str, data: Mapping[str, bytes], scope: str, target: str, decoding: str) -> dict[str, Any]:
    """Give data, labels and annotations of a Secret made by a template that stands under the key `out`."""
    held = {"out": template.encode("utf-8", "surrogateescape")}
    source = {"configMap": {"name": "t", "items": [{"key": "out", "templateAs": scope}]}, "target": target}
    body = {"templateFrom": [{**source, "valuesDecodingStrategy": decoding}]}
    filled = fill(body, {key: Plaintext(value) for key, value in data.items()}, lambda _kind, _name: held)
    return {
        "data": {key: value.reveal() for key, value in filled.values.items()},
        "labels": dict(filled.labels),
        "annotations": dict(filled.annotations),
    }
