#!/bin/sh
# What a bare GPU machine (Python 3.12, torch, no network) lacks to run benchmarks/gpu_acceptance.py, in one folder.
#
#     sh benchmarks/gpu_carry.sh [FOLDER]          here, with a network; 4 MB, and 12 MB with MNIST
#
# FOLDER (.carry by default) gets wheels/ (this checkout's own and what images of torch come without), the commit,
# and MNIST where ALHARNESS_DATA or shared/data has it. There, in the checkout, one call:
#
#     sh FOLDER/accept.sh OUT [--budget 540]
set -eu
cd "$(dirname "$0")/.."
carry=${1:-.carry}
python=${PYTHON:-python3}
mkdir -p "$carry/wheels"
rm -f "$carry"/wheels/alharness-*.whl
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d "$carry/wheels" pydantic annotated-types typing-inspection tomli-w
# The one version of its core that a version of pydantic works with.
core=$("$python" - "$carry"/wheels/pydantic-*.whl <<'END'
import re, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
text = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))).decode()
print(re.search(r"^Requires-Dist: (pydantic-core==\S+?)(?:;|$)", text, re.M).group(1))
END
)
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -d "$carry/wheels" "$core"
"$python" -m pip wheel -q --no-deps -w "$carry/wheels" .
git rev-parse HEAD > "$carry/COMMIT" 2>/dev/null || echo unknown > "$carry/COMMIT"
for data in "${ALHARNESS_DATA:-}" shared/data; do
    if [ -n "$data" ] && [ -d "$data/MNIST" ] && [ ! -d "$carry/data/MNIST" ]; then
        mkdir -p "$carry/data"
        cp -rL "$data/MNIST" "$carry/data/"
    fi
done
cat > "$carry/accept.sh" <<'END'
#!/bin/sh
# Installs what was carried beside the machine's own packages, and measures. Needs no network.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
shift
site=$(mktemp -d)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$here"/wheels/*.whl
export PYTHONPATH="$site" PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-8}"
if [ -d "$here/data" ]; then export ALHARNESS_DATA="$here/data"; fi
exec python3 benchmarks/gpu_acceptance.py --out "$out" --commit "$(cat "$here/COMMIT")" "$@"
END
du -sh "$carry"
