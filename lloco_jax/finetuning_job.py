"""The job that compresses documents and finetunes on them."""

from collections.abc import Sequence
import math
import pathlib

import jax
from ml_collections import ConfigDict

from lloco_jax.compression.corpus import store_settings
from lloco_jax.compression_job import compression_of, store_of, summaries_of
from lloco_jax.data.contexts import Contexts
from lloco_jax.data.examples import Dataset, Example
from lloco_jax.data.prompts import Prompt
from lloco_jax.evaluation import systems
from lloco_jax.evaluation_settings import evaluation_settings
from lloco_jax.finetuning.loop import Task, TrainingConfig
from lloco_jax.finetuning.loop import train as run_loop
from lloco_jax.finetuning.optimizer import warmup_steps
from lloco_jax.finetuning.questions import (
  check_questions,
  check_rows,
  question_rows,
  question_task,
  row_batches,
)
from lloco_jax.inputs import load_dataset, load_model
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter, LoraConfig, init_adapter
from lloco_jax.processes import agreed, is_first, wait_for_all
from lloco_jax.runs import announce, claim
from lloco_jax.sharding import rows_here, to_host
from lloco_jax.weights import peft
from lloco_jax.weights.checkpoint import load_tokenizer

# Examples, and the prompt that they are asked with; and how many tokens an
# answer may have.
Taught = Sequence[tuple[Prompt, Sequence[Example]]]
AskedLater = Sequence[tuple[Prompt, Sequence[Example], int]]


def finetune(config: ConfigDict, workdir=None) -> None:
  """Compresses the documents of a config and finetunes its adapters.

  Raises:
    ValueError, OSError: the config, the data or the workdir is unusable.
  """
  check_adapters(config)
  # What it finds would come late after training.
  evaluation_settings(config.evaluation)
  prompt = Prompt(**config.prompt)
  dataset = load_data(config)
  examples = examples_of(dataset, 'train')
  if not dataset.splits.get(config.evaluation.split):
    print(
      'The data has no examples of the split '
      f"'{config.evaluation.split}' (config.evaluation.split), so eval.py will "
      'have nothing to evaluate on; config.data.validation_share keeps a share '
      'of the documents for it.'
    )
  groups = {document.group for document in dataset.documents.values()}
  if len(groups) > 1:
    raise ValueError(
      f'The documents are of the groups {", ".join(sorted(groups))}, and a '
      'run finetunes the adapter of one; give each a run of its own.'
    )
  # The questions of the evaluation have to fit as well.
  others = [
    example
    for split, some in dataset.splits.items()
    if split != 'train'
    for example in some
  ]
  train_adapters(
    config,
    announce(config, workdir),
    dataset,
    [(prompt, examples)],
    [(prompt, others, config.evaluation.max_new_tokens)],
  )


def check_adapters(config: ConfigDict) -> None:
  """Raises ValueError where config.adapters cannot be finetuned."""
  unknown = set(config.adapters) - set(systems.FINETUNED_ON)
  if unknown or not config.adapters:
    raise ValueError(
      f'config.adapters is {tuple(config.adapters)}; choose from '
      f'{", ".join(systems.FINETUNED_ON)}.'
    )


def train_adapters(
  config: ConfigDict,
  workdir: pathlib.Path,
  dataset: Dataset,
  taught: Taught,
  asked_later: AskedLater,
) -> None:
  """Compresses documents, and finetunes the adapters on questions about them.

  Args:
    config: the model, and how it compresses and learns.
    workdir: of the run.
    dataset: the documents and examples.
    taught: the examples to learn, by their prompts.
    asked_later: those of the evaluation, which have to fit as well.

  Raises:
    ValueError, OSError: as `finetune`.
  """
  lora = LoraConfig(**config.lora.to_dict())
  compression = compression_of(config)
  if config.compression.store:
    store_of(config, workdir)
  # Weights may take minutes to read.
  starts = {
    f'start_{name}': peft.fingerprint(place)
    for name, place in config.start.items()
    if place
  }
  model = load_model(config.model)
  store_settings(model, compression)
  window = model.window
  trained = model.segment_length
  if config.model.compressor and trained != config.compression.segment_length:
    print(
      f'The compressor was trained on segments of up to {trained} tokens; this '
      f'run compresses {config.compression.segment_length} at a time.'
    )

  def rows_of(prompt, examples):
    return question_rows(
      examples, model.tokenizer, prompt, config.batch.questions_per_row
    )

  rows = [row for asked in taught for row in rows_of(*asked)]
  later = [
    row.to_answer(new_tokens)
    for *asked, new_tokens in asked_later
    for row in rows_of(*asked)
  ]
  check_questions(rows, model.config, window)
  if later:
    check_questions(later, model.config, window)
  training = training_of(config, len(rows))
  if warmup_steps(training.optimizer, training.steps) >= training.steps:
    print(
      f'The learning rate rises in all of {training.steps} steps '
      '(config.training.optimizer.warmup_ratio, warmup_steps), from 0 in the '
      'first: adapters learn little or nothing; raise config.epochs.'
    )
  key = jax.random.key(config.training.seed)
  first = {
    name: _first_adapter(config, name, model, lora, key)
    for name in config.adapters
  }

  def check(vectors):
    check_rows([*rows, *later], vectors, window)
    claim(workdir, config, model, dataset, **starts)

  summaries = summaries_of(
    config,
    workdir,
    model,
    dataset,
    check,
  )
  contexts = Contexts(
    dataset.documents,
    model.tokenizer,
    summaries,
    model.config.max_position_embeddings,
  )
  for name in config.adapters:
    folder = adapter_folder(workdir, name)
    if all(agreed([(folder / peft.CONFIG).is_file()])):
      print(f"The adapter '{name}' is trained: {folder}")
      continue
    kind = systems.FINETUNED_ON[name]

    def context_of(document_ids, reserve, kind=kind):
      return contexts.of(kind, document_ids, reserve)

    print(
      f"Finetuning the adapter '{name}' on {kind.value}: {training.steps} "
      'steps.'
    )
    batches = adapter_batches(config, rows, context_of, window)
    task = question_task(model, first[name], batches, config.remat)
    run_task(task, training, workdir / 'finetuning' / name, folder, model)


def adapter_batches(
  config: ConfigDict, rows, context_of, window: int, text_of=None
):
  """The batches of a config, of the rows that this process makes."""
  return row_batches(
    rows,
    context_of,
    config.batch.rows,
    config.training.seed,
    window,
    rows_here(config.batch.rows),
    text_of,
  )


def training_of(config: ConfigDict, rows: int) -> TrainingConfig:
  """How long and how a config trains on so many rows."""
  a_step = config.batch.rows * config.training.accumulation
  steps = -(-config.epochs * rows // max(a_step, 1))
  return TrainingConfig(steps=steps, **config.training.to_dict())


def run_task(
  task: Task,
  training: TrainingConfig,
  workdir: pathlib.Path,
  folder: pathlib.Path,
  model: Model,
) -> None:
  """Finetunes an adapter, and writes it in PEFT's format.

  Args:
    task: whose trainable is the adapter.
    training: how long and how.
    workdir: of the checkpoints, from the newest of which it goes on.
    folder: of the adapter.
    model: that it belongs to.
  """
  adapter = jax.tree.map(to_host, run_loop(task, training, workdir))
  if is_first():
    peft.save_adapter(
      folder, adapter, model.name, base_fingerprint=model.fingerprint
    )
  wait_for_all(f'the adapter {folder.name}')


def _first_adapter(config, name, model, lora, key) -> Adapter:
  """The adapter that a run begins with: a fresh one, or another run's.

  Raises:
    ValueError: it is of another size than config.lora says.
    FileNotFoundError: it is nowhere.
  """
  place = config.start[name]
  if not place:
    return init_adapter(model.config, lora, key)
  adapter = peft.load_adapter(
    place, model.config, model.fingerprint, model.name
  )
  sizes = [(each.rank, sorted(each.targets)) for each in (adapter, lora)]
  # That of an rsLoRA adapter is a root, which nobody writes in full.
  same_alpha = math.isclose(adapter.alpha, lora.alpha, rel_tol=1e-4)
  if sizes[0] != sizes[1] or not same_alpha:
    rank, targets = sizes[0]
    raise ValueError(
      f"The adapter {place} that '{name}' starts from has rank {rank}, alpha "
      f'{adapter.alpha:g} and the targets {", ".join(targets)}; set '
      'config.lora to these.'
    )
  return adapter.replace(dropout=lora.dropout)


def load_data(config: ConfigDict) -> Dataset:
  """The documents and examples of a config; see `load_dataset`."""
  return load_dataset(
    config.data,
    config.evaluation.split,
    lambda: load_tokenizer(config.model.name),
  )


def adapter_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Where a run leaves an adapter."""
  return workdir / 'adapters' / name


def examples_of(dataset: Dataset, split: str) -> tuple[Example, ...]:
  """The examples of a split; raises ValueError where there are none."""
  if not dataset.splits.get(split):
    others = ', '.join(name for name, some in dataset.splits.items() if some)
    if not others:
      raise ValueError(
        'The data has no examples: of all documents none has questions.'
      )
    mend = (
      'it can only be evaluated, by eval.py, with an adapter from elsewhere: '
      '--config.evaluation.adapters.lloco=FOLDER'
      if split == 'train'
      else 'name one that it has in config.evaluation.split'
    )
    raise ValueError(
      f"The data has no examples of a split '{split}', only of {others}; "
      f'{mend}.'
    )
  return dataset.splits[split]
