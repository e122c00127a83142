#!/usr/bin/env bash
# Stage I: learn the filters of the models that finetune.sh left, with the published hyper-parameters.
#
#   scripts/learn_filters.sh [flags for both, such as --max_train_samples 1000]
#
# OUT, PRECISION (see finetune.sh; nothing on a CPU) and FILTER_OUTPUT_DIM (768, the teacher's width) may be set in the
# environment.
set -euo pipefail
OUT=${OUT:-runs/squad_v2/deberta-v3-base-to-xsmall}
PRECISION=${PRECISION---fp16}
FILTER_OUTPUT_DIM=${FILTER_OUTPUT_DIM:-768}

ted learn-filters --model_name_or_path "$OUT/teacher" --output_dir "$OUT/teacher_filters" \
  --task squad_v2 --max_seq_length 384 --doc_stride 128 --filter_interval 1 --filter_output_dim "$FILTER_OUTPUT_DIM" \
  --learning_rate 3e-5 --num_train_epochs 3 --per_device_train_batch_size 48 \
  --filter_init normal --max_grad_norm 0 --warmup_steps 0 --seed 42 $PRECISION "$@"

ted learn-filters --model_name_or_path "$OUT/student" --output_dir "$OUT/student_filters" \
  --task squad_v2 --max_seq_length 384 --doc_stride 128 --filter_interval 1 --filter_output_dim "$FILTER_OUTPUT_DIM" \
  --learning_rate 5e-5 --num_train_epochs 3 --per_device_train_batch_size 8 \
  --filter_init normal --max_grad_norm 0 --warmup_steps 0 --seed 42 $PRECISION "$@"
