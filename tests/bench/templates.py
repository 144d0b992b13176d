"""Templates: what it costs to load the engine, to read a template, to render it; and what a hostile one may cost.

Beside each figure that of gotpl, another engine in Python, in the same run.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from secretsops.errors import TemplateFailed
from secretsops.templating import Template, external_secrets

URL = "postgresql://{{ .username }}:{{ .password | urlquery }}@{{ .host }}:{{ .port }}/app?sslmode=require"
LOOP = "{{ range $k, $v := . }}{{ $k | upper }}={{ $v | quote }}\n{{ end }}"
VALUES = {"username": "svc", "password": 'p"w', "host": "db.example", "port": "5432"}
HOSTILE = "{{ range until 9999 }}{{ range until 9999 }}{{ end }}{{ end }}"


def _imported(module: str) -> float:
    """Give CPU milliseconds of importing a module in a fresh process, least of five; the package itself not counted."""
    program = f"import secretsops, time; t = time.process_time(); import {module}; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs) * 1e3


def _microseconds(work: Callable[[], object], count: int = 2000) -> float:
    began = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - began) / count * 1e6


def main() -> None:
    """Print the table."""
    import gotpl
    from gotpl.funcs.sprig.registry import text_func_map

    table, theirs = external_secrets(), text_func_map()
    data = {key: text.encode() for key, text in VALUES.items()}
    mine, strange = _imported("secretsops.templating"), _imported("gotpl.funcs.sprig.registry")
    print(f"{'import':<34}{mine:9.0f} ms   gotpl {strange:6.0f}")
    for name, text in (("url", URL), ("loop over 4 keys", LOOP)):
        ours, other = Template.parse(text, functions=table), gotpl.Template(text, functions=theirs)
        read = _microseconds(lambda text=text: Template.parse(text, functions=table))  # type: ignore[misc]
        other_read = _microseconds(lambda text=text: gotpl.Template(text, functions=theirs), 200)  # type: ignore[misc]
        run = _microseconds(lambda ours=ours: ours.render(data))  # type: ignore[misc]
        other_run = _microseconds(lambda other=other: other.render(VALUES), 200)  # type: ignore[misc]
        print(f"{name + ': read':<34}{read:9.0f} us   gotpl {other_read:6.0f}")
        print(f"{name + ': render':<34}{run:9.0f} us   gotpl {other_run:6.0f}")
    began = time.thread_time()
    try:
        Template.parse(HOSTILE, functions=table).render({})
    except TemplateFailed as error:
        print(f"{'a hundred million turns: refused':<34}{(time.thread_time() - began) * 1e3:9.0f} ms   {error.problem}")
