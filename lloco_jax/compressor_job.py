"""The job that trains a compressor, and the evaluation of one."""

import dataclasses
import itertools
import pathlib

import jax
from ml_collections import ConfigDict

from lloco_jax.compressor_data import mixture, source_names, text_rows
from lloco_jax.data.rarity import token_rarity
from lloco_jax.data.texts import also_in, find_texts, tokenize_texts
from lloco_jax.evaluation import probe_report
from lloco_jax.evaluation.probes import make_probes, probe_losses
from lloco_jax.finetuning.compressor import (
  Compressor,
  check_same_lora,
  compressor_task,
  with_summary_tokens,
)
from lloco_jax.finetuning.loop import TrainingConfig
from lloco_jax.finetuning.loop import train as run_loop
from lloco_jax.inputs import load_models
from lloco_jax.nn.lora import LoraConfig
from lloco_jax.processes import is_first, wait_for_all
from lloco_jax.progress import Progress
from lloco_jax.runs import (
  announce,
  claim,
  device,
  versions,
)
from lloco_jax.sharding import to_host
from lloco_jax.weights.checkpoint import load
from lloco_jax.weights.compressor import (
  compressor_folder,
  fingerprint,
  load_compressor,
  read_fields,
  save_autocompressor,
  save_compressor,
  with_summaries,
)
from lloco_jax.weights.published import read_config

READERS = ('base', 'compressor')
# The tokens that vectors name: each its run of the segment's, or the last.
NAMED = ('runs', 'last')


def train_compressor(config: ConfigDict, workdir=None) -> None:
  """Trains and saves the compressor of a config; see configs/common.py.

  Raises:
    ValueError, OSError: the config, the texts or the workdir are unusable.
  """
  workdir = announce(config, workdir)
  lora = None
  if not config.all_parameters:
    lora = LoraConfig(**config.lora.to_dict())
  elif config.start or config.model.quantize:
    raise ValueError(
      'config.all_parameters trains a base that is not quantised, from its '
      'checkpoint; leave config.start and config.model.quantize empty.'
    )
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
  sources = source_names(config)
  _check_lessons(config, sources)
  start_folder = config.start
  if start_folder:
    start_folder = compressor_folder(start_folder, config.model.name)
    read_fields(start_folder)
  _check_window(config, sources)
  model = load(
    config.model.name, config.model.dtype, config.model.quantize or None
  )
  model = dataclasses.replace(
    model,
    config=with_summaries(model.config, config.summary),
  )
  start = None
  if start_folder:
    start = Compressor(*load_compressor(start_folder, model))
    check_same_lora(start, lora)
  tokenizer = model.need_tokenizer()
  batches, counted, tokens, fingerprints = mixture(config, sources, tokenizer)
  if start_folder:
    fingerprints['start'] = fingerprint(model, start_folder)
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
  # What cannot be made is told before the workdir is taken.
  _ = batches[0]
  claim(workdir, config, model, **fingerprints)
  trained = run_loop(task, training, workdir / 'training')
  trained = jax.tree.map(to_host, trained)
  if is_first():
    _save(config, workdir / 'compressor', model, trained, tokens)
  wait_for_all('the compressor')
  print(f'Compressor: {workdir / "compressor"}')


def _save(config, folder, model, trained: Compressor, tokens: int) -> None:
  if config.all_parameters:
    params = with_summary_tokens(model.params, trained)
    length = config.data.segment_length
    save_autocompressor(folder, params, model.config, model.tokenizer, length)
    return
  rows = config.steps * config.training.accumulation * config.batch.rows
  save_compressor(
    folder,
    model,
    trained.adapter,
    trained.embed_summary,
    {
      'segment_length': config.data.segment_length,
      'tokens_trained': rows * tokens,
      'config': config.to_dict(),
    },
  )


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
  lengths = sorted({*chosen.segment_lengths} or {config.data.segment_length})
  size = max(chosen.segments) * lengths[-1]
  window = read_config(config.model.name).max_position_embeddings
  if lengths[-1] + chosen.target > window:
    raise ValueError(
      f'A segment of {lengths[-1]} tokens and a target of {chosen.target} '
      f'exceed the window of {window}; lower config.evaluation.segment_lengths '
      'or target.'
    )
  find_texts(chosen.path)
  workdir = announce(config, workdir)
  folder, base, model = _evaluated(config, workdir)
  reader = base if chosen.reader == 'base' else model
  if size + chosen.target > window:
    print(
      f'Texts of more than {window - chosen.target:,} tokens exceed the window '
      'with their target, and are read as vectors alone.'
    )
  texts = tokenize_texts(
    chosen.path, base.need_tokenizer(), tuple(chosen.leave_out)
  )
  probes = make_probes(texts, size, chosen.target, chosen.probes_per_document)
  learnt = also_in(
    chosen.path, config.data.path, chosen.leave_out, config.data.leave_out
  )
  if learnt:
    print(
      f'Of the files to evaluate on, {len(learnt)} are among those to train on '
      f'(config.data.path), such as {learnt[0]}: what is kept of them says '
      'nothing about other texts.'
    )
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
  report = workdir / 'evaluation'
  if chosen.compressor:
    # That of the workdir's own compressor stays.
    name = pathlib.Path(chosen.compressor).name.replace(':', '_')
    if chosen.compressor.partition(':')[0] != 'shipped':
      # Folders of several runs are called alike.
      name += f'_{model.fingerprint[:8]}'
    report = workdir / f'evaluation_of_{name}'
  facts = {
    'compressor': str(folder),
    'fingerprint': model.fingerprint,
    'reader': chosen.reader,
    'target': chosen.target,
    'probes': len(probes),
    'documents': documents,
    'also_trained_on': learnt,
    'config': config.to_dict(),
    'versions': versions(),
    'device': device(),
  }
  probe_report.write_probe_report(report, rows, facts)
  print(probe_report.terminal_table(rows))
  print('\n'.join(probe_report.sentences(rows)))
  print(f'Report: {report / probe_report.TABLE_FILE}')


def _evaluated(config: ConfigDict, workdir: pathlib.Path):
  """What the compressor is called, its base, and the compressor: one that is
  named, the workdir's, or the checkpoint that is an AutoCompressor itself."""
  folder = config.evaluation.compressor
  if not folder and (workdir / 'compressor').is_dir():
    folder = workdir / 'compressor'
  if folder and (pathlib.Path(folder) / 'config.json').is_file():
    base = load(config.model.name, config.model.dtype)
    model = load(str(folder), config.model.dtype)
    if model.need_tokenizer().fingerprint != base.need_tokenizer().fingerprint:
      raise ValueError(
        f"The compressor '{folder}' has another tokenizer than the base "
        f"'{config.model.name}'; name its base in config.model.name."
      )
    return folder, base, model
  if folder:
    return folder, *load_models(config.model, folder)
  if not read_config(config.model.name).summary_length:
    raise FileNotFoundError(
      f'{workdir / "compressor"} is missing; run train.py with the same config '
      'first, or name a compressor in config.evaluation.compressor.'
    )
  return config.model.name, *load_models(config.model)


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


def _check_lessons(config: ConfigDict, sources: list[str]) -> None:
  chosen = config.summary
  if chosen.length < 1:
    raise ValueError(
      f'config.summary.length is {chosen.length}; it must be >= 1.'
    )
  for name in ('language', 'naming', 'distillation', 'sharpness', 'rarity'):
    if chosen[name] < 0:
      raise ValueError(
        f'config.summary.{name} is {chosen[name]}; it must be >= 0.'
      )
  if chosen.language or chosen.naming or chosen.distillation:
    return
  for name in sources:
    if name == 'texts' or not config.data.questions:
      raise ValueError(
        f'The compressor has nothing to learn from {name}: give config.data.'
        'questions of passages, or config.summary.language, naming or '
        'distillation.'
      )


def _check_window(config: ConfigDict, sources: list[str]) -> None:
  base = read_config(config.model.name)
  if base.summary_length:
    raise ValueError(
      f"'{config.model.name}' is an AutoCompressor, whose summary embeddings "
      'would be trained anew; name its base, or evaluate it as it is.'
    )
  earlier = config.data.segments - 1 if base.accumulate_summary else 1
  summary, length = config.summary.length, config.data.segment_length
  needed = (earlier + 1) * summary + length
  if config.summary.distillation:
    # Its teacher reads all of a row.
    whole = config.data.segments * length
    if sources == ['texts']:
      whole = max(rows.tokens for rows, _ in text_rows(config))
    needed = max(needed, whole)
  if config.data.questions and sources != ['texts']:
    _check_contexts(config, base.max_position_embeddings)
  window = base.max_position_embeddings
  if needed > window:
    raise ValueError(
      f'Rows of {config.data.segments} segments of {length} tokens and '
      f"{summary} vectors take {needed} positions, more than the base's "
      f'{window}; lower config.data.segments or segment_length.'
    )


def _check_contexts(config: ConfigDict, window: int) -> None:
  """Raises ValueError where passages and their questions exceed the window."""
  data = config.data
  vectors = data.passages_per_context * data.segments * config.summary.length
  if vectors + data.width > window:
    raise ValueError(
      f'A context of {data.passages_per_context} passages has {vectors} '
      f'vectors, and with {data.width} positions of questions exceeds the '
      f"base's {window}; lower config.data.passages_per_context."
    )
