"""An SVG file of matplotlib's at half its size, for pages that carry a hundred of them."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image
from scour import scour

COLORS = 255
"""Of an image inside, transparent ones included; a figure's have a few hues and their edges."""
DIGITS = 5
"""Significant ones of a coordinate: a figure of some hundred points is exact to a hundredth of a point."""


def compact_svg(text: str) -> str:
    """The same picture without what no browser needs: unused ids, nested groups, spaces, needless digits and colors.

    Args:
        text: An SVG file as matplotlib writes it.
    """
    options = scour.sanitizeOptions()
    options.strip_ids = options.strip_comments = options.strip_xml_prolog = options.remove_metadata = True
    options.indent_type, options.newlines, options.digits = "none", False, DIGITS
    options.strip_xml_space_attribute = options.quiet = True
    return re.sub(r"data:image/png;base64,([^\"]+)", _with_fewer_colors, scour.scourString(text, options))


def _with_fewer_colors(image: re.Match[str]) -> str:
    picture = Image.open(io.BytesIO(base64.b64decode(image.group(1))))
    buffer = io.BytesIO()
    picture.convert("RGBA").quantize(COLORS, method=Image.Quantize.FASTOCTREE).save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
