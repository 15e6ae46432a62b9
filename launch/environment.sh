# Sourced by quickstart.sh and tests/run.sh: makes .venv in the repository's
# root, or uses it as it is if nothing that it was made from has changed.
#
#   . launch/environment.sh [EXTRAS]     EXTRAS such as dev,hf; none by default
#
# Sets PYTHON. Needs python3 >= 3.11 with venv, and pip's usual index. An own
# interpreter: PYTHON3=/path/to/python3 bash launch/quickstart.sh; a folder
# beside .venv for it: REST_JAX_VENV=.venv-3.12

_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_extras=${1:-}

_find_python() {
  local name
  for name in ${PYTHON3:-python3 python3.13 python3.12 python3.11}; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
      2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "rest_jax needs Python 3.11 to 3.13; found: $(python3 --version 2>&1)." \
    "Install one, or set PYTHON3=/path/to/python3." >&2
  return 1
}

_base=$(_find_python) || exit 2
_venv=$_root/${REST_JAX_VENV:-.venv}
PYTHON=$_venv/bin/python
# jax 0.11 and newer need Python 3.12: there is a tested set for each side.
_constraints=$_root/third_party/constraints-$("$_base" -c '
import sys
print("3.11" if sys.version_info < (3, 12) else "3.12")').txt
_made_from=$(
  {
    "$_base" --version
    echo "$_root"
    cat "$_root/setup.py" "$_root/pyproject.toml" \
      "$_constraints"
  } | "$_base" -c 'import hashlib, sys
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
)
_stands() { [ "$(cat "$_venv/made-from-$1" 2>/dev/null)" = "$_made_from" ]; }

if ! { [ -x "$PYTHON" ] && { _stands "$_extras" || _stands dev,hf; }; }; then
  echo "installing rest_jax${_extras:+[$_extras]} into $_venv (a few minutes)"
  if ! "$_base" -m venv "$_venv"; then
    echo "python3 -m venv failed: on Debian and Ubuntu its package is" \
      "python3-venv." >&2
    exit 2
  fi
  rm -f "$_venv"/made-from-*
  "$PYTHON" -m pip install --quiet --disable-pip-version-check \
    -c "$_constraints" \
    -e "$_root${_extras:+[$_extras]}" || exit 2
  echo "$_made_from" > "$_venv/made-from-$_extras"
fi
