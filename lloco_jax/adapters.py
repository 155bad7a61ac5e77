"""Adapters: one finetuned in a single call, as notebooks want it."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import hashlib
import tempfile

import jax
import numpy as np

from lloco_jax.compression.corpus import compressor_fingerprint
from lloco_jax.data.contexts import Context
from lloco_jax.data.examples import Example, check_examples
from lloco_jax.data.prompts import PLAIN, Prompt
from lloco_jax.finetuning.checkpoints import claim_workdir
from lloco_jax.finetuning.loop import TrainingConfig, train
from lloco_jax.finetuning.optimizer import OptimizerConfig
from lloco_jax.finetuning.questions import (
  Row,
  check_questions,
  check_rows,
  question_rows,
  question_task,
  row_batches,
)
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter, LoraConfig, init_adapter
from lloco_jax.nn.remat import REMAT_POLICIES


def finetune(
  model: Model,
  examples: Sequence[Example],
  summaries: Mapping[str, jax.Array],
  prompt: Prompt = PLAIN,
  lora: LoraConfig | None = None,
  epochs: int = 3,
  questions_per_row: int = 8,
  learning_rate: float = 2e-4,
  seed: int = 0,
  workdir=None,
  remat: str = 'projections',
) -> Adapter:
  """Finetunes an adapter to answer from summaries (Tan et al. 2024, 3.2).

  A step is one row: a document's summaries with some of the questions about
  it. `train.py` does the same from a config, with more settings.

  Args:
    model: the base, with its tokenizer.
    examples: the questions and their answers.
    summaries: [n, D] by document id, of all documents that are asked about;
      those of others are not read.
    prompt: the words in which questions are asked, then and later.
    lora: rank, alpha, dropout and targets; the paper's by default.
    epochs: how often each question is seen.
    questions_per_row: questions that share one copy of the summaries.
    learning_rate: at the end of the warm-up.
    seed: of the adapter's start, the order and the dropout.
    workdir: folder of checkpoints and metrics, from which the same call goes
      on after it was stopped; None keeps none.
    remat: what is kept for the backward pass, see nn/remat.py; a 7B base
      needs 'full', which keeps least, on a device of 16 GB.

  Raises:
    ValueError: there is nothing to learn, a document has no summaries, a row
      exceeds the model's window, an argument is out of range, or `workdir` is
      of another call.
    FloatingPointError: the loss is not finite.
  """
  if remat not in REMAT_POLICIES:
    raise ValueError(
      f"remat is '{remat}'; it must be one of {', '.join(REMAT_POLICIES)}."
    )
  for name, number in (
    ('epochs', epochs),
    ('questions_per_row', questions_per_row),
  ):
    if not isinstance(number, int) or number < 1:
      raise ValueError(
        f'{name} is {number!r}; it must be a whole number, 1 or more.'
      )
  examples = tuple(examples)
  check_examples(examples, summaries)
  window = model.window
  rows = question_rows(
    examples, model.need_tokenizer(), prompt, questions_per_row
  )
  check_questions(rows, model.config, window)
  vectors = {
    key: _vectors(key, summaries[key], model.config.hidden_size)
    for key in sorted({key for row in rows for key in row.document_ids})
  }
  check_rows(rows, {key: len(each) for key, each in vectors.items()}, window)
  lora = lora or LoraConfig()

  def context_of(document_ids, reserve):
    return Context(np.concatenate([vectors[key] for key in document_ids]))

  training = TrainingConfig(
    steps=epochs * len(rows),
    seed=seed,
    checkpoint_every=50,
    tensorboard=False,
    optimizer=OptimizerConfig(learning_rate, warmup_ratio=0.04),
  )
  adapter = init_adapter(model.config, lora, jax.random.key(seed))
  batches = row_batches(rows, context_of, 1, seed, window)
  with contextlib.ExitStack() as stack:
    if workdir is None:
      workdir = stack.enter_context(tempfile.TemporaryDirectory())
    claim_workdir(
      workdir,
      {
        'lora': dataclasses.asdict(lora),
        'training': dataclasses.asdict(training),
        'questions': _questions_hash(rows),
        'summaries': _summaries_hash(vectors),
        'model': compressor_fingerprint(model),
      },
    )
    task = question_task(model, adapter, batches, remat)
    return train(task, training, workdir)


def _vectors(document_id: str, summaries, width: int) -> np.ndarray:
  vectors = np.asarray(summaries)
  if vectors.ndim != 2 or vectors.shape[1] != width:
    raise ValueError(
      f"The summaries of document '{document_id}' are {list(vectors.shape)}; "
      f'for this model they must be [n, {width}].'
    )
  return vectors


def _questions_hash(rows: Sequence[Row]) -> str:
  asked = [(row.document_ids, row.questions) for row in rows]
  return hashlib.sha256(repr(asked).encode()).hexdigest()


def _summaries_hash(vectors: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256()
  for name, value in vectors.items():
    digest.update(f'{name!r}{value.shape}{value.dtype}'.encode())
    digest.update(np.ascontiguousarray(value).tobytes())
  return digest.hexdigest()
