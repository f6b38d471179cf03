"""`python -m convattn NAME ...`."""

import sys

from convattn.commands import main

if __name__ == "__main__":
  sys.exit(main())
