"""Training commands one after another in one process, which imports but once: `python -m benchmarks.campaign_worker`.

Each line of stdin holds the arguments of one command as a JSON list. What it prints goes to stdout, then `END` with its
exit status.
"""

import json
import sys
import traceback

END = "ended with status"


def main() -> None:
  from convattn.commands import main as command

  sys.stderr = sys.stdout
  for line in sys.stdin:
    try:
      status = command(["train", *json.loads(line)])
    except Exception:
      traceback.print_exc()
      status = 1
    print(f"{END} {status}", flush=True)


if __name__ == "__main__":
  main()
