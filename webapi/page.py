"""The docs page: the OpenAPI document as one HTML page, without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f4f4f4;padding:.6rem;overflow:auto}
details{border:1px solid #ddd;border-radius:4px;margin:.4rem 0;padding:.4rem .8rem}summary{cursor:pointer}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
.m{display:inline-block;min-width:4.5rem;font-weight:bold}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#222}details{border-color:#444}a{color:#8bf}}
"""
HEADERS = (("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),)


def page(document: dict[str, Any]) -> str:
    """The page."""
    info = document["info"]
    body = "\n".join(_sections(document))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['description'])}</p>"
        f'<p><a href="openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _sections(document: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag)}</h2>"
        yield from operations
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        shown = escape(json.dumps(schema, indent=2))
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>'


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code></td><td>{p['in']}</td><td>{_schema(p['schema'])}</td>"
        f"<td>{escape(p.get('description', ''))}</td></tr>"
        for p in operation["parameters"]
    )
    parts = [f"<p>{escape(operation['description'])}</p>", f"<table>{rows}</table>" if rows else ""]
    if "requestBody" in operation:
        parts.append(f"<p>Body: {_content(operation['requestBody'])}</p>")
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            parts.append(f"<p>{status}: {_content(response)}</p>")
    head = f'<span class="m">{method.upper()}</span><code>{escape(path)}</code> {escape(operation["summary"])}'
    return f"<details><summary>{head}</summary>{''.join(parts)}</details>"


def _content(holder: dict[str, Any]) -> str:
    content = holder.get("content", {})
    return " ".join(_schema(each["schema"]) for each in content.values() if "schema" in each) or "nothing"


def _schema(schema: dict[str, Any]) -> str:
    ref = schema.get("$ref")
    if ref is not None:
        name = ref.rpartition("/")[2]
        return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>'
    return f"<code>{escape(json.dumps(schema))}</code>"
