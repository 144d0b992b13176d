"""Many Secrets in one call: cut at document boundaries, sealed by several processes, in order, in bounded memory."""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given

from secretsops.cli import run
from secretsops.errors import UsageError
from secretsops.files import Spool, open_input
from secretsops.manifest import load_values
from secretsops.sealing import bulk
from secretsops.sealing.chunks import Chunk, chunks
from secretsops.sealing.cli import seal
from secretsops.sealing.keys import KeyPair, KeyRing
from secretsops.sealing.sealed import open_items
from secretsops.sealing.sealed_file import sealed_secrets
from tests.secretsops.sealing.test_cli import Doors, ProxyCluster


def secret(number: int) -> str:
    value = base64.b64encode(b"canary-%d" % number).decode()
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata:\n  name: app-{number}\n  namespace: shop\ndata:\n"
        f"  a: {value}\n  b: {value}\nstringData:\n  text: |\n    one\n     --- no marker\n"
    )


def pieces(text: str, size: int) -> list[Chunk]:
    return list(chunks(text.encode().splitlines(keepends=True), size=size))


# --- cutting -------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(
            [
                "---\n",
                "--- # c\n",
                "a: 1\n",
                "b: |\n",
                "  ---\n",
                "# c\n",
                "...\n",
                "\n",
                "---x: 1\n",
                "%YAML 1.1\n",
                "---",
            ]
        ),
        max_size=14,
    ),
    st.integers(0, 40),
)
def test_pieces_put_together_are_the_stream(lines: list[str], size: int) -> None:
    """Nothing is lost; every piece but the first starts a document; numbers count from the start of the stream."""
    text = "".join(lines)
    found = pieces(text, size)
    assert b"".join(chunk.content for chunk in found) == text.encode()
    for chunk in found[1:]:
        assert chunk.content.startswith(b"---")
    assert [chunk.line for chunk in found] == [
        1 + sum(one.content.count(b"\n") for one in found[:position]) for position in range(len(found))
    ]


@given(st.lists(st.dictionaries(st.text("ab-{}\"'\\", max_size=4), st.text('-{}[]"\\\n ', max_size=6)), max_size=6))
def test_documents_of_the_pieces_are_those_of_the_whole(bodies: list[dict[str, str]]) -> None:
    """As YAML and as a stream of JSON objects, indented or not, with every brace and quote in the strings."""
    for text in (
        yaml.safe_dump_all(bodies, explicit_start=True),
        "".join(json.dumps(body) + "\n" for body in bodies),
        "".join(json.dumps(body, indent=1) + "\n" for body in bodies),
    ):
        whole = list(load_values(text.encode()))
        parts = pieces(text, 1)
        found = [value for chunk in parts for value in load_values(chunk.content)]
        assert whole == found
        assert [chunk.document for chunk in parts] == [
            1 + sum(len(list(load_values(one.content))) for one in parts[:position]) for position in range(len(parts))
        ]


def test_flow_yaml_that_begins_like_json_is_not_cut_inside() -> None:
    """A brace in single quotes is none of JSON's business."""
    text = "{a: '}',\n b: c}\n---\n{a: '{'}\n---\nd: e\n"
    found = [value for chunk in pieces(text, 1) for value in load_values(chunk.content)]
    assert found == list(load_values(text.encode()))


def test_a_document_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="from line 1 on is larger"):
        list(chunks((b"x" * 1000 + b"\n" for _ in range(10_000)), limit=100_000))


# --- sealing -------------------------------------------------------------------------------------------


def call(arguments: list[str]) -> int:
    return run(seal, arguments, prog="seal", doors=Doors(ProxyCluster()))


@pytest.mark.parametrize("processors", [1, 2])
def test_order_and_values_survive_several_processes(
    processors: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key_folder: Path, echo: KeyPair
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(chunks, "__kwdefaults__", {"size": 2000, "limit": 10**6})
    source, target = tmp_path / "in.yaml", tmp_path / "out.yaml"
    source.write_text("---\n".join(secret(number) for number in range(60)))
    certificate = str(key_folder / "echo2048" / "tls.crt")
    assert call(["--cert", certificate, "-f", str(source), "-w", str(target)]) == 0
    found = sealed_secrets(target.read_bytes(), source="out")
    assert [one.manifest.name for one in found] == [f"app-{number}" for number in range(60)]
    for number in (0, 31, 59):
        values, _ = open_items(found[number].manifest, KeyRing([echo]))
        assert values["a"].reveal() == b"canary-%d" % number
        assert values["text"].reveal() == b"one\n --- no marker\n"


@pytest.mark.parametrize("processors", [1, 2])
def test_a_bad_document_late_in_the_stream_is_named_and_nothing_is_written(
    processors: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    key_folder: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Line and document are those of the stream; --stream has written what was sealed before."""
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    monkeypatch.setattr(chunks, "__kwdefaults__", {"size": 2000, "limit": 10**6})
    good = [secret(number) for number in range(40)]
    for bad, told in (("kind: Secret\n\t: {\n", "line 522"), ("kind: ConfigMap\napiVersion: v1\n", "document 41")):
        source = tmp_path / "in.yaml"
        source.write_text("---\n".join([*good, bad]))
        arguments = ["--cert", str(key_folder / "echo2048" / "tls.crt"), "-f", str(source)]
        assert call(arguments) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert told in err
        assert "canary" not in err
        assert call([*arguments, "--stream"]) == 1
        assert capfd.readouterr().out.count("kind: SealedSecret") >= 30


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("megabytes", [24, pytest.param(1500, marks=pytest.mark.nightly)])
def test_a_large_stream_stays_small_in_memory(key_folder: Path, megabytes: int) -> None:
    """It goes through a pipe with a few hundred kilobytes at a time in any process, however long it is."""
    program = (
        "import re, resource, sys\n"
        "from secretsops.cli import seal\n"
        "try: seal()\n"
        "finally:\n"
        # Not RUSAGE_SELF: through vfork and exec it keeps what the process that started this one held.
        "    own = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "    print(max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=sys.stderr)"
    )
    arguments = ["--cert", str(key_folder / "echo2048" / "tls.crt"), "--stream"]
    filler = "x" * 200_000
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for number in range(megabytes * 5):
            process.stdin.write(f"---\n{secret(number)}  filler: {filler}\n".encode())
        process.stdin.close()
        used = int(process.stderr.read().split()[-1])
        assert process.wait(60) == 0
    assert used < 120 * 1024, f"{used} KiB"


def test_output_beyond_the_limit_is_held_in_a_file() -> None:
    spool = Spool(limit=10)
    for part in (b"12345", b"67890", b"more", b"and more"):
        spool.write(part)
    assert b"".join(spool) == b"1234567890moreand more"
    assert spool._parts == []
    spool.close()


def test_a_line_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100)
    with open_input(str(tmp_path / "one"), limit=50) as (lines, size):
        assert size == 100
        with pytest.raises(UsageError):
            next(lines)


def test_progress_shows_after_a_second_on_a_terminal_only(capfd: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    progress = bulk.Progress(1000, monotonic=lambda: now[0])
    progress.show()
    now[0] = 2.0
    progress.show()
    assert capfd.readouterr().err == ""
    progress._terminal = True
    list(progress.lines([b"x" * 500]))
    progress.show()
    progress.end()
    assert " 50 %" in capfd.readouterr().err


def test_bulk_costs_little_per_item(tmp_path: Path, key_folder: Path) -> None:
    """Against raw RSA in the same process: reading, writing and all the rest cost less than twice as much."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    from secretsops.sealing.certificate import read_certificate

    path = key_folder / "alpha" / "tls.crt"
    (tmp_path / "in.yaml").write_text("---\n".join(secret(number) for number in range(400)))
    public = read_certificate(path.read_bytes()).public

    def spent() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        )

    ratios = []
    for _ in range(3):
        begun = spent()
        for _ in range(1200):
            oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=b"shop/app")
            public.encrypt(os.urandom(32), oaep)
        raw, begun = spent() - begun, spent()
        assert call(["--cert", str(path), "-f", str(tmp_path / "in.yaml"), "-w", str(tmp_path / "out.yaml")]) == 0
        ratios.append((spent() - begun) / raw)
    assert min(ratios) < 3.0
