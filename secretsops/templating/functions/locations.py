"""Paths and URLs for templates (go1.26 `src/path`, `src/net/url`; sprig v3.3.0 `url.go`). Pure: no file is looked at.

What never lives here: fetching anything.
"""

from __future__ import annotations

import re
from typing import Any

from secretsops.templating.gotypes import kind
from secretsops.templating.signature import CallFailed, Function, function


def clean(path: bytes) -> bytes:
    """Give the shortest path of the same meaning (`path.Clean`)."""
    rooted = path.startswith(b"/")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part in {b"", b"."}:
            continue
        if part == b".." and (parts and parts[-1] != b".."):
            parts.pop()
        elif part != b".." or not rooted:
            parts.append(part)
    return (b"/" if rooted else b"") + b"/".join(parts) or b"."


def base(path: bytes) -> bytes:
    """Give the last element (`path.Base`)."""
    if not path:
        return b"."
    return path.rstrip(b"/").rpartition(b"/")[2] or b"/"


def _ext(path: bytes) -> bytes:
    name = path.rpartition(b"/")[2]
    return name[name.rindex(b".") :] if b"." in name else b""


_PATHS = {
    "base": function("string", base),
    "dir": function("string", lambda path: clean(path[: path.rfind(b"/") + 1])),
    "clean": function("string", clean),
    "ext": function("string", _ext),
    "isAbs": function("string", lambda path: path.startswith(b"/")),
}

# --- URLs ----------------------------------------------------------------------------------------------

_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*):")
_ESCAPE = re.compile(rb"%(?:([0-9A-Fa-f]{2})|.{0,2})", re.DOTALL)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_KEPT = {
    "path": frozenset(b"$&+,/:;=@") | _UNRESERVED,
    "fragment": frozenset(b"$&+,/:;=?@!()*'") | _UNRESERVED,
    "host": frozenset(b"!$&'()*+,;=:[]<>\"") | _UNRESERVED,
    "user": frozenset(b"$&+,;=") | _UNRESERVED,
}


def _unescaped(text: bytes) -> bytes:
    def one(found: re.Match[bytes]) -> bytes:
        if not found[1]:
            raise CallFailed("unable to parse url: invalid URL escape")
        return bytes.fromhex(found[1].decode())

    return _ESCAPE.sub(one, text)


def _escaped(text: bytes, part: str) -> bytes:
    kept = _KEPT[part]
    return b"".join(bytes([byte]) if byte in kept else b"%%%02X" % byte for byte in text)


def _bad(problem: str) -> CallFailed:
    return CallFailed(f"unable to parse url: {problem}")


def _parse(text: bytes) -> dict[bytes, Any]:
    """Give scheme, host, hostname, path, query, opaque, fragment and userinfo (`url.Parse`)."""
    if len(text) > 65536:
        raise _bad("too long")
    if any(byte < 0x20 or byte == 0x7F for byte in text):
        raise _bad("invalid control character in URL")
    rest, _, fragment = text.partition(b"#")
    scheme = b""
    if match := _SCHEME.match(rest):
        scheme, rest = match[1].lower(), rest[match.end() :]
    elif rest.startswith(b":"):
        raise _bad("missing protocol scheme")
    rest, _, query = rest.partition(b"?")
    found = {b"scheme": scheme, b"host": b"", b"hostname": b"", b"path": b"", b"query": query, b"opaque": b""}
    found |= {b"fragment": _unescaped(fragment), b"userinfo": b""}
    if not rest.startswith(b"/"):
        if scheme:
            return found | {b"opaque": rest}
        if b":" in rest.partition(b"/")[0]:
            raise _bad("first path segment in URL cannot contain colon")
    if rest.startswith(b"//") and (scheme or not rest.startswith(b"///")):
        authority, slash, tail = rest[2:].partition(b"/")
        rest = slash + tail
        found |= _authority(authority)
    return found | {b"path": _unescaped(rest)}


def _authority(text: bytes) -> dict[bytes, Any]:
    user, at, host = text.rpartition(b"@")
    found: dict[bytes, Any] = {}
    if at:
        if re.search(rb"[^A-Za-z0-9\-._:~!$&'()*+,;=%@]", user):
            raise _bad("invalid userinfo")
        name, colon, password = user.partition(b":")
        shown = _escaped(_unescaped(name), "user")
        found[b"userinfo"] = shown + colon + _escaped(_unescaped(password), "user") if colon else shown
    if host.startswith(b"["):
        inside, bracket, port = host.rpartition(b"]")
        if not bracket:
            raise _bad("missing ']' in host")
        hostname = inside[1:]
    else:
        hostname, colon, digits = host.rpartition(b":")
        hostname, port = (hostname, colon + digits) if colon else (host, b"")
    if port and not re.fullmatch(rb":[0-9]*", port):
        raise _bad("invalid port after host")
    if re.search(rb"[ \x00-\x1f]", host):
        raise _bad("invalid character in host name")
    return found | {b"host": _unescaped(host), b"hostname": _unescaped(hostname)}


def _join(parts: dict[bytes, Any]) -> bytes:
    """Give the URL of such parts (`URL.String`)."""
    got: dict[str, bytes] = {}
    for name in ("scheme", "host", "path", "query", "opaque", "fragment", "userinfo"):
        value = parts.get(name.encode(), b"")
        if not isinstance(value, bytes):
            raise CallFailed(f"unable to parse {name} key, must be of type string, but {kind(value)} found")
        got[name] = value
    text = got["scheme"] + b":" if got["scheme"] else b""
    if got["opaque"]:
        text += got["opaque"]
    else:
        user = _authority(got["userinfo"] + b"@host").get(b"userinfo", b"") if got["userinfo"] else None
        path = _escaped(got["path"], "path")
        if got["scheme"] or got["host"] or user is not None:
            if got["host"] or got["path"] or user is not None:
                text += b"//" if got["host"] or user is not None or path.startswith(b"//") else b""
            text += (user + b"@" if user is not None else b"") + _escaped(got["host"], "host")
        if path and not path.startswith(b"/") and got["host"]:
            text += b"/"
        if not text and b":" in path.partition(b"/")[0]:
            text += b"./"
        text += path
    text += b"?" + got["query"] if got["query"] else b""
    return text + (b"#" + _escaped(got["fragment"], "fragment") if got["fragment"] else b"")


TABLE: dict[str, Function] = {
    **_PATHS,
    **{f"os{name[0].upper()}{name[1:]}": found for name, found in _PATHS.items()},
    "urlParse": function("string", _parse),
    "urlJoin": function("map", _join),
}
