"""Studies: settings × seeds, each a run of its own, compared in one table.

Names are fetched on first use, so that a file that describes a study imports the schema alone.
"""

from typing import TYPE_CHECKING

from convattn.lazy import lazy_names

if TYPE_CHECKING:
  from convattn.study.bootstrap import Interval as Interval, paired_interval as paired_interval
  from convattn.study.definition import Setting as Setting, Study as Study, Tuning as Tuning
  from convattn.study.rehearsal import check as check
  from convattn.study.running import run as run
  from convattn.study.table import markdown as markdown, text as text

__getattr__, __dir__, __all__ = lazy_names(
  __name__,
  {
    "bootstrap": "Interval paired_interval",
    "definition": "Setting Study Tuning",
    "rehearsal": "check",
    "running": "run",
    "table": "markdown text",
  },
)
