"""The labels and scores that onnxruntime gives in Python for some texts, for `check.mjs`.

python answers.py STUDENT TEXT ... > answers.json
"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from transformers import AutoTokenizer

student, *texts = sys.argv[1:]
session = InferenceSession(f"{student}/onnx/model_quantized.onnx")
tokenizer = AutoTokenizer.from_pretrained(student)
labels = json.loads(Path(student, "export.json").read_text(encoding="utf-8"))["labels"]
found = []
for text in texts:
    row = tokenizer(text, return_tensors="np")
    (logits,) = session.run(["logits"], {value.name: row[value.name].astype("int64") for value in session.get_inputs()})
    scores = np.exp(logits[0] - logits[0].max())
    scores /= scores.sum()
    found.append({"text": text, "label": labels[scores.argmax()], "score": float(scores.max())})
print(json.dumps(found, indent=2))
