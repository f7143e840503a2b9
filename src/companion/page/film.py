"""Animations as text: SVG moved by CSS, which plays in a page without a script or a network.

Text and rings have the colour of the page's text, on its ground: it suits light and dark pages.
The first and only caller is :meth:`companion.page.chapter.Chapter.animation`. A reader can stop the
film with its check box; where the system asks for reduced motion, and on paper, its last frame
stands still.
"""

from collections.abc import Sequence
from html import escape
from math import cos, pi, sin

import numpy as np

from wrnn.errors import WrnnError

COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc")  # inputs, from the centre out
PANEL = 300  # width and height of one field, in the units of the drawing
HOLD = 8  # ticks for which the last frame stays
STYLE = """
.NAME .frame { visibility: hidden; animation: NAME-show TOTALs step-end infinite; }
.NAME .frame.last { animation-name: NAME-hold; }
@keyframes NAME-show { 0% { visibility: visible; } TICK% { visibility: hidden; } }
@keyframes NAME-hold { 0% { visibility: visible; } HELD% { visibility: hidden; } }
.NAME input { margin-inline-end: 0.4em; }
.NAME input:checked ~ svg .frame { animation-play-state: paused; }
@media print, (prefers-reduced-motion: reduce) {
  .NAME .frame, .NAME input:checked ~ svg .frame { animation: none; }
  .NAME .frame.last { visibility: visible; }
  .NAME input, .NAME label { display: none; }
}
"""


def rings(
    name: str,
    spikes: np.ndarray,
    fields: Sequence[tuple[str, np.ndarray]],
    *,
    alt: str,
    caption: str,
    seconds: float = 0.4,
) -> str:
    """Return an HTML figure: fields of activity on rings, one frame of `seconds` for every step.

    Args:
        name: id of the figure, also the prefix of its style rules; letters, digits and hyphens.
        spikes: binary inputs (T, inputs).
        fields: (title, states (T, inputs * sites)), one ring per input; each input writes to the
            middle of its ring, which is drawn on top.
        alt: what is seen, for those who do not see it.
        caption: plain text below the film.
        seconds: duration of one step.

    Raises:
        WrnnError: no description, or states that do not fit the spikes.
    """
    steps, inputs = spikes.shape
    if not alt.strip():
        raise WrnnError(f"animation {name}: alt must describe what is seen")
    if inputs > len(COLOURS) or any(
        len(states) != steps or states.shape[1] % inputs for _, states in fields
    ):
        raise WrnnError(f"animation {name}: the states do not fit {steps} steps, {inputs} inputs")
    ticks = steps - 1 + HOLD
    values = {
        "NAME": name,
        "TOTAL": f"{ticks * seconds:.4g}",
        "TICK": f"{100 / ticks:.6g}",
        "HELD": f"{100 * HOLD / ticks:.6g}",
    }
    style = STYLE
    for key, value in values.items():
        style = style.replace(key, value)
    width = PANEL * len(fields)
    parts = [
        f'<figure class="{name}" id="{name}">',
        f"<style>{style}</style>",
        f'<input type="checkbox" id="{name}-stop"/><label for="{name}-stop">stop the film</label>',
        f'<svg viewBox="0 0 {width} {PANEL + 30}" role="img" aria-label="{escape(alt)}" '
        'style="display: block; width: 100%" fill="currentColor" font-family="sans-serif" '
        'text-anchor="middle">',
    ]
    for index, (title, states) in enumerate(fields):
        left = index * PANEL
        parts.append(f'<text x="{left + PANEL / 2:g}" y="22" font-size="19">{escape(title)}</text>')
        for place in range(states.shape[1]):
            x, y, radius = _place(place, states.shape[1] // inputs, inputs)
            parts.append(_dot(left + x, y, radius, "currentColor", 0.12))
    for step in range(steps):
        last = step == steps - 1
        delay = f' style="animation-delay: {step * seconds:.4g}s"'
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
    parts += ["</svg>", f"<figcaption>{escape(caption)}</figcaption>", "</figure>"]
    return "\n".join(parts) + "\n"


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
