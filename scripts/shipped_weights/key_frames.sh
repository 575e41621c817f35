#!/bin/bash
# Train Ref-Align and Ref-Fusion on basicvsr-reds4 at x4, with only key-frames and without HRIP, from clips on disk to
# an export. Existing files are kept. To resume a run that was stopped, start the same command again.
#
#   scripts/shipped_weights/key_frames.sh DATA WORK [FLAG OF ldip train ...]
#
# DATA holds video/davis/NAME (854 pixels wide), video/bedroom and video/clips/davis_rollercoaster.mp4 (960),
# video/street, video/clips/bigbuckbunny.mp4 and sintel_trailer-720p.mp4 (1280), and stills/; missing ones are
# skipped. The script writes prepared/, records/, heldout/ (records for validation, of clips that are not trained on)
# and the run itself to WORK. Settings, as environment variables:
#
#   PYTHON     the interpreter, relative to the repository          (.venv/bin/python)
#   EPOCHS     records of each clip                                 (1)
#   FRAMES KEYS REFERENCES of a record                              (9 3 3)
#   WIDTHS     which of these clips                                 ("854 960 1280")
#   MOVES      records per epoch of camera moves over the stills    (3)
#   COMPRESSED JPEG NOISE   shares of the records whose clip is damaged by H.264, JPEG, noise (0 0 0)
#   CRF        range of the rate factor                             ("(15.0, 35.0)")
#   JITTER     share of the references that are jittered            (0)
#   SEED       a different seed gives other samples of the clips    (0)
#   RUN        the run's folder in WORK                             (run)
#   INIT       an export to start from (the shipped x4 weights); empty: fusion_start=transfer
#   STEPS RATE LAST_RATE                                            (1500, 1.5e-4, 2e-6)
#   CONFIG     the config; `ldip_basicvsr_x4:cross` is plain cross attention  (ldip_basicvsr_x4)
#   ONLY       "records": only make the records
#
# You can add more records to a run that was stopped, also with other COMPRESSED, JPEG, NOISE, JITTER and SEED: they are
# made beside the existing ones, and the run uses all of them. If clips are compressed, a second set of held-out records
# is compressed too. A new RUN with INIT=WORK/run/export.safetensors is another cycle.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,/^set /p' "$0" | sed '/^set /d; s/^# \{0,1\}//' >&2
  exit 2
fi
mkdir -p "$2"
DATA=$(cd "$1" && pwd) WORK=$(cd "$2" && pwd)
[ -z "${INIT:-}" ] || INIT=$(realpath "$INIT")
shift 2
cd "$(dirname "$0")/../.."
INIT=${INIT-$PWD/ldip_jax/weights/shipped/basicvsr-reds4-x4.safetensors}
python() { "${PYTHON:-.venv/bin/python}" "$@"; }
ldip() { python -u -m ldip_jax.cli.main "$@"; }

config=${CONFIG:-ldip_basicvsr_x4}
# A few frames around the key-frames, for the backbone; references up to 35 frames away.
samples=(--config.data.frames=36 --config.data.clip="${FRAMES:-9}" --config.data.key_frames="${KEYS:-3}"
  --config.data.references="${REFERENCES:-3}" --config.data.augment=False --config.data.workers=0)
shots=scripts/shipped_weights/shots.json
crf=(--config.data.input.crf="${CRF:-(15.0, 35.0)}")
damage=(--config.data.input.h264="${COMPRESSED:-0}" "${crf[@]}" --config.data.input.jpeg="${JPEG:-0}"
  --config.data.input.noise="${NOISE:-0}" --config.data.reference_jitter.share="${JITTER:-0}"
  --config.seed="${SEED:-0}")
# Records with other settings are in folders with other names.
kind=
[ -z "${COMPRESSED:-}" ] || kind+=-compressed$COMPRESSED
[ -z "${CRF:-}" ] || kind+=-crf${CRF//[^0-9.]/_}
[ -z "${JPEG:-}" ] || kind+=-jpeg$JPEG
[ -z "${NOISE:-}" ] || kind+=-noise$NOISE
[ -z "${JITTER:-}" ] || kind+=-jitter$JITTER
[ -z "${SEED:-}" ] || kind+=-seed$SEED

# pack WIDTH FACTOR CLIP...: clips of one width, reduced by area means to 427x240.
pack() {
  local name=$1 factor=$2 clip
  shift 2
  mkdir -p "$WORK/source/$name"
  for clip in "$@"; do
    [ ! -e "$clip" ] || ln -sfn "$clip" "$WORK/source/$name/"
  done
  if [ -d "$WORK/prepared/$name/video_folder" ] || ! ls "$WORK/source/$name"/* >/dev/null 2>&1; then
    return
  fi
  local cuts=()
  [ ! -e "$WORK/source/$name/sintel_trailer-720p.mp4" ] || cuts=(--shots "$shots")
  ldip prepare video_folder --source "$WORK/source/$name" --output "$WORK/prepared/$name" \
    --reduce "$factor" --heldout configs/heldout.json "${cuts[@]}"
}

# clips WIDTH SPLIT: the number of clips that are long enough.
clips() {
  python -c '
import json, sys
clips = json.load(open(sys.argv[1]))["clips"].get(sys.argv[2], [])
print(sum(clip[2] >= int(sys.argv[3]) for clip in clips))' \
    "$WORK/prepared/$1/video_folder"/*/metadata.json "$2" "${FRAMES:-9}"
}

# make FOLDER NAME SPLIT COUNT [FLAG...]: the records of one part; then links to all parts of FOLDER in FOLDER/all.
make() {
  local folder=$1 name=$2 split=$3 count=$4 file
  shift 4
  [ "$count" -gt 0 ] || return 0
  local last
  last=$(printf '%s/%s/%06d.safetensors' "$folder" "$name" $((count - 1)))
  [ -e "$last" ] || ldip records --config "$config" --output "$folder/$name" \
    --count "$count" --split "$split" "${samples[@]}" "$@"
  mkdir -p "$folder/all"
  for file in "$folder/$name"/*.safetensors; do
    ln -f "$file" "$folder/all/$name-$(basename "$file")"
  done
}

pack 854 0.5 "$DATA"/video/davis/*
pack 960 0.445 "$DATA/video/bedroom" "$DATA/video/clips/davis_rollercoaster.mp4"
pack 1280 0.3334 "$DATA/video/street" "$DATA/video/clips/bigbuckbunny.mp4" \
  "$DATA/video/clips/sintel_trailer-720p.mp4"

for width in ${WIDTHS:-854 960 1280}; do
  [ -d "$WORK/prepared/$width/video_folder" ] || continue
  own=(--config.data.dataset=video_folder --config.data.data_dir="$WORK/prepared/$width")
  make "$WORK/records" "$width$kind" train $((${EPOCHS:-1} * $(clips $width train))) "${own[@]}" "${damage[@]}"
  make "$WORK/heldout" $width heldout "$(clips $width heldout)" "${own[@]}" --config.data.key_frames=1
  [ -z "${COMPRESSED:-}" ] || make "$WORK/heldout" $width-compressed heldout "$(clips $width heldout)" "${own[@]}" \
    --config.data.key_frames=1 --config.data.input.h264=1 "${crf[@]}"
done
if [ -d "$DATA/stills" ] && [ "${MOVES:-3}" -gt 0 ]; then
  make "$WORK/records" "stills$kind" train $((${EPOCHS:-1} * ${MOVES:-3})) --config.data.dataset=stills \
    --config.data.data_dir="$DATA/stills" --config.data.size="(240, 424)" "${damage[@]}"
fi
[ "${ONLY:-}" != records ] || exit 0

run=$WORK/${RUN:-run}
start=(--config.fusion_start=transfer)
[ -z "${INIT:-}" ] || start=(--config.init_from="$INIT")
# `--export-only` at the end: export the last weights, not those with the best score on the held-out clips.
training=(--config "$config" --workdir "$run" --config.data.records="$WORK/records/all" "${start[@]}"
  --config.data.validation_records="$WORK/heldout/all" --config.validation_samples=14
  --config.propagate=False --config.data.clip=1 --config.data.crop=128 --config.data.window=176
  --config.data.jitter=8 --config.batch_size=1 --config.data.key_frames=1
  --config.data.references="${REFERENCES:-3}" --config.data.fewest_references=2 --config.data.workers=0
  --config.data.sharp_references=0.7 --config.data.self_references=0.0 --config.data.distractors=0.1
  --config.steps="${STEPS:-1500}" --config.learning_rate="${RATE:-1.5e-4}"
  --config.final_learning_rate="${LAST_RATE:-2e-6}" --config.warmup_steps=40 --config.clip_norm=1.0
  --config.ema=0.99 --config.log_every=20 --config.validate_every=100 --config.checkpoint_every=100 "$@")
ldip train "${training[@]}"
ldip train "${training[@]}" --export-only
