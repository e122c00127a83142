#!/usr/bin/env bash
# Fine-tune teacher and student on SQuAD 2.0 with the published hyper-parameters.
#
#   scripts/finetune.sh [flags for both, such as --max_train_samples 1000]
#
# TEACHER, STUDENT, OUT and PRECISION may be set in the environment; learn_filters.sh and ted.sh read the same OUT.
# PRECISION is --fp16 as published, which needs a GPU: on a CPU set PRECISION= (nothing), for what suits the processor.
set -euo pipefail
TEACHER=${TEACHER:-microsoft/deberta-v3-base}
STUDENT=${STUDENT:-microsoft/deberta-v3-xsmall}
OUT=${OUT:-runs/squad_v2/deberta-v3-base-to-xsmall}
PRECISION=${PRECISION---fp16}

ted finetune --model_name_or_path "$TEACHER" --output_dir "$OUT/teacher" \
  --task squad_v2 --max_seq_length 384 --doc_stride 128 \
  --learning_rate 3e-5 --num_train_epochs 3 --per_device_train_batch_size 24 --gradient_accumulation_steps 2 \
  --max_grad_norm 0 --warmup_steps 0 --seed 42 $PRECISION "$@"

ted finetune --model_name_or_path "$STUDENT" --output_dir "$OUT/student" \
  --task squad_v2 --max_seq_length 384 --doc_stride 128 \
  --learning_rate 5e-5 --num_train_epochs 3 --per_device_train_batch_size 8 \
  --max_grad_norm 0 --warmup_steps 0 --seed 42 $PRECISION "$@"
