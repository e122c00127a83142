"""One answer to "is it still the same?": fingerprints of models, data, filters and code, and their comparison.

A fingerprint is the sha256 of content, never of a path: moving or renaming an input does not change it.
This package decides whether a finished stage may be skipped, a checkpoint resumed, a cached row read, a score kept, or
filters used with a model.

The identity of a stage is a nested dict of plain JSON values: its arguments and the fingerprints of all its inputs.
`changes` compares two identities and lists the differences.
"""

from __future__ import annotations

from .code import CONTENT, class_fingerprint, function_fingerprint, own_code_fingerprint, source_fingerprint
from .commits import (
    at_commit,
    commits,
    data_commit,
    file_of_model,
    is_commit,
    known_commit,
    may_be_on_hub,
    model_commit,
    pin,
    pinning,
    split_revision,
)
from .comparison import changes, plain
from .content import (
    Identity,
    backbone_fingerprint,
    config_content,
    file_fingerprint,
    fingerprint,
    head_fingerprint,
    rows_fingerprint,
    tokenizer_fingerprint,
    weights_fingerprint,
)
