"""The figure command: a view of an explore page, drawn again for a paper."""

import re
from collections.abc import Sequence

from convattn.commands.options import named_options, output_file, split_positional
from convattn.errors import UserError

_HELP = """convattn figure 'PAGE#VIEW' [--width=84mm] [--out=FILE.pdf]

  PAGE#VIEW  the page's address as the browser shows it (file:///...), or its path, in quotes; what VIEW leaves out is:
             image=0, the pixel in the middle, all layers, all heads, mode=probabilities, scale=shared
  --width    of the figure: millimetres (84mm, one column), centimetres (8.4cm) or inches (3.3in)
  --out      .pdf, .svg or .png (default: the page's name with .pdf, in this folder)

Prints the figure's path and its caption, which stands below the picture too."""

_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "in": 25.4}
_NARROWEST, _WIDEST = 30.0, 600.0


def run(arguments: Sequence[str]) -> None:
  """Writes the figure, and prints its path and its caption.

  Raises:
    UserError: a wrong argument, no page of ours, or a view that the page has not.
  """
  if {"-h", "--help"} & set(arguments):
    print(_HELP)
    return
  options, addresses = split_positional(arguments)
  values = named_options(options, ("width", "out"))
  if len(addresses) != 1:
    told = " ".join(addresses) or "none"
    raise UserError(f"name one page, such as convattn figure 'explore.html#image=0&at=3,4'; got {told}.")
  width = _width(values.get("width", "84mm"))
  from convattn.viz.page_figure import page_figure
  from convattn.viz.page_reader import read_manifest
  from convattn.viz.page_view import parse_view, split_address
  from convattn.viz.style import KINDS, save_figure

  page, text = split_address(addresses[0])
  view = parse_view(text)
  if not page.is_file():
    raise UserError(f"there is no page {str(page)!r}; convattn explore writes one.")
  out = output_file("out", values.get("out", f"{page.stem}.pdf"))
  if out.suffix.lower().removeprefix(".") not in KINDS:
    raise UserError(f"--out must end in {', '.join(f'.{each}' for each in KINDS)}, got {str(out)!r}.")
  drawn = page_figure(read_manifest(page), view, width)
  print(save_figure(drawn.figure, out, drawn.caption))
  print(drawn.caption)
  if drawn.missing:
    print(f"note: the caption has boxes for {drawn.missing}, which no font of this machine has.")


def _width(text: str) -> float:
  """Millimetres."""
  found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(mm|cm|in)", text.strip())
  width = float(found[1]) * _MILLIMETRES[found[2]] if found else 0.0
  if not _NARROWEST <= width <= _WIDEST:
    raise UserError(
      f"--width must be a length from {_NARROWEST:g}mm to {_WIDEST:g}mm, such as 84mm, 8.4cm or 3.3in; got {text!r}."
    )
  return width
