"""JSON, YAML and base-N for templates (sprig v3.3.0; `toYaml`, `fromYaml` of External Secrets 2.9 and Argo CD). Pure.

Compat: `b64dec`, `b32dec` and `hexdec` give the text of an error instead of failing, `fromJson` gives nil, `toJson`
nothing: as with the peers, a template that decodes rubbish renders.

What never lives here: how JSON and YAML are written.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from secretsops.templating import gojson, goyaml
from secretsops.templating.evaluator import Run
from secretsops.templating.signature import CallFailed, Function, function


def decode_base64(text: bytes, *, url: bool = False) -> tuple[bytes, int]:
    """Give the bytes of padded base64, and the offset of the first one that is wrong (-1: none).

    Line breaks are skipped and anything else is refused, as Go's decoder does.
    """
    alphabet = _URL if url else _STANDARD
    packed = text.translate(None, b"\r\n")
    bare = packed.rstrip(b"=")
    is_whole = len(packed) % 4 == 0 and len(packed) - len(bare) <= 2 and len(bare) % 4 != 1
    if is_whole and not bare.translate(None, alphabet):
        return binascii.a2b_base64(packed.translate(_TO_STANDARD) if url else packed), -1
    return b"", _first_wrong(text, alphabet)


_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL = _STANDARD[:-2] + b"-_"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def _first_wrong(text: bytes, alphabet: bytes) -> int:
    """Give the offset Go's decoder names in `illegal base64 data at input byte N`."""
    count, allowed = 0, set(alphabet)
    for position, byte in enumerate(text):
        if byte in b"\r\n":
            continue
        if byte == 61 and count % 4 >= 2:
            rest = text[position + 1 :]
            tail = rest.lstrip(b"\r\n")
            if count % 4 == 2:
                if not tail.startswith(b"="):
                    return len(text) if not tail else len(text) - len(tail) - 1
                after = tail[1:].lstrip(b"\r\n")
                return position if not after else len(text) - len(after)
            return len(text) - len(tail) if tail else position
        if byte not in allowed:
            return position
        count += 1
    return len(text) - count % 4 if count % 4 else len(text)


def _b64dec(text: bytes) -> bytes:
    value, wrong = decode_base64(text)
    return value if wrong < 0 else b"illegal base64 data at input byte %d" % wrong


def _b32dec(text: bytes) -> bytes:
    packed = text.translate(None, b"\r\n")
    try:
        return base64.b32decode(packed)
    except (binascii.Error, ValueError):
        allowed = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        wrong = next((at for at, byte in enumerate(packed) if byte not in allowed), None)
        wrong = len(packed) // 8 * 8 if wrong is None else wrong
        return b"illegal base32 data at input byte %d" % wrong


def _hexdec(text: bytes) -> bytes:
    try:
        if len(text) % 2 == 0:
            return binascii.unhexlify(text)
    except binascii.Error:
        pass
    for byte in text:
        if chr(byte) not in "0123456789abcdefABCDEF":
            shown = f"U+{byte:04X}" + (f" '{chr(byte)}'" if 32 <= byte < 127 else "")
            return f"encoding/hex: invalid byte: {shown}".encode()
    return b"encoding/hex: odd length hex string"


def _json(run: Run, value: Any, *, must: bool, html: bool = True, indent: int = 0) -> bytes:
    try:
        return gojson.encode(value, run.meter, html=html, indent=indent)
    except gojson.NoJson:
        if must:
            raise CallFailed("the value has no JSON") from None
        return b""


def _from_json(run: Run, text: bytes, *, must: bool) -> Any:
    try:
        return gojson.decode(text, run.meter)
    except gojson.NoJson:
        if must:
            raise CallFailed("the text is no JSON") from None
        return None


def _from_yaml(run: Run, text: bytes) -> dict[bytes, Any]:
    """Give a mapping; what is no YAML mapping gives one key, `Error` (External Secrets `template/v2/yaml.go`)."""
    try:
        value = goyaml.decode(text, run.meter)
    except goyaml.NoYaml as error:
        return {b"Error": f"error converting YAML to JSON: {error.problem}".encode()}
    if value is None:
        return {}
    if not isinstance(value, dict):
        what = goyaml.json_kind(value)
        told = f"json: cannot unmarshal {what} into Go value of type map[string]interface {{}}"
        return {b"Error": f"error unmarshaling JSON: while decoding JSON: {told}".encode()}
    return value


def _from_yaml_array(run: Run, text: bytes) -> list[Any]:
    try:
        value = goyaml.decode(text, run.meter)
    except goyaml.NoYaml as error:
        return [f"error converting YAML to JSON: {error.problem}".encode()]
    return value if isinstance(value, list) else [] if value is None else [b"the text is no YAML list"]


def _to_yaml(run: Run, value: Any) -> bytes:
    try:
        return goyaml.encode(value, run.meter)
    except gojson.NoJson:
        return b""


def _b64enc(run: Run, text: bytes) -> bytes:
    run.meter.grow(len(text) * 4 // 3)
    return base64.b64encode(text)


TABLE: dict[str, Function] = {
    "b64enc": function("string", _b64enc, run=True),
    "b64dec": function("string", _b64dec),
    "b32enc": function("string", base64.b32encode),
    "b32dec": function("string", _b32dec),
    "toJson": function("any", lambda run, value: _json(run, value, must=False), run=True),
    "toPrettyJson": function("any", lambda run, value: _json(run, value, must=False, indent=2), run=True),
    "toRawJson": function("any", lambda run, value: _json(run, value, must=True, html=False), run=True),
    "mustToJson": function("any", lambda run, value: _json(run, value, must=True), run=True),
    "mustToPrettyJson": function("any", lambda run, value: _json(run, value, must=True, indent=2), run=True),
    "mustToRawJson": function("any", lambda run, value: _json(run, value, must=True, html=False), run=True),
    "fromJson": function("string", lambda run, text: _from_json(run, text, must=False), run=True),
    "mustFromJson": function("string", lambda run, text: _from_json(run, text, must=True), run=True),
}
YAML: dict[str, Function] = {
    "toYaml": function("any", _to_yaml, run=True),
    "fromYaml": function("string", _from_yaml, run=True),
}
YAML_ARRAY: dict[str, Function] = {"fromYamlArray": function("string", _from_yaml_array, run=True)}
HEX: dict[str, Function] = {"hexdec": function("string", _hexdec)}
