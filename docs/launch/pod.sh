#!/bin/bash
# What docs/launch/jobset.yaml starts in each pod: train.py with the options given here, in $WORKDIR. Kubernetes takes a
# pod that ends with 0 for finished, and so does train.py end that has saved its step at SIGTERM: then this ends with 143.

set -u

# Before the start: a signal may come as soon as train.py runs.
trap '[ -n "${!:-}" ] || exit 143; kill -TERM "$!"' TERM
"${PYTHON:-.venv/bin/python}" train.py --workdir="$WORKDIR" "$@" &
training=$!
wait "$training"
status=$?
# The first wait ends when the signal comes, the second when train.py does.
while kill -0 "$training" 2>/dev/null; do
  wait "$training"
  status=$?
done
if [ "$status" -eq 0 ] && [ ! -e "$WORKDIR/result.json" ]; then
  status=143
fi
exit "$status"
