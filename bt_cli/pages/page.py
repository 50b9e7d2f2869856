"""A page that stands alone: one HTML file with everything in it, which asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files

from bt_cli.files.shown_path import shown_path


def page(title: str, body: str, *, script: bool = False) -> str:
    """The whole document.

    Its policy (CSP) lets nothing be fetched and nothing be run but the style and script that stand in it, told by
    their hashes; pictures come as `data:` alone.

    Args:
        title: Plain text.
        body: HTML, in which every foreign text has been escaped.
        script: With the script of pictures that can be enlarged.
    """
    style = _asset("page.css")
    code = _asset("page.js") if script else ""
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; base-uri 'none'; form-action 'none'"
    if script:
        policy += f"; script-src {_hash(code)}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{text(title)}</title>\n<style>{style}</style>\n</head>\n'
        f"<body>\n{body}\n{f'<script>{code}</script>' if script else ''}\n</body>\n</html>\n"
    )


def text(content: object) -> str:
    """Foreign text as HTML, safe in an element and in a quoted attribute; what is no visible character is escaped."""
    return escape(shown_path(str(content)))


def _asset(name: str) -> str:
    return files("bt_cli.pages").joinpath("assets", name).read_text("utf-8")


def _hash(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"
