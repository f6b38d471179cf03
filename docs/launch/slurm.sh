#!/bin/bash
# One process for each GPU, on as many hosts as --nodes says: sbatch docs/launch/slurm.sh [OPTION ..], the options being
# those of train.py. The workdir must lie where all hosts see it.
#SBATCH --job-name=convattn
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Two minutes before the time is over, and when the job is preempted, every process gets SIGTERM and saves its step.
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -eu

CONFIG=${CONFIG:-configs/digits.py}
WORKDIR=${WORKDIR:-runs/slurm}

# srun tells each task its number, and the first host's name is where they meet: nothing else is to be set.
# A host that is lost ends the other processes within this many seconds.
export CONVATTN_HEARTBEAT_TIMEOUT=${CONVATTN_HEARTBEAT_TIMEOUT:-60}

status=0
srun --kill-on-bad-exit=1 .venv/bin/python train.py --config="$CONFIG" --workdir="$WORKDIR" "$@" || status=$?

# A run that has saved its step at SIGTERM (status 0) or was killed (128 and more) goes on from its last checkpoint; one
# that is finished has a result, and one that was refused (1 or 2) would be again. At most so often:
if [ ! -e "$WORKDIR/result.json" ] && { [ "$status" -eq 0 ] || [ "$status" -ge 128 ]; }; then
  if [ "${SLURM_RESTART_COUNT:-0}" -lt "${MOST_RESTARTS:-20}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$status"
