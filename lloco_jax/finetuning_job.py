"""The job that compresses documents and finetunes on them; its evaluation."""

import pathlib
import sys

import jax
from ml_collections import ConfigDict

from lloco_jax.compression.corpus import (
  CompressionConfig,
  compress_documents,
  store_settings,
)
from lloco_jax.compression.store import Store
from lloco_jax.data.contexts import Contexts
from lloco_jax.data.examples import Dataset, Example
from lloco_jax.data.prompts import Prompt
from lloco_jax.evaluation import report, results, runner, scoring, systems
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.finetuning.loop import TrainingConfig
from lloco_jax.finetuning.loop import train as run_loop
from lloco_jax.finetuning.questions import (
  check_questions,
  check_rows,
  question_rows,
  question_task,
  row_batches,
)
from lloco_jax.inputs import load_dataset, load_models
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.runs import announce, claim, versions
from lloco_jax.weights import peft
from lloco_jax.weights.checkpoint import load_tokenizer


def finetune(config: ConfigDict, workdir: pathlib.Path) -> None:
  """Compresses the documents of a config and finetunes its adapters.

  Raises:
    ValueError, OSError: the config, the data or the workdir is unusable.
  """
  unknown = set(config.adapters) - set(systems.FINETUNED_ON)
  if unknown or not config.adapters:
    raise ValueError(
      f'config.adapters is {tuple(config.adapters)}; choose from '
      f'{", ".join(systems.FINETUNED_ON)}.'
    )
  _check_evaluation(config)
  lora = LoraConfig(**config.lora.to_dict())
  prompt = Prompt(**config.prompt)
  dataset = _dataset(config)
  examples = _examples(dataset, 'train')
  groups = {document.group for document in dataset.documents.values()}
  if len(groups) > 1:
    raise ValueError(
      f'The documents are of the groups {", ".join(sorted(groups))}, and a '
      'run finetunes the adapter of one; give each a run of its own.'
    )
  _, model = load_models(config.model)
  store_settings(model, CompressionConfig(config.compression.segment_length))
  window = model.config.max_position_embeddings
  # The questions of the evaluation have to fit as well.
  others = [
    example
    for split, some in dataset.splits.items()
    if split != 'train'
    for example in some
  ]
  rows, later = (
    question_rows(some, model.tokenizer, prompt, config.batch.questions_per_row)
    for some in (examples, others)
  )
  check_questions(rows, window)
  if later:
    check_questions(later, window)
  a_step = config.batch.rows * config.training.accumulation
  steps = -(-config.epochs * len(rows) // max(a_step, 1))
  training = TrainingConfig(steps=steps, **config.training.to_dict())
  claim(workdir, config, model, dataset)
  summaries = _summaries(
    config,
    workdir,
    model,
    dataset,
    lambda vectors: check_rows([*rows, *later], vectors, window),
  )
  contexts = Contexts(
    dataset.documents.values(), model.tokenizer, summaries, window
  )
  key = jax.random.key(config.training.seed)
  for name in config.adapters:
    folder = _adapter_folder(workdir, name)
    if (folder / peft.CONFIG).is_file():
      print(f"The adapter '{name}' is trained: {folder}")
      continue
    kind = systems.FINETUNED_ON[name]

    def context_of(document_ids, reserve, kind=kind):
      return contexts.of(kind, document_ids, reserve)

    print(f"Finetuning the adapter '{name}' on {kind.value}: {steps} steps.")
    task = question_task(
      model,
      init_adapter(model.config, lora, key),
      row_batches(
        rows,
        context_of,
        config.batch.rows,
        config.training.seed,
        window,
      ),
      config.remat,
    )
    adapter = run_loop(task, training, workdir / 'finetuning' / name)
    peft.save_adapter(
      folder, adapter, model.name, base_fingerprint=model.fingerprint
    )


def evaluate(config: ConfigDict, workdir=None) -> results.Results:
  """Answers the questions of a split with every system, and reports.

  Raises:
    ValueError: the config or the data is unusable, or the workdir of another.
    FileNotFoundError: an adapter has not been trained.
  """
  _check_evaluation(config)
  if 'lloco' not in config.adapters:
    raise ValueError(
      f"config.adapters is {tuple(config.adapters)}; 'lloco' must be among "
      'them, which the others are compared with.'
    )
  workdir = announce(config, workdir)
  dataset = _dataset(config)
  examples = _examples(dataset, config.evaluation.split)
  for name in config.adapters:
    if not (_adapter_folder(workdir, name) / peft.CONFIG).is_file():
      raise FileNotFoundError(
        f"The adapter '{name}' is missing in {workdir}; run train.py with the "
        'same config first.'
      )
  base, model = load_models(config.model)
  claim(workdir, config, model, dataset)
  adapters = {
    name: peft.load_adapter(
      _adapter_folder(workdir, name), model.config, model.fingerprint
    )
    for name in config.adapters
  }
  summaries = _summaries(config, workdir, model, dataset)
  found = systems.standard_systems(adapters)
  folder = workdir / 'evaluation'
  metric = config.evaluation.metric
  scores = {*runner.COMMON_METRICS, *scoring.score_names(metric)}
  answers = runner.evaluate(
    model,
    examples,
    dataset.documents,
    summaries,
    found,
    Prompt(**config.prompt),
    {name: scoring.SCORES[name] for name in sorted(scores)},
    config.evaluation.max_new_tokens,
    base=base,
    cache=AnswerCache(folder / 'answers'),
  )
  outcome = results.write_results(
    folder,
    answers,
    metric,
    [name for name in systems.CONTROLS if name in {s.name for s in found}],
    systems.MAIN_SYSTEM,
    samples=config.evaluation.bootstrap_samples,
  )
  path = report.write_report(
    folder,
    outcome,
    {
      'Config': config.to_dict(),
      'Versions': versions(),
      'Device': str(jax.devices()[0].device_kind),
    },
    title=f'Evaluation of {config.name}',
  )
  print(report.terminal_table(outcome, color=sys.stdout.isatty()))
  print(report.one_question(outcome))
  print(f'Report: {path}')
  return outcome


def _check_evaluation(config: ConfigDict) -> None:
  """Before training too: what it finds would come late after it."""
  chosen = config.evaluation
  if chosen.metric not in scoring.METRICS:
    raise ValueError(
      f"config.evaluation.metric is '{chosen.metric}'; it must be one of "
      f'{", ".join(scoring.METRICS)}.'
    )
  for name in ('max_new_tokens', 'bootstrap_samples'):
    if chosen[name] < 1:
      raise ValueError(
        f'config.evaluation.{name} is {chosen[name]}; it must be >= 1.'
      )


def _dataset(config: ConfigDict) -> Dataset:
  return load_dataset(
    config.data,
    config.evaluation.split,
    lambda: load_tokenizer(config.model.name),
  )


def _adapter_folder(workdir: pathlib.Path, name: str) -> pathlib.Path:
  return workdir / 'adapters' / name


def _summaries(config, workdir, model, dataset, check=None) -> dict:
  """Summary vectors of every document, compressing what is not stored."""
  store = Store(config.compression.store or workdir / 'store')
  stored = compress_documents(
    model,
    dataset.documents.values(),
    store,
    CompressionConfig(
      segment_length=config.compression.segment_length,
      rows=config.compression.rows,
      token_cap=config.compression.token_cap,
      block_characters=config.compression.block_characters or None,
    ),
    check=check,
  )
  return {name: store.load(entry.key) for name, entry in stored.items()}


def _examples(dataset: Dataset, split: str) -> tuple[Example, ...]:
  if not dataset.splits.get(split):
    raise ValueError(
      f"The data has no examples of a split '{split}', only of "
      f'{", ".join(name for name, some in dataset.splits.items() if some)}.'
    )
  return dataset.splits[split]
