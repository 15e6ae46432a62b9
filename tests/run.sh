#!/usr/bin/env bash
# The tests, in the environment that launch/quickstart.sh uses too.
#
#   bash tests/run.sh [pytest's arguments]
#
# Two processes share the test files; with -n 0 one runs them all, as --pdb needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. launch/environment.sh dev,hf
export JAX_PLATFORMS=cpu
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
