"""Pages and texts of a run: nothing in a record becomes markup, every figure is there, a browser shows it all."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drills.evidence.chain import verify
from drills.evidence.facts import read_facts, shown
from drills.evidence.findings import controls, remarks, summed_up
from drills.evidence.history import cron, outcomes, slots
from drills.evidence.junit import junit
from drills.evidence.markdown import markdown, summary
from drills.evidence.metrics import SERIES, alert_rules, openmetrics
from drills.evidence.page import Provenance, page
from drills.record import SECTIONS, ended_record, of_report
from tests.drills.evidence.chains import DAY, chain, report, run

EVIL = "<script>alert(1)</script>\"'&|`@all\x00]]>\u202e"
SECRETS = {
    "expected": 2,
    "recovered": 1,
    "perKey": [
        {"name": "shop/db", "source": "sealed", "verdict": "recovered", "note": ""},
        {"name": "shop/mail", "source": "vault", "verdict": "missing", "note": "denied"},
    ],
}


def record(body: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    made = ended_record(run(1), {**of_report(body or report()), "secrets": SECRETS, **sections}, ended=DAY)
    assert isinstance(made, dict)
    return made


RUNS = outcomes(verify(chain(5).files).links, now="2026-02-01T00:00:00Z")
POPULATION = slots(RUNS, cron("daily"), since=DAY, until=DAY.replace(day=14))


def drawn(body: dict[str, Any]) -> str:
    return page(read_facts(body), provenance=Provenance(), runs=RUNS, population=POPULATION)


class _Page(HTMLParser):
    """Tags that are open, and what must not be there."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag not in ("meta", "rect", "line", "circle", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "circle", "path", "polyline"):
            assert self.open.pop() == tag


def test_a_page_is_whole_and_fetches_nothing() -> None:
    """Every tag is closed, nothing is loaded or run; every picture has a title, and its figures in a table."""
    text = drawn(record())
    found = _Page()
    found.feed(text)
    assert found.open == []
    assert found.tags & {"script", "link", "img", "iframe", "object", "form", "input"} == set()
    assert found.addresses == []
    assert "url(" not in text
    assert "default-src 'none'" in text
    assert text.count('role="img" aria-labelledby=') == text.count("<svg ") == 4
    for words in (
        "42.0 s",
        "90.0 s",
        "shop/mail",
        "✗ missing",
        "Critical path",
        "supports:",
        "rebuild: apps",
        "A.8.13",
    ):
        assert words in text, words


def test_what_a_record_says_never_becomes_markup() -> None:
    """Hostile names in every text of a record, for the page, Markdown and JUnit."""

    def poisoned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: poisoned(each) for key, each in value.items()}
        if isinstance(value, list):
            return [poisoned(each) for each in value]
        return EVIL if isinstance(value, str) else value

    body = poisoned(record())
    text = drawn(body)
    assert "<script>" not in text
    found = _Page()
    found.feed(text)
    assert (found.open, "script" in found.tags) == ([], False)
    told = markdown(read_facts(body), RUNS)
    assert "<script>" not in told
    assert "@all" not in told
    assert "\n\n|" in told
    ET.fromstring(junit(read_facts(body)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_keys := sorted(
        {"event", "monotonicMs", "durationMs", "parts", "ok", "name", "verdict", "id", "met", "rpa", *SECTIONS}
    )), inner, max_size=4),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(SECTIONS)), JSON, max_size=8))
@settings(max_examples=50, deadline=None)
def test_every_rendering_survives_any_record(body: dict[str, Any]) -> None:
    """A record of any shape is drawn as far as it makes sense; it never passes by being odd."""
    facts = read_facts(body)
    _Page().feed(drawn(body))
    ET.fromstring(junit(facts))
    markdown(facts)
    summary(facts)
    if body.get("verdict") != "passed":
        assert 'failures="0" errors="0"' not in junit(facts).splitlines()[1]


def test_junit_never_skips() -> None:
    """What failed is a failure, what is not known an error; a skipped test would be green in most tools."""
    made = record(report(verdict="failed"), checks=[{"id": "a", "verdict": "skip"}, {"id": "b", "verdict": "fail"}])
    suite = ET.fromstring(junit(read_facts(made)))
    assert (suite.get("errors"), suite.get("failures"), suite.get("skipped")) == ("1", "2", "0")
    assert len(suite.findall(".//testcase")) == int(suite.get("tests") or 0)
    assert 'errors="0"' in junit(read_facts(record()))
    held = record(report(), verdict="inconclusive", message="a stand-in")
    assert ET.fromstring(junit(read_facts(held))).get("errors") == "1"


def test_findings_and_controls_say_what_there_is() -> None:
    """A failed run supports a test having been made, with its verdict; nothing measured supports nothing."""
    facts = read_facts(record(report(verdict="failed", recovered=100)))
    severities = [each.severity for each in remarks(facts)]
    assert severities == sorted(severities, key=["high", "medium", "low"].index)
    told = [each.text for each in remarks(facts)]
    assert "Control-plane RTO: 100.0 s, the objective is 90.0 s" in told
    rows = {each.clause: each for each in controls(facts)}
    assert set(rows) == {"A1.2", "A1.3", "CC7.5", "A.5.30", "A.8.13"}
    assert "verdict failed" in rows["A1.3"].supports
    assert not any(each.supported for each in controls(read_facts({})))
    assert summed_up(read_facts({})) == "Nothing was recovered: the run ended before that. What was lost is not known."


def test_openmetrics_and_the_alerts_speak_of_the_same() -> None:
    """Every series has type, help and a number; no alert asks for a series that there is not."""
    text = openmetrics(RUNS, POPULATION)
    assert text.endswith("# EOF\n")
    for line in text.splitlines()[:-1]:
        assert re.fullmatch(r"# (TYPE|HELP) \w+ .+|\w+(\{scenario=\"[^\"]*\"\})? -?[0-9.]+", line), line
    assert 'last_recovery_seconds{scenario="cluster-lost"} 42.000' in text
    rules = alert_rules(namespace="drills", within=100, threshold=25)["spec"]["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"secretsops_drill_(\w+?)(?:\[|\{|\b)", rule["expr"])}
    assert asked <= set(SERIES)
    assert {rule["alert"] for rule in rules} >= {
        "SecretsopsDrillMissed",
        "SecretsopsDrillFailed",
        "SecretsopsDrillSlower",
    }


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(None, "unknown"), (0, "0 s"), (850, "850 ms"), (42_000, "42.0 s"), (-42_000, "-42.0 s"), (185_000, "3 min 05 s"),
     (3_720_000 * 2, "2 h 04 min")],
)  # fmt: skip
def test_times_for_people(milliseconds: int | None, words: str) -> None:
    """Unknown is a word, never a number."""
    assert shown(milliseconds) == words


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium is installed here")
def test_a_browser_shows_the_page_in_light_in_dark_and_on_paper(tmp_path: Path) -> None:
    """Headless Chromium: no complaint on the console, nothing wider than the window, three different pictures."""
    file = tmp_path / "drill.html"
    file.write_text(drawn(record()))

    def chromium(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", *arguments]
        environment = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run(
            [*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True, env=environment
        )

    light, dark, paper = tmp_path / "light.png", tmp_path / "dark.png", tmp_path / "page.pdf"
    said = chromium("--window-size=1120,2400", f"--screenshot={light}").stderr
    chromium("--window-size=1120,2400", "--blink-settings=preferredColorScheme=0", f"--screenshot={dark}")
    chromium("--no-pdf-header-footer", f"--print-to-pdf={paper}")
    assert "CONSOLE" not in said, said
    assert light.stat().st_size > 50_000
    assert dark.read_bytes() != light.read_bytes()
    assert paper.read_bytes().startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) <= 8
