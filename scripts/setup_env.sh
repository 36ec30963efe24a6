#!/bin/sh
# Finds a Python that can make the environment (3.11 to 3.14, with venv) and hands over to setup_env.py.
# PEFT_EVAL_PYTHON names another one.
set -u
cd "$(dirname "$0")/.." || exit 1

fits='import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit("Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("Python %d.%d without venv" % sys.version_info[:2])'

seen=""
for candidate in ${PEFT_EVAL_PYTHON:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
    path=$(command -v "$candidate") || continue
    if reason=$("$path" -c "$fits" 2>&1); then
        exec "$path" scripts/setup_env.py "$@"
    fi
    seen="$seen
  $path: $(echo "$reason" | head -n 1)"
done

{
    echo "error: no usable Python: 3.11 to 3.14 with its venv module is needed. Looked at:${seen:-
  ${PEFT_EVAL_PYTHON:-python3.13, python3.12, python3.11, python3.14, python3, python}: not on PATH}"
    echo "Install one (Debian and Ubuntu: apt install python3 python3-venv), or name it: PEFT_EVAL_PYTHON=/path/to/python3.12 make"
} >&2
exit 1
