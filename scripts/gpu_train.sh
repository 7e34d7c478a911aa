#!/usr/bin/env bash
# Train on a bare GPU machine without a network, to which a copy of this checkout and one folder of limited size travel at a time.
#
# At home, with the package installed; writes .gpu/, which git ignores, and prints every piece with its size:
#   scripts/gpu_train.sh prepare POOL --archives TAR... --pitch FOLDER --noise TAR --valid-speakers TSV --teacher FOLDER \
#       [--start FOLDER (the Whisper whose weights a semantic transformer begins with)] \
#       [--run semantic=FOLDER --run codebook=FOLDER --run reconstruct=FOLDER ...] [--max-mb 55] [--no-wheels]
# There (Python 3.12, torch with CUDA, numpy, scipy, safetensors, transformers, typer, rich), one piece or several, `common` first, which brings
# soundfile:
#   scripts/gpu_train.sh receive .gpu/common .gpu/data-00
# Then stage by stage; further arguments go to the command of the stage (semantic, codebook, refine, codebook again,
# reconstruct, adversarial):
#   scripts/gpu_train.sh train [--max-part-mb 15] semantic 8 --config small --set batch=64 --compile
# Each leaves its log and the first pieces of its run (float16 weights and averaged weights, no piece above --max-part-mb) in $OUT. When they
# are more than fit, or a command was stopped before its end, the others come with:
#   scripts/gpu_train.sh send semantic 4
# At home; once all pieces of a run are there it stands in .gpu/runs/, for the stage commands to go on with and for `prepare --run`:
#   scripts/gpu_train.sh collect FOLDER...
#
# Data, features and runs stay in $LOCAL between calls. PYTHON names another interpreter, DEVICE another device than the GPU (or none: the CPU).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
LOCAL=${LOCAL:-$(dirname "$(mktemp -u)")/unitoken-gpu}
export LOCAL OUT=${OUT:-$LOCAL/out} PYTHONPATH=$LOCAL/site:$root/src

if [ "${1:-}" = receive ]; then
    for piece in "${@:2}"; do
        if [ -d "$piece/wheels" ]; then
            "$python" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$LOCAL/site" "$piece"/wheels/*.whl
        fi
    done
fi
exec "$python" "$root/scripts/gpu_train.py" "$@"
