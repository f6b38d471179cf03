"""What a user did wrong, told in one line. Anything else that is raised is a bug and keeps its traceback."""

import contextlib
from collections.abc import Iterator


class UsageError(Exception):
  """The request cannot be carried out as made; the message says what to change. `main` prints it and returns 2."""


@contextlib.contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
  """Turns exceptions of these kinds, raised in the block, into a UsageError with the same message on one line.

  For blocks that only check what the user gave: there a ValueError is the user's, elsewhere it may be ours.
  """
  try:
    yield
  except kinds as error:
    raise UsageError(" ".join(str(error).split())) from error
