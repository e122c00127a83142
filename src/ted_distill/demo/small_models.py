"""A tokenizer and a small DeBERTa-v2 of random weights for the embedded demo."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import DebertaV2Config, DebertaV2ForQuestionAnswering, PreTrainedTokenizerFast, set_seed

SPECIAL_TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
MAX_LENGTH = 64
_SEED = 42


def train_tokenizer(texts: Iterable[str], folder: Path) -> PreTrainedTokenizerFast:
    """Make a lower-case tokenizer of whole words from the texts, and save it where `AutoTokenizer` finds it.

    A word that is not in the texts becomes `[UNK]`. A pair is encoded as `[CLS] question [SEP] context [SEP]`.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=SPECIAL_TOKENS, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    return fast


def _texts(data_files: Sequence[Path]) -> Iterator[str]:
    """All contexts and questions of files in the nested SQuAD form."""
    for file in data_files:
        for article in json.loads(Path(file).read_text(encoding="utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                yield paragraph["context"]
                yield from (qa["question"] for qa in paragraph["qas"])


def _config(vocab_size: int, *, width: int, blocks: int, heads: int) -> DebertaV2Config:
    """A small DeBERTa-v2: relative positions only, and a key shared between content and position."""
    return DebertaV2Config(
        vocab_size=vocab_size,
        hidden_size=width,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_buckets=16,
        max_position_embeddings=MAX_LENGTH,
        position_biased_input=False,
        # Without token types a word cannot tell its copy in the question from its copies in the passage, and the
        # models never learn to match names in the time of a demo.
        type_vocab_size=2,
        # Published models start from 0.02 at widths of 384 and more. A narrow model that starts there attends to
        # everything alike for most of a short training: it learns to match words far sooner from larger weights.
        initializer_range=width**-0.5,
        # Every training question is new for the model or nearly so: there is nothing to regularise.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _model(config: DebertaV2Config) -> DebertaV2ForQuestionAnswering:
    """A model of random weights in which every word at first attends to its own copies.

    Keys start equal to queries, after "Mimetic Initialization of Self-Attention Layers" (Trockman and Kolter, 2023).
    Pre-trained models match equal words from the first step; this spares the demo the time to find out how.
    """
    model = DebertaV2ForQuestionAnswering(config)
    with torch.no_grad():
        for block in model.deberta.encoder.layer:
            block.attention.self.key_proj.weight.copy_(block.attention.self.query_proj.weight)
    return model


def write_teacher(folder: Path, data_files: Sequence[Path]) -> None:
    """Write an untrained teacher of four blocks, with a tokenizer made from the data."""
    tokenizer = train_tokenizer(_texts(data_files), folder)
    set_seed(_SEED)
    _model(_config(len(tokenizer), width=96, blocks=4, heads=2)).save_pretrained(folder)
