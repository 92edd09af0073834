#!/bin/sh
# Everything that needs a GPU, most valuable first, within minutes: sh docs/scripts/gpu.sh OUT
# See CONTRIBUTING.md. PYTHON is a Python with torch; nothing needs to be installed or downloaded.
exec "${PYTHON:-python3}" "$(dirname -- "$0")/gpu_stages.py" "$@"
