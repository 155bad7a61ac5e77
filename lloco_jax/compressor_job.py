"""The job that trains a compressor, and the evaluation of one."""

import dataclasses
import functools
import itertools

import grain
import jax
from ml_collections import ConfigDict
import numpy as np

from lloco_jax.data.passages import (
  AskedPassages,
  PassageConfig,
  first_segments,
  make_passage,
  passage_batches,
)
from lloco_jax.data.rarity import token_rarity
from lloco_jax.data.text_rows import TextRowConfig, text_batches
from lloco_jax.data.texts import TokenizedTexts, tokenize_texts
from lloco_jax.evaluation import probe_report
from lloco_jax.evaluation.probes import make_probes, probe_losses
from lloco_jax.finetuning.compressor import Compressor, compressor_task
from lloco_jax.finetuning.loop import TrainingConfig
from lloco_jax.finetuning.loop import train as run_loop
from lloco_jax.inputs import load_dataset, load_models
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.processes import is_first, wait_for_all
from lloco_jax.progress import Progress
from lloco_jax.runs import announce, claim, device, versions
from lloco_jax.sharding import check_rows, rows_here, to_host
from lloco_jax.weights.checkpoint import load
from lloco_jax.weights.compressor import (
  fingerprint,
  load_compressor,
  save_compressor,
  with_summaries,
)

READERS = ('base', 'compressor')
# The tokens that vectors name: each its run of the segment's, or the last.
NAMED = ('runs', 'last')
# Tokens of a corpus that say how rare each is.
_COUNTED = 2_000_000


def train_compressor(config: ConfigDict, workdir=None) -> None:
  """Trains and saves the compressor of a config; see configs/common.py.

  Raises:
    ValueError, OSError: the config, the texts or the workdir are unusable.
  """
  workdir = announce(config, workdir)
  lora = LoraConfig(**config.lora.to_dict())
  training = TrainingConfig(steps=config.steps, **config.training.to_dict())
  _check_evaluation(config)
  if config.model.compressor:
    raise ValueError(
      'config.model.compressor is for finetuning; to go on from a compressor, '
      'name its folder in config.start.'
    )
  if config.summary.substep < 1:
    raise ValueError(
      f'config.summary.substep is {config.summary.substep}; it must be >= 1.'
    )
  if config.summary.named not in NAMED:
    raise ValueError(
      f"config.summary.named is '{config.summary.named}'; it must be one of "
      f'{", ".join(NAMED)}.'
    )
  sources = _sources(config)
  asks = config.data.questions and sources != ['texts']
  chosen = config.summary
  if not (asks or chosen.language or chosen.naming or chosen.distillation):
    raise ValueError(
      'The compressor has nothing to learn: give config.data.questions of '
      'passages, or config.summary.language, naming or distillation.'
    )
  model = load(
    config.model.name, config.model.dtype, config.model.quantize or None
  )
  tokenizer = model.need_tokenizer()
  model = dataclasses.replace(
    model,
    config=with_summaries(model.config, config.summary),
  )
  start, fingerprints = None, {}
  if config.start:
    start = Compressor(*load_compressor(config.start, model))
    fingerprints['start'] = fingerprint(model, config.start)
  batches, counted, tokens = _mixture(config, sources, tokenizer)
  rarity = None
  if config.summary.naming and config.summary.rarity:
    rarity = token_rarity(counted, tokenizer.vocab_size, config.summary.rarity)
  task = compressor_task(
    model,
    lora,
    jax.random.key(config.training.seed),
    batches,
    config.remat,
    config.summary.substep,
    language=config.summary.language,
    naming=config.summary.naming,
    distillation=config.summary.distillation,
    rarity=rarity,
    last=config.summary.named == 'last',
    start=start,
  )
  claim(workdir, config, model, **fingerprints)
  trained = run_loop(task, training, workdir / 'training')
  trained = jax.tree.map(to_host, trained)
  if is_first():
    save_compressor(
      workdir / 'compressor',
      model,
      trained.adapter,
      trained.embed_summary,
      {
        'segment_length': config.data.segment_length,
        'tokens_trained': (
          config.steps * training.accumulation * config.batch.rows * tokens
        ),
        'config': config.to_dict(),
      },
    )
  wait_for_all('the compressor')
  print(f'Compressor: {workdir / "compressor"}')


def evaluate_compressor(config: ConfigDict, workdir=None) -> None:
  """Reports what the vectors keep of held-out texts.

  The compressor is the one that training left in the workdir, or the one
  that `config.evaluation.compressor` names.

  Raises:
    ValueError: the config or the texts are unusable.
    OSError: a file is missing.
  """
  _check_evaluation(config)
  chosen = config.evaluation
  if not chosen.path:
    raise ValueError(
      'config.evaluation.path is empty; name a file or folder of texts that '
      'the compressor was not trained on.'
    )
  workdir = announce(config, workdir)
  folder = chosen.compressor or workdir / 'compressor'
  base, model = load_models(config.model, folder)
  reader = base if chosen.reader == 'base' else model
  lengths = sorted({*chosen.segment_lengths} or {config.data.segment_length})
  size = max(chosen.segments) * lengths[-1]
  window = reader.window
  if size + chosen.target > window:
    raise ValueError(
      f'{max(chosen.segments)} segments of {lengths[-1]} tokens and a target '
      f"of {chosen.target} exceed the reader's window of {window}; lower "
      'config.evaluation.segments, segment_lengths or target.'
    )
  texts = tokenize_texts(
    chosen.path, base.need_tokenizer(), tuple(chosen.leave_out)
  )
  probes = make_probes(texts, size, chosen.target, chosen.probes_per_document)
  documents = len({probe.document_id for probe in probes})
  print(f'{len(probes)} probes of {documents} documents.', flush=True)
  rows = []
  cases = list(itertools.product(lengths, sorted(set(chosen.segments))))
  meter = Progress(len(cases) * len(probes), 'probes')
  for length, segments in cases:
    losses = []
    for found in probe_losses(reader, model, probes, length, segments):
      losses.append(found)
      meter.add(1)
      meter.tell(
        f'{len(losses)} of {len(probes)} behind {segments} segments of {length}'
      )
    rows.append(
      probe_report.probe_row(
        losses,
        segments,
        length,
        model.config.summary_length,
        chosen.bootstrap_samples,
      )
    )
  if not is_first():
    return
  facts = {
    'compressor': str(folder),
    'fingerprint': model.fingerprint,
    'reader': chosen.reader,
    'target': chosen.target,
    'probes': len(probes),
    'documents': documents,
    'config': config.to_dict(),
    'versions': versions(),
    'device': device(),
  }
  probe_report.write_probe_report(workdir / 'evaluation', rows, facts)
  print(probe_report.terminal_table(rows))
  print('\n'.join(probe_report.sentences(rows)))
  print(f'Report: {workdir / "evaluation" / probe_report.TABLE_FILE}')


def _check_evaluation(config: ConfigDict) -> None:
  chosen = config.evaluation
  if chosen.reader not in READERS:
    raise ValueError(
      f"config.evaluation.reader is '{chosen.reader}'; it must be one of "
      f'{", ".join(READERS)}.'
    )
  if not chosen.segments or min(chosen.segments) < 0:
    raise ValueError(
      f'config.evaluation.segments is {tuple(chosen.segments)}; give the '
      'numbers of segments to read, 0 or more.'
    )
  for name, least in {
    'target': 2,
    'probes_per_document': 1,
    'bootstrap_samples': 1,
  }.items():
    if chosen[name] < least:
      raise ValueError(
        f'config.evaluation.{name} is {chosen[name]}; it must be >= {least}.'
      )

  if min(chosen.segment_lengths, default=1) < 1:
    raise ValueError(
      f'config.evaluation.segment_lengths is {tuple(chosen.segment_lengths)}; '
      'each must be >= 1.'
    )


def _sources(config: ConfigDict) -> list[str]:
  names = config.data.source.split(',')
  for name in names:
    if name not in _SOURCES:
      raise ValueError(
        f"config.data.source is '{config.data.source}'; it must be one of "
        f'{", ".join(_SOURCES)}, or several with commas between them.'
      )
  if 'questions' in names and not config.data.questions:
    raise ValueError(
      "config.data.source has 'questions', but config.data.questions is 0; "
      'say how many are asked about a passage.'
    )
  return names


def _mixture(config: ConfigDict, names: list[str], tokenizer):
  """Batches of the sources in turn, texts to count tokens in, tokens of a row.

  A source that is named twice gives twice as many batches.
  """
  made = {
    name: _SOURCES[name](config, tokenizer) for name in dict.fromkeys(names)
  }
  shares = [names.count(name) for name in made]
  batches, counted, tokens = zip(*made.values())
  return (
    grain.MapDataset.mix(batches, shares) if len(made) > 1 else batches[0],
    itertools.chain(*counted),
    round(np.average(tokens, weights=shares)),
  )


def _passages(config: ConfigDict, tokenizer):
  """Batches, texts to count tokens in, and tokens of a row."""
  made = _fields(PassageConfig, config.data)
  passage_of = functools.partial(make_passage, tokenizer, made)
  return _asked(config, passage_of, made.segments * made.segment_length)


def _questions(config: ConfigDict, tokenizer):
  """As `_passages`, of a data set."""
  passage_of = AskedPassages(
    load_dataset(config.data.dataset, 'train'),
    tokenizer,
    _fields(PassageConfig, config.data),
  )
  return _asked(config, passage_of, passage_of.tokens)


def _asked(config: ConfigDict, passage_of, tokens: int):
  passages, rows = _fields(PassageConfig, config.data), config.batch.rows
  if passages.questions:
    together = passages.passages_per_context
    name = 'config.batch.rows over config.data.passages_per_context'
    check_rows(max(rows // together, 1), name)
  return (
    passage_batches(passage_of, passages, rows, rows_here(rows)),
    first_segments(passage_of),
    tokens,
  )


def _texts(config: ConfigDict, tokenizer):
  """As `_passages`, of plain texts."""
  if not config.data.path:
    raise ValueError(
      'config.data.path is empty; name the file or folder of the texts.'
    )
  rows = _fields(TextRowConfig, config.data)
  texts: TokenizedTexts = tokenize_texts(
    config.data.path, tokenizer, tuple(config.data.leave_out)
  )
  print(
    f'{len(texts.ids):,} documents, {len(texts.tokens):,} tokens.', flush=True
  )
  return (
    text_batches(
      texts.tokens,
      texts.bounds,
      rows,
      config.batch.rows,
      rows_here(config.batch.rows),
    ),
    [texts.tokens[:_COUNTED]],
    rows.tokens,
  )


_SOURCES = {'passages': _passages, 'questions': _questions, 'texts': _texts}


def _fields(kind, config: ConfigDict):
  """The dataclass with the keys of the config that are its fields."""
  names = [field.name for field in dataclasses.fields(kind)]
  return kind(**{name: config[name] for name in names})
