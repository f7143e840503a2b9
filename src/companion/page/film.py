"""Animations as one SVG file each, moved by CSS: no script, no network, no video.

The first and only caller is :meth:`companion.page.chapter.Chapter.animation`. The picture stands
still on its last frame, on paper and under every tool, until its address ends in ``#play``; on the
site ``book/_static/film.js`` gives it a button for that.
"""

from collections.abc import Sequence
from html import escape
from math import cos, pi, sin

import numpy as np

from wrnn.errors import WrnnError

COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc")  # inputs, from the centre out
PANEL = 300  # width and height of one field, in the units of the drawing
SECONDS = 0.4  # duration of one step
HOLD = 8  # ticks for which the last frame stays
STYLE = """
.frame { visibility: hidden; }
.frame.last { visibility: visible; }
#play:target .frame { animation: show TOTALs step-end infinite; visibility: hidden; }
#play:target .frame.last { animation-name: hold; }
@keyframes show { 0% { visibility: visible; } TICK% { visibility: hidden; } }
@keyframes hold { 0% { visibility: visible; } HELD% { visibility: hidden; } }
"""


def rings(
    name: str,
    spikes: np.ndarray,
    fields: Sequence[tuple[str, np.ndarray]],
) -> str:
    """Return an SVG picture: fields of activity on rings, one frame for every step.

    Args:
        name: what an error calls it.
        spikes: binary inputs (T, inputs).
        fields: (title, states (T, inputs * sites)), one ring per input; each input writes to the
            middle of its ring, which is drawn on top.

    Raises:
        WrnnError: states that do not fit the spikes.
    """
    steps, inputs = spikes.shape
    if inputs > len(COLOURS) or any(
        len(states) != steps or states.shape[1] % inputs for _, states in fields
    ):
        raise WrnnError(f"animation {name}: the states do not fit {steps} steps, {inputs} inputs")
    ticks, style = steps - 1 + HOLD, STYLE
    for key, value in (
        ("TOTAL", f"{ticks * SECONDS:.4g}"),
        ("TICK", f"{100 / ticks:.6g}"),
        ("HELD", f"{100 * HOLD / ticks:.6g}"),
    ):
        style = style.replace(key, value)
    width = PANEL * len(fields)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="play" viewBox="0 0 {width} {PANEL + 30}" '
        f'width="{width}" height="{PANEL + 30}" font-family="sans-serif" text-anchor="middle">',
        f"<style>{style}</style>",
    ]
    for index, (title, states) in enumerate(fields):
        left = index * PANEL
        parts.append(f'<text x="{left + PANEL / 2:g}" y="22" font-size="19">{escape(title)}</text>')
        for place in range(states.shape[1]):
            x, y, radius = _place(place, states.shape[1] // inputs, inputs)
            parts.append(_dot(left + x, y, radius, "#e6e6e6"))
    for step in range(steps):
        last = step == steps - 1
        delay = f' style="animation-delay: {step * SECONDS:.4g}s"'
        parts.append(f'<g class="frame{" last" * last}"{delay}>')
        for index, (_, states) in enumerate(fields):
            left = index * PANEL
            parts.append(
                f'<text x="{left + PANEL / 2:g}" y="{PANEL / 2 + 34:g}" font-size="17">'
                f"step {step + 1}</text>"
            )
            sites = states.shape[1] // inputs
            for place in np.flatnonzero(states[step]):
                x, y, radius = _place(int(place), sites, inputs)
                colour = COLOURS[place // sites]
                strength = 0.35 + 0.65 * states[step, place] / states.max()
                parts.append(_dot(left + x, y, radius, colour, strength))
            for ring in np.flatnonzero(spikes[step]):
                x, y, radius = _place(int(ring) * sites + sites // 2, sites, inputs)
                parts.append(
                    f'<circle cx="{left + x:.4g}" cy="{y:.4g}" r="{radius + 4:.3g}" fill="none" '
                    f'stroke="{COLOURS[ring]}" stroke-width="2.5"/>'
                )
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(place: int, sites: int, inputs: int) -> tuple[float, float, float]:
    """Return centre and radius of a site's dot; the middle of every ring is on top."""
    ring, site = divmod(place, sites)
    distance = 52 + (PANEL / 2 - 70) * (ring / max(1, inputs - 1))
    angle = 2 * pi * (site - sites // 2) / sites - pi / 2
    centre = PANEL / 2
    radius = min(8.0, 0.42 * 2 * pi * distance / sites)
    return centre + distance * cos(angle), centre + 28 + distance * sin(angle), radius


def _dot(x: float, y: float, radius: float, colour: str, strength: float = 1.0) -> str:
    opacity = "" if strength == 1 else f' opacity="{strength:.2f}"'
    return f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:.3g}" fill="{colour}"{opacity}/>'
