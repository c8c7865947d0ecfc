"""Matplotlib figures as inline SVG that takes its colours and fonts from the page."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

SERIES = tuple(f"#0102{16 + i:02x}" for i in range(8))
INK, MUTED, LINE, PAPER, GOOD, BAD = "#010301", "#010302", "#010303", "#010304", "#010305", "#010306"
HEAT = (0.165, 0.42, 0.78)
"""One blue that reads on light and on dark paper; heat maps vary its opacity."""

_VARIABLES = (
    {INK: "var(--ink)", MUTED: "var(--muted)", LINE: "var(--line)", PAPER: "var(--paper)"}
    | {
        GOOD: "var(--good)",
        BAD: "var(--bad)",
    }
    | {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}
)
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "lines.linewidth": 1.6,
    "image.composite_image": False,
}
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


def draw(paint: Callable[[Any], object], label: str, key: str, size: tuple[int, int] = (340, 240)) -> str:
    """Draw one pair of axes and return it as an ``<svg>`` element.

    The same picture and key give the same text. No ``pyplot``, no global state.

    Args:
        paint: called with the matplotlib axes.
        label: what the picture shows, for people who do not see it.
        key: prefix of every id, unique on the page.
        size: width and height in CSS pixels before scaling.

    Returns:
        Markup without scripts, styles or outside references; every text is escaped.

    Example:
        >>> picture = draw(lambda axes: axes.set_title("<b>"), "a title", "t")
        >>> picture.startswith("<svg"), "&lt;b&gt;" in picture, "var(--ink)" in picture
        (True, True, True)
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = STYLE | {"svg.hashsalt": key}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(?s).*Glyph .* missing")  # the browser has more fonts
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained", facecolor="none")
        axes = figure.add_subplot(facecolor="none")
        paint(axes)
        buffer = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return _inline(buffer.getvalue(), label, key)


def _inline(document: str, label: str, key: str) -> str:
    ET.register_namespace("", _SVG.strip("{}"))
    root = ET.fromstring(_NOT_XML.sub("\ufffd", document))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (_SVG + "metadata", _SVG + "style"):
                parent.remove(child)
    for element in root.iter():
        if "id" in element.attrib:
            element.set("id", f"{key}-{element.get('id')}")
        if _LINK in element.attrib:
            link = element.attrib.pop(_LINK)
            element.set("href", f"#{key}-{link[1:]}" if link.startswith("#") else link)
        if element.text is None or not element.text.strip():
            element.text = None
        if element.tail is None or not element.tail.strip():
            element.tail = None
        if "d" in element.attrib:
            element.set("d", _NUMBER.sub(_rounded, element.get("d", "")))
        for name in ("style", "clip-path", "fill", "stroke"):
            if name in element.attrib:
                element.set(name, _restyle(element.attrib[name], key))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", label)
    return ET.tostring(root, encoding="unicode")


def _rounded(number: re.Match[str]) -> str:
    """A coordinate to a hundredth of a pixel."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _restyle(value: str, key: str) -> str:
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    value = re.sub(r"\bfont-family:[^;]*;?\s*", "", value)  # the page's font
    value = re.sub(r"\bfont:[^;]*?([\d.]+)px[^;]*", r"font-size: \1px", value)
    return re.sub(r"#01[0-9a-f]{4}", lambda m: _VARIABLES.get(m[0], m[0]), value)
