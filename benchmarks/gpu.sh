#!/usr/bin/env bash
# Measures what only a GPU can tell, in at most ten minutes and without a network; writes gpu.md. See benchmarks/gpu.py.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=python3; fi
exec "$python" -m benchmarks.gpu "$@"
