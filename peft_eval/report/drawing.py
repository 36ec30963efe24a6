"""Drawing in processes of their own: vl-convert, which has Vega in it, keeps a core busy and Python waiting.

This file imports nothing else, so that such a process starts at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import vl_convert

PNG_SCALE = 2


class Drawing(NamedTuple):
    """A plot as it goes into files."""

    svg: str
    png: bytes


def draw(spec: dict[str, Any]) -> Drawing:
    """Draws a whole Vega-Lite specification; nothing is fetched."""
    svg = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    return Drawing(svg, vl_convert.svg_to_png(svg, scale=PNG_SCALE))


def library() -> str:
    """Returns the JavaScript that draws the page's plots: Vega, Vega-Lite and `vegaEmbed`."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
