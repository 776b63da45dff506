"""The colours of the page, in a light and a dark scheme: named here alone, so that contrast is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

STEPS = 25  # odd, so that a diverging scale has a middle
SCHEMES = ("light", "dark")
THEME: Mapping[str, Mapping[str, str]] = {
    "light": {
        "surface": "#ffffff", "raised": "#f3f5f7", "ink": "#1b1f24", "muted": "#545d68", "line": "#c9d0d8",
        "grid": "#dfe4e9", "accent": "#0b57b0", "bar": "#5b8fc4",
    },
    "dark": {
        "surface": "#14181d", "raised": "#1e242b", "ink": "#e8ebee", "muted": "#a7b0ba", "line": "#444d57",
        "grid": "#2f373f", "accent": "#7db8ff", "bar": "#3f79b3",
    },
}  # fmt: skip
SERIES: Mapping[str, Sequence[str]] = {  # told apart by their dashes too
    "light": ("#0b57b0", "#b3470b", "#11735a", "#8a2b8f", "#8a6a00", "#444c56"),
    "dark": ("#6fb1ff", "#ff9a5c", "#4fd1a8", "#e08be4", "#e3bf4a", "#b6bec7"),
}
# From little to much. A dark page keeps little dark, so that it does not glare.
_VALUES = {
    "light": ("#f4f8fb", "#cfe3f1", "#8fbfe0", "#4a90c2", "#1f5f99", "#0c3562"),
    "dark": ("#1b242d", "#1d3f57", "#246485", "#3a8fb0", "#7cc3d3", "#d3f1ee"),
}
# From worse through no difference to better: orange and blue, which all kinds of colour vision tell apart.
_DIFFERENCES = {
    "light": ("#96380f", "#d9793f", "#f6c9a6", "#f7f7f5", "#b3d3ec", "#5597cf", "#124f8f"),
    "dark": ("#ffab7a", "#c8672f", "#6b3617", "#20272e", "#1d4468", "#3d86c6", "#9ccdff"),
}
VALUE, DIFFERENCE = "h", "v"  # a cell's class is one of these with its step: h0 to h24


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (`#rrggbb`) as WCAG 2 defines it, 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def shades(kind: str, scheme: str) -> list[tuple[str, str]]:
    """Background and text of each step: black or white, whichever stands out more, which is always 4.5 or better."""
    anchors = (_VALUES if kind == VALUE else _DIFFERENCES)[scheme]
    found = []
    for step in range(STEPS):
        background = _between(anchors, step / (STEPS - 1))
        found.append((background, max(("#000000", "#ffffff"), key=lambda text: contrast(text, background))))
    return found


def stylesheet() -> str:
    """The colours as CSS: custom properties of the theme and a class for each step of the two scales."""
    light, dark = (_rules(scheme) for scheme in SCHEMES)
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n"  # paper stays light


def _rules(scheme: str) -> str:
    named = {**THEME[scheme], **{f"series{number}": colour for number, colour in enumerate(SERIES[scheme])}}
    rules = [":root{" + ";".join(f"--{name}:{colour}" for name, colour in named.items()) + "}"]
    for kind in (VALUE, DIFFERENCE):
        for step, (background, text) in enumerate(shades(kind, scheme)):
            rules.append(f".{kind}{step}{{background:{background};color:{text}}}")
    return "\n".join(rules)


def _between(anchors: Sequence[str], place: float) -> str:
    """The colour at a place in 0..1 of the line through the anchors, which lie at equal distances."""
    where = place * (len(anchors) - 1)
    first = min(int(where), len(anchors) - 2)
    ends = zip(_parts(anchors[first]), _parts(anchors[first + 1]), strict=True)
    return "#" + "".join(f"{round(one + (other - one) * (where - first)):02x}" for one, other in ends)


def _parts(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _luminance(colour: str) -> float:
    shares = [part / 255 for part in _parts(colour)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
