"""The job that compresses documents and finetunes on them; its evaluation."""

from collections.abc import Mapping, Sequence
import pathlib
import sys

import jax
from ml_collections import ConfigDict

from lloco_jax.compression.corpus import (
  CompressionConfig,
  store_settings,
)
from lloco_jax.compression_job import summaries_of
from lloco_jax.data.contexts import Contexts
from lloco_jax.data.examples import Dataset, Example
from lloco_jax.data.prompts import Prompt
from lloco_jax.evaluation import report, results, runner, scoring, systems
from lloco_jax.evaluation.answer_cache import AnswerCache
from lloco_jax.evaluation_settings import evaluation_settings
from lloco_jax.finetuning.loop import Task, TrainingConfig
from lloco_jax.finetuning.loop import train as run_loop
from lloco_jax.finetuning.questions import (
  check_questions,
  check_rows,
  question_rows,
  question_task,
  row_batches,
)
from lloco_jax.inputs import load_base, load_dataset, load_models
from lloco_jax.model import Model
from lloco_jax.nn.lora import Adapter, LoraConfig, init_adapter
from lloco_jax.processes import agreed, is_first, wait_for_all
from lloco_jax.runs import announce, claim, device, versions
from lloco_jax.sharding import rows_here, to_host
from lloco_jax.weights import peft
from lloco_jax.weights.checkpoint import load_tokenizer

# Examples, and the prompt that they are asked with.
Asked = Sequence[tuple[Prompt, Sequence[Example]]]


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
      'have nothing to evaluate on.'
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
    [(prompt, others)],
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
  taught: Asked,
  asked_later: Asked,
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
  _, model = load_models(config.model)
  store_settings(model, CompressionConfig(config.compression.segment_length))
  window = model.window
  trained = model.segment_length
  if config.model.compressor and trained != config.compression.segment_length:
    print(
      f'The compressor was trained on segments of up to {trained} tokens; this '
      f'run compresses {config.compression.segment_length} at a time.'
    )
  rows, later = (
    [
      row
      for prompt, examples in asked
      for row in question_rows(
        examples, model.tokenizer, prompt, config.batch.questions_per_row
      )
    ]
    for asked in (taught, asked_later)
  )
  check_questions(rows, window)
  if later:
    check_questions(later, window)
  training = training_of(config, len(rows))
  key = jax.random.key(config.training.seed)
  first = {
    name: _first_adapter(config, name, model, lora, key)
    for name in config.adapters
  }
  claim(workdir, config, model, dataset)
  summaries = summaries_of(
    config,
    workdir,
    model,
    dataset,
    lambda vectors: check_rows([*rows, *later], vectors, window),
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
  sizes = [
    (each.rank, each.alpha, sorted(each.targets)) for each in (adapter, lora)
  ]
  if sizes[0] != sizes[1]:
    rank, alpha, targets = sizes[0]
    raise ValueError(
      f"The adapter {place} that '{name}' starts from has rank {rank}, alpha "
      f'{alpha:g} and the targets {", ".join(targets)}; set config.lora to '
      'these.'
    )
  return adapter.replace(dropout=lora.dropout)


def evaluate(config: ConfigDict, workdir=None) -> results.Results | None:
  """Answers the questions of a split with every system, and reports.

  Of several processes only the first reports; the others return None.

  Raises:
    ValueError: the config or the data is unusable, or the workdir of another.
    FileNotFoundError: an adapter has not been trained.
    ImportError: a package that config.evaluation.retrieval needs is missing.
  """
  settings = evaluation_settings(config.evaluation)
  if 'lloco' not in config.adapters:
    raise ValueError(
      f"config.adapters is {tuple(config.adapters)}; 'lloco' must be among "
      'them, which the others are compared with.'
    )
  dataset = load_data(config)
  examples = examples_of(dataset, config.evaluation.split)
  workdir = announce(config, workdir)
  folders = _adapter_folders(config, workdir, dataset)
  base, model = load_models(config.model)
  if config.evaluation.base:
    base = load_base(config.model, config.evaluation.base)
  claim(workdir, config, model, dataset)
  adapters = {
    name: peft.load_adapter(place, model.config, model.fingerprint, model.name)
    for name, place in folders.items()
  }
  summaries = summaries_of(config, workdir, model, dataset)
  found = systems.standard_systems(
    adapters, settings.retrievals, settings.base_prompt
  )
  folder = workdir / 'evaluation'
  metric = config.evaluation.metric
  scores = {*runner.COMMON_METRICS, *scoring.reported_scores(metric)}
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
    sampling=settings.sampling,
    questions_per_row=config.evaluation.questions_per_row,
    first_line=config.evaluation.first_line,
  )
  if not is_first():
    return None
  outcome = results.write_results(
    folder,
    answers,
    metric,
    [name for name in systems.COMPARED if name in {s.name for s in found}],
    systems.MAIN_SYSTEM,
    samples=config.evaluation.bootstrap_samples,
    tokens_per_vector=summaries.tokens_per_vector(
      {name for example in examples for name in example.document_ids}
    ),
    data=dataset.told,
  )
  path = report.write_report(
    folder,
    outcome,
    {
      'Adapters': {name: str(place) for name, place in folders.items()},
      **_left_out(config, adapters),
      **({'Data': dataset.told} if dataset.told else {}),
      'Config': config.to_dict(),
      'Versions': versions(),
      'Device': device(),
    },
    title=f'Evaluation of {config.name}',
  )
  print(report.terminal_table(outcome, color=sys.stdout.isatty()))
  for sentence in _left_out(config, adapters).values():
    print(sentence)
  print(report.one_question(outcome))
  print(f'Report: {path}')
  return outcome


def _adapter_folders(
  config: ConfigDict, workdir: pathlib.Path, dataset: Dataset
) -> dict[str, str | pathlib.Path]:
  """Where each adapter of the evaluation is.

  One that was trained elsewhere takes the place of the workdir's. Where any
  is, or the data has nothing to train on, those that are nowhere are left out.

  Raises:
    FileNotFoundError: an adapter has not been trained.
    ValueError: LLoCO has no adapter, and none can be trained.
  """
  named = config.evaluation.adapters.to_dict()
  elsewhere = {name: place for name, place in named.items() if place}
  folders = {}
  for name in dict.fromkeys([*config.adapters, *elsewhere]):
    own = adapter_folder(workdir, name)
    if name in elsewhere or (own / peft.CONFIG).is_file():
      folders[name] = elsewhere.get(name, own)
  missing = [name for name in config.adapters if name not in folders]
  trained = bool(dataset.splits.get('train'))
  if missing and trained and not elsewhere:
    raise FileNotFoundError(
      f"The adapter '{missing[0]}' is missing in {workdir}; run train.py with "
      'the same config first, or name the folder of one that was trained '
      f'elsewhere with --config.evaluation.adapters.{missing[0]}=FOLDER.'
    )
  if 'lloco' in missing:
    why = 'is missing' if trained else 'cannot be trained on data without train'
    raise ValueError(
      f"The adapter 'lloco' {why}; name the folder of one that was trained "
      'elsewhere with --config.evaluation.adapters.lloco=FOLDER.'
    )
  return folders


def _left_out(
  config: ConfigDict, adapters: Mapping[str, Adapter]
) -> dict[str, str]:
  """A sentence about the systems without an adapter, under its heading."""
  missing = [name for name in config.adapters if name not in adapters]
  names = systems.systems_of(missing)
  if not names:
    return {}
  said = ', '.join(f'"{name}"' for name in names)
  return {'Left out': f'For want of an adapter left out: {said}.'}


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
    mend = (
      'it can only be evaluated, by eval.py, with an adapter from elsewhere: '
      '--config.evaluation.adapters.lloco=FOLDER'
      if split == 'train'
      else 'add it, or name another in config.evaluation.split'
    )
    raise ValueError(
      f"The data has no examples of a split '{split}', only of {others}; "
      f'{mend}.'
    )
  return dataset.splits[split]
