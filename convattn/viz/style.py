"""One look for every figure: its colours, its letters, its size on paper, and the bytes of its file.

Lines and marks that belong to different things differ in their marks too, and the colours are told apart by readers
with any of the common colour vision deficiencies (tests/viz/test_style.py). Nothing here depends on a matplotlibrc.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from convattn.files import write_whole

INK, GREY, LIGHT, RULE = "#20303c", "#5f6b76", "#c3cad1", "#e4e8ec"
"""Of letters, of what explains them, of lines that hold something, and of lines across a panel."""

BLUE, ORANGE, MARK = "#0b6fb8", "#d9730d", "#c4006a"
"""The first two of CYCLE; and of what outlines a place, which no scale of colours has."""

CYCLE = (BLUE, ORANGE, "#0a8f6c", "#8a3f8f", "#7fb8e6", "#6b4a12")
"""Of things without an order, one after another; with MARKS, so that colour is never alone."""

MARKS = ("o", "s", "^", "D", "v", "P")

MILLIMETRE = 1 / 25.4
"""In inches, which matplotlib counts in."""

COLUMN, PAGE = 84.0, 174.0
"""Millimetres: the width of one column, and of the text of a page of two."""

PAPER: dict[Any, Any] = {
  "font.family": "DejaVu Sans",
  "font.size": 7,
  "axes.titlesize": 7,
  "axes.titleweight": "bold",
  "axes.titlelocation": "left",
  "axes.labelsize": 7,
  "axes.labelcolor": GREY,
  "axes.edgecolor": LIGHT,
  "axes.linewidth": 0.6,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "xtick.labelsize": 6.5,
  "ytick.labelsize": 6.5,
  "xtick.color": GREY,
  "ytick.color": GREY,
  "xtick.major.width": 0.6,
  "ytick.major.width": 0.6,
  "xtick.major.size": 2.5,
  "ytick.major.size": 2.5,
  "text.color": INK,
  "lines.linewidth": 1.2,
  "lines.markersize": 3.5,
  "legend.frameon": False,
  "legend.fontsize": 6.5,
  "figure.constrained_layout.w_pad": 0.02,
  "figure.constrained_layout.h_pad": 0.02,
}
"""The look of a figure on paper: 7 points, hairlines of 0.6."""

_FILES: dict[Any, Any] = {
  # TrueType, which journals ask for: the letters can be searched, copied and edited.
  "pdf.fonttype": 42,
  "ps.fonttype": 42,
  "svg.fonttype": "path",
  "svg.hashsalt": "convattn",
  "savefig.dpi": "figure",
}


@contextlib.contextmanager
def paper() -> Iterator[None]:
  """Within it, and in a function decorated with it, figures are made in the look for papers."""
  with matplotlib.rc_context():
    matplotlib.rcdefaults()
    matplotlib.rcParams.update({**PAPER, **_FILES})
    yield


def sheet(width: float, height: float) -> Figure:
  """An empty figure of so many millimetres.

  Raises:
    ValueError: a side that is not above zero.
  """
  if not (width > 0 and height > 0):
    raise ValueError(f"a figure must be wider and higher than 0 mm, got {width:g} x {height:g} mm.")
  return Figure(figsize=(width * MILLIMETRE, height * MILLIMETRE), dpi=300, layout="constrained")


def fit_height(figure: Figure, rows: Iterable[Iterable[Axes]]) -> None:
  """Takes from the height what rows of panels of a fixed shape, with their letters, do not fill."""
  figure.draw_without_rendering()
  in_figure = figure.transFigure.inverted()
  left_over = 0.0
  for row in rows:
    panels = list(row)
    boxes = [box for each in panels if (box := each.get_tightbbox()) is not None]
    filled = Bbox.union(boxes).transformed(in_figure).height
    left_over += max(0.0, panels[0].get_position(original=True).height - filled)
  figure.set_figheight(figure.get_figheight() * (1 - left_over))


def _colours(name: str, *stops: tuple[int, int, int, float]) -> Colormap:
  """Red, green, blue of 255 and how much they cover, from end to end at equal steps."""
  colours = LinearSegmentedColormap.from_list(name, [(r / 255, g / 255, b / 255, cover) for r, g, b, cover in stops])
  return colours.with_extremes(bad=LIGHT)


SEQUENTIAL = _colours(
  "convattn.sequential", (255, 255, 255, 0), (158, 202, 225, 0.7), (8, 81, 156, 0.92), (4, 28, 66, 0.97)
)
"""From nothing, through which the picture is seen, to dark blue: of numbers from zero."""

DIVERGING = _colours(
  "convattn.diverging",
  (8, 48, 107, 0.97),
  (66, 146, 198, 0.85),
  (255, 255, 255, 0),
  (224, 130, 20, 0.85),
  (127, 59, 8, 0.97),
)
"""From blue through nothing to brown: of numbers on both sides of zero."""


def scale(values: np.ndarray, signed: bool = False) -> tuple[Colormap, Normalize]:
  """(colours, range) of some numbers: from zero to the largest; of `signed` ones, and if any is negative, about zero.

  Numbers that are not finite have no part in it.
  """
  finite = values[np.isfinite(values)]
  low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
  if low >= 0 and not signed:
    return SEQUENTIAL, Normalize(0, high or 1.0)
  furthest = max(-low, high) or 1.0
  return DIVERGING, Normalize(-furthest, furthest)


def number(value: float) -> str:
  """As it stands in a figure and its caption: two digits, from 100 on all before the point, and a true minus."""
  text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"
  return text.replace("-", "−")


def colour_bar(figure: Figure | SubFigure, colours: Colormap, norm: Normalize, label: str, **place: Any) -> Colorbar:
  """With few numbers and a thin frame, beside `ax` (one or several axes) or in `cax` (axes of its own)."""
  beside: dict[str, Any] = {"fraction": 0.03, "pad": 0.015, "aspect": 30} if "ax" in place else {}
  if place.get("location") == "bottom":
    beside |= {"fraction": 0.06, "aspect": 45}
  bar = figure.colorbar(ScalarMappable(norm, colours), **place, **beside)
  bar.locator = MaxNLocator(nbins=5)
  bar.update_ticks()
  bar.set_label(label)
  bar.outline.set_edgecolor(LIGHT)
  bar.outline.set_linewidth(0.6)
  return bar


def panel(axes: Axes, title: str, x: str = "step", y: str = "") -> None:
  """Title and names of the axes of a panel with curves, and lines across it."""
  axes.set_title(title, parse_math=False)
  axes.set_xlabel(x)
  axes.set_ylabel(y)
  axes.grid(axis="y", color=RULE, linewidth=0.6)
  axes.set_axisbelow(True)


KINDS = ("pdf", "svg", "png")


def save_figure(figure: Figure, path: str | os.PathLike[str], about: str | None = None) -> Path:
  """Writes the figure as `file_bytes` has it, as the path's ending says, and returns the path.

  Raises:
    ValueError: another ending than .pdf, .svg or .png.
    OSError: it cannot be written; what was there stays.
  """
  path = Path(path).expanduser()
  kind = path.suffix.lower().removeprefix(".")
  if kind not in KINDS:
    raise ValueError(f"a figure's name must end in {', '.join(f'.{each}' for each in KINDS)}, got {str(path)!r}.")
  write_whole({path: file_bytes(figure, kind, about=about)})
  return path


def file_bytes(figure: Figure, kind: str = "pdf", dpi: float = 300, about: str | None = None) -> bytes:
  """The figure as a file: "pdf" or "svg", letters as TrueType fonts in a PDF and as outlines in an SVG; or "png".

  The same figure gives the same bytes, with the same fonts and version of matplotlib: no date is in them. `about` is
  what programs show as the file's subject or description.
  """
  content = io.BytesIO()
  facts: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Subject": about},
    "svg": {"Date": None, "Description": about},
    "png": {"Description": about},
  }
  with paper(), warnings.catch_warnings():
    # Said in one line, for all letters at once, where names are drawn.
    warnings.filterwarnings("ignore", message=r"(?s)(Glyph .* missing from|Matplotlib currently does not support)")
    metadata = {name: value for name, value in facts[kind].items() if value is not None or "Date" in name}
    figure.savefig(content, format=kind, dpi=dpi, metadata=metadata)
  return content.getvalue()
