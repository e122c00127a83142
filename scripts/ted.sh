#!/usr/bin/env bash
# Stage II: distil the teacher into the student through the filters that learn_filters.sh left.
#
#   scripts/ted.sh [flags, such as --max_train_samples 1000]
#
# OUT and PRECISION (see finetune.sh; nothing on a CPU) may be set in the environment.
set -euo pipefail
OUT=${OUT:-runs/squad_v2/deberta-v3-base-to-xsmall}
PRECISION=${PRECISION---fp16}

ted distill --method ted \
  --teacher_name_or_path "$OUT/teacher_filters" --student_name_or_path "$OUT/student_filters" --output_dir "$OUT/ted" \
  --task squad_v2 --max_seq_length 384 --doc_stride 128 \
  --kl_alpha 10 --mse_alpha 5000 --temperature 2 --layer_loss mse --student_dropout true \
  --learning_rate 5e-5 --num_train_epochs 3 --per_device_train_batch_size 8 \
  --max_grad_norm 0 --warmup_steps 0 --seed 42 $PRECISION "$@"
