"""The launch recipes, without a cluster: what they start, with which environment, and when they start again."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from convattn.training.distributed import TIMEOUTS, Launch, find_launch

FOLDER = Path(__file__).parents[2] / "docs" / "launch"


@pytest.mark.parametrize("name", ["slurm.sh", "pod.sh"])
def test_the_scripts_can_be_read(name):
  subprocess.run(["bash", "-n", FOLDER / name], check=True)


def command(folder, name, lines):
  """An executable of that name in `folder`."""
  path = folder / name
  path.write_text("#!/bin/bash\n" + lines)
  path.chmod(0o755)
  return path


@pytest.mark.parametrize(
  "status, finished, restarts, requeued",
  [(0, True, 0, False), (0, False, 0, True), (137, False, 3, True), (2, False, 0, False), (0, False, 20, False)],
)
def test_a_slurm_job_is_queued_again_where_the_run_can_go_on(tmp_path, status, finished, restarts, requeued):
  command(tmp_path, "srun", f'echo "$@" > {tmp_path}/started\nexit {status}\n')
  command(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/requeued\n')
  workdir = tmp_path / "run"
  workdir.mkdir()
  if finished:
    (workdir / "result.json").write_text("{}")
  environment = {
    "PATH": f"{tmp_path}:{os.environ['PATH']}",
    "WORKDIR": str(workdir),
    "SLURM_JOB_ID": "7",
    "SLURM_RESTART_COUNT": str(restarts),
  }
  done = subprocess.run(["bash", FOLDER / "slurm.sh", "--config.seed=1"], env=environment)
  assert done.returncode == status
  started = (tmp_path / "started").read_text()
  assert f"train.py --config=configs/digits.py --workdir={workdir} --config.seed=1\n" in started
  assert (tmp_path / "requeued").exists() == requeued


def test_slurm_starts_one_process_for_each_gpu_and_signals_it_before_the_end():
  options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", (FOLDER / "slurm.sh").read_text(), re.MULTILINE))
  assert options["ntasks-per-node"] == options["gpus-per-node"]
  assert options["signal"] == "TERM@120"  # without B: srun's processes get it, not the script
  tasks = int(options["nodes"]) * int(options["ntasks-per-node"])
  environment = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": str(tasks),
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-4]",
  }
  assert find_launch(environment) == Launch("slurm")


def test_the_pods_of_the_job_find_each_other():
  jobset = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
  assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
  (replicated,) = jobset["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  (container,) = job["template"]["spec"]["containers"]
  environment = {each["name"]: each["value"] for each in container["env"]}
  assert job["completionMode"] == "Indexed" and job["parallelism"] == job["completions"]
  first = f"{jobset['metadata']['name']}-{replicated['name']}-0-0.{jobset['spec']['network']['subdomain']}"
  (port,) = container["ports"]
  address = f"{first}:{port['containerPort']}"
  launches = [find_launch({**environment, "JOB_COMPLETION_INDEX": str(index)}) for index in range(job["completions"])]
  assert launches == [Launch("explicit", address, job["completions"], index) for index in range(job["completions"])]
  assert all(name in TIMEOUTS for name in environment if name.startswith("CONVATTN_"))
  assert (FOLDER.parents[1] / container["command"][1]).is_file()
  mounted = [each["mountPath"] for each in container["volumeMounts"]]
  assert any(environment["WORKDIR"].startswith(f"{path}/") for path in mounted)


@pytest.mark.parametrize("finished, ends", [(True, 0), (False, 143)])
def test_a_pod_that_saved_its_step_is_not_taken_for_finished(tmp_path, finished, ends):
  # In the place of train.py: says that it runs, and saves at SIGTERM.
  python = command(
    tmp_path,
    "python",
    f'trap "sleep 0.2; touch {tmp_path}/saved; exit 0" TERM\necho "$@"\nwhile true; do sleep 0.05; done',
  )
  if finished:
    (tmp_path / "result.json").write_text("{}")
  environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), "WORKDIR": str(tmp_path)}
  with subprocess.Popen(
    ["bash", FOLDER / "pod.sh", "--config.seed=1"], env=environment, stdout=subprocess.PIPE, text=True
  ) as pod:
    assert pod.stdout.readline() == f"train.py --workdir={tmp_path} --config.seed=1\n"
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(timeout=600) == ends
  assert (tmp_path / "saved").exists()


def test_a_pod_hands_on_how_its_process_ended(tmp_path):
  python = command(tmp_path, "python", "exit 3\n")
  environment = {"PATH": os.environ["PATH"], "PYTHON": str(python), "WORKDIR": str(tmp_path)}
  assert subprocess.run(["bash", FOLDER / "pod.sh"], env=environment).returncode == 3
