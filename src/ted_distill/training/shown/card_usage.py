"""Runnable lines for a model card: how a finished model is used with transformers alone."""

from __future__ import annotations

from ...output.cards import USE_HERE
from ...tasks.base import Task

_HERE = f"{USE_HERE}  # the folder of this card, or its name on the Hub"
_PIPELINE = """from transformers import pipeline

{here}
predict = pipeline("{tag}", model=name)
print({call})"""
_ANSWERS = """import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

{here}
question, passage = "Who wrote it?", "Ada wrote it in a week."
tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForQuestionAnswering.from_pretrained(name)
inputs = tokenizer(question, passage, truncation="only_second", max_length={length}, return_tensors="pt")
start, end = (scores[0].argmax() for scores in model(**inputs).to_tuple()[:2])
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))"""
_CALLS = {
    "text-classification": "predict({text}, truncation=True, max_length={length}{top})",
    "token-classification": 'predict("Ada wrote a book in Paris.", aggregation_strategy="{joined}")',
    "fill-mask": 'predict(f"This is {{predict.tokenizer.mask_token}}.")',
    "text-generation": 'predict("This is", max_new_tokens=10)',
}


def usage(task: Task, max_length: int) -> str:
    """Python that loads the model and prints a prediction; empty for tasks that transformers offers nothing for.

    Transformers 5 has no pipeline for question answering, so there it is the model that is called.

    Args:
        max_length: the most tokens of a row in training.
    """
    tag = task.pipeline_tag
    if tag == "question-answering":
        return _ANSWERS.format(here=_HERE, length=max_length)
    if tag not in _CALLS:
        return ""
    pair = tag == "text-classification" and "text_pair" in task.text_columns(next(iter(task.rows.values())))
    text = '{"text": "This is one.", "text_pair": "This is another."}' if pair else '"This is a text."'
    top = ", top_k=None" if task.problem_type == "multi_label_classification" else ""
    joined = "simple" if any(label.startswith(("B-", "I-")) for label in task.label_names or ()) else "none"
    call = _CALLS[tag].format(text=text, length=max_length, top=top, joined=joined)
    return _PIPELINE.format(here=_HERE, tag=tag, call=call)
