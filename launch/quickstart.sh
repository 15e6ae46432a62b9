#!/usr/bin/env bash
# Installs rest_jax and runs all of ReST^EM on an embedded task:
# base model -> SFT baseline -> 3 iterations -> evaluation -> report.
#
#   bash launch/quickstart.sh [RUN_DIR] [--task=arithmetic|programs] [--seed=S]
#                             [flags of launch/rest_em.py]
#
# RUN_DIR is runs/TASK where none is given. The programs of the task `programs`
# run in a sandbox, which wants Linux with Landlock (docs/sandbox.md).
# Give the same command again after an interruption: it goes on.
set -euo pipefail

run_dir='' task=arithmetic seed=0 flags=()
for argument in "$@"; do
  case $argument in
    --task=arithmetic | --task=programs) task=${argument#--task=} ;;
    --task=* | --task)
      echo "quickstart.sh: $argument: allowed: --task=arithmetic," \
        "--task=programs" >&2
      exit 2
      ;;
    --seed=*) seed=${argument#--seed=} ;;
    --help | -h)
      sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*) flags+=("$argument") ;;
    *)
      if [ -n "$run_dir" ]; then
        echo "quickstart.sh: two folders: $run_dir and $argument" >&2
        exit 2
      fi
      run_dir=$argument
      ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# A relative RUN_DIR is meant from where the command was given.
if [ -z "$run_dir" ]; then
  run_dir=runs/$task
  [ "$seed" = 0 ] || run_dir=runs/${task}_seed_$seed
elif [[ $run_dir != /* && $run_dir != *://* ]]; then
  run_dir=$OLDPWD/$run_dir
fi

. launch/environment.sh ''
echo "the environment is ${PYTHON%/bin/python}; to use it yourself:" \
  ". ${PYTHON%/python}/activate"
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
# Two devices on the CPU, with half of each batch and a core for either: a step
# on one device uses little more than a core.
export XLA_FLAGS="--xla_force_host_platform_device_count=2 ${XLA_FLAGS:-}"
exec "$PYTHON" launch/rest_em.py --executor=local \
  --gin_file="runs/$task.gin" --gin.RUN_DIR="$run_dir" \
  --gin.SEED="$seed" ${flags[@]+"${flags[@]}"}
