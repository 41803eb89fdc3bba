"""Bars on a logarithmic scale, as SVG.  Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

import attrs
from figures import Spread

WIDTH = 760
_LABELS = 120
_VALUES = 90
_BAR = 16
_GAP = 6
_DECADES = 4
"""What is smaller by more is drawn as nothing."""
_TITLE = 40
_MARGIN = 12
_COLOURS = {"gateway": "#b3541e", "bare": "#8a8a8a"}
_OTHER = "#5b7fa6"
_SCALE = 'text-anchor="middle" fill="#777" font-size="10"'


@attrs.frozen
class Panel:
    """One group of bars: what is shown, in which unit, and the figures by name."""

    title: str
    unit: str
    digits: int
    values: Mapping[str, Spread]

    @property
    def height(self) -> int:
        """Return how much room it takes."""
        return _TITLE + len(self.values) * (_BAR + _GAP) + _MARGIN


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{html.escape(text)}</text>'


def _panel(panel: Panel, top: int) -> list[str]:
    """Return the elements of one panel; a whisker runs from the least to the most."""
    shown = panel.values
    positive = [spread.median for spread in shown.values() if spread.median > 0]
    if not positive:
        return []
    ceiling = math.log10(max(spread.most for spread in shown.values()))
    floor = max(math.floor(math.log10(min(positive)) - 0.3), math.floor(ceiling) - _DECADES)
    room = WIDTH - _LABELS - _VALUES - 2 * _MARGIN
    scale = room / max(ceiling - floor, 0.1)

    def place(value: float) -> float:
        return _LABELS + _MARGIN + max(0.0, (math.log10(max(value, 1e-12)) - floor) * scale)

    lines = [_text(_MARGIN, top + 18, f"{panel.title}, {panel.unit}", 'font-weight="bold"')]
    bottom = top + panel.height - _MARGIN
    for power in range(floor, math.ceil(ceiling) + 1):
        x = place(10.0**power)
        if x <= WIDTH - _VALUES:
            lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + _TITLE - 8}" y2="{bottom}" stroke="#ddd"/>')
            lines.append(_text(x, top + _TITLE - 10, f"{10.0**power:g}", _SCALE))
    for number, (name, spread) in enumerate(shown.items()):
        y = top + _TITLE + number * (_BAR + _GAP)
        start, end, middle = place(10.0**floor), place(spread.median), y + _BAR / 2
        lines.append(_text(_LABELS + _MARGIN - 8, y + 12, name, 'text-anchor="end"'))
        colour, width = _COLOURS.get(name, _OTHER), max(1.0, end - start)
        lines.append(f'<rect x="{start:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>')
        least, most = place(spread.least), place(spread.most)
        lines.append(f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}" stroke="#222"/>')
        lines.append(_text(max(end, most) + 6, y + 12, f"{spread.median:.{panel.digits}f}"))
    return lines


def svg(panels: Sequence[Panel]) -> str:
    """Return one picture with the panels below each other."""
    height = sum(panel.height for panel in panels) + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    top = 0
    for panel in panels:
        lines += _panel(panel, top)
        top += panel.height
    return "\n".join([*lines, "</svg>"]) + "\n"
