"""The job that finetunes the adapters of a library's groups."""

from collections.abc import Sequence
import dataclasses
import hashlib
import json
import pathlib
import shlex

import jax
from ml_collections import ConfigDict

from lloco_jax.compression.corpus import compressor_fingerprint
from lloco_jax.data.contexts import ContextKind, Contexts
from lloco_jax.data.documents import Document, DocumentFile
from lloco_jax.data.prompts import PROMPTS
from lloco_jax.finetuning.checkpoints import flat_config
from lloco_jax.finetuning.questions import (
  Row,
  check_questions,
  check_rows,
  question_rows,
  question_task,
)
from lloco_jax.finetuning_job import adapter_batches, run_task, training_of
from lloco_jax.library.catalogue import Entry
from lloco_jax.library.folder import show
from lloco_jax.library.library import Library
from lloco_jax.library.pairs import (
  find_documents,
  groups_of,
  pairs_file,
  read_pairs,
)
from lloco_jax.nn.lora import LoraConfig, init_adapter
from lloco_jax.processes import agreed, is_first
from lloco_jax.runs import announce, claim
from lloco_jax.weights import peft


@dataclasses.dataclass(frozen=True)
class _Lesson:
  """What the adapter of a group learns: rows about its documents.

  It is as the library was when all lessons were made: others may be trained
  for hours before, while files are added. `digest` is a hash of the pairs and
  of the summaries they are about; `documents` are read by a teacher alone.
  """

  group: str
  rows: Sequence[Row]
  entries: dict[str, Entry]
  documents: DocumentFile
  digest: str


def finetune_library(config: ConfigDict, workdir=None) -> None:
  """Finetunes the adapters of groups, and names them to the library.

  A run is named by all that decides what it trains: the same again goes on
  where it was stopped, and pairs that were edited begin another. Runs are in
  `training` of the library by default.

  Raises:
    FileNotFoundError: there is no library.
    ValueError: the config or the pairs are unusable, or there are none; or,
      when all other groups are trained, the store lacks summaries of one, or an
      adapter could not be named.
  """
  if config.prompt not in PROMPTS:
    raise ValueError(
      f"config.prompt is '{config.prompt}'; it must be one of "
      f'{", ".join(PROMPTS)}.'
    )
  if not 0 <= config.distillation <= 1:
    raise ValueError(
      f'config.distillation is {config.distillation}; it must be from 0 to 1.'
    )
  LoraConfig(**config.lora.to_dict())
  library = Library(config.library.path)
  workdir = announce(config, workdir or library.folder / 'training')
  # What all end with, before the first is trained.
  library.adapter_folders()
  chosen = _with_pairs(library, config.library.group)
  # Those of all groups, before the first of them is trained.
  lessons = [_lesson(config, library, group) for group in chosen]
  faults = [
    _learn(config, library, lesson, workdir / lesson.group)
    for lesson in lessons
  ]
  if any(faults):
    raise ValueError('\n'.join(filter(None, faults)))


def refuse_evaluation(config: ConfigDict, workdir=None) -> None:
  """Raises ValueError: answers of a library have nothing to be scored by."""
  raise ValueError(
    f"The config '{config.name}' has no evaluation; ask the library itself "
    'with: python -m lloco_jax ask QUESTION --library='
    f'{config.library.path}'
  )


def _with_pairs(library: Library, group: str) -> list[str]:
  """The groups to finetune; says which have no pairs.

  Raises:
    ValueError: none of them has any.
  """
  groups = groups_of(library, group)
  chosen = [name for name in groups if read_pairs(library, name)]
  said = [
    f"The group '{name}' has no question-answer pairs; write some to "
    f'{show(pairs_file(library, name))}, or let the model make them with: '
    f'python -m lloco_jax library study --group={shlex.quote(name)} '
    f'--library={shlex.quote(str(library.folder))}'
    for name in groups
    if name not in chosen
  ]
  if not chosen:
    raise ValueError(said[0])
  for sentence in said:
    print(sentence, flush=True)
  return chosen


def _lesson(config: ConfigDict, library: Library, group: str) -> _Lesson:
  pairs = find_documents(library, group, read_pairs(library, group))
  if not pairs:
    raise ValueError(
      f'No pair in {show(pairs_file(library, group))} is about a document of '
      f"the group '{group}'; mend their document_id."
    )
  rows = question_rows(
    pairs,
    library.model.need_tokenizer(),
    PROMPTS[config.prompt],
    config.batch.questions_per_row,
  )
  asked = {name for pair in pairs for name in pair.document_ids}
  texts = library.texts(group) if config.distillation else {}
  entries = {
    entry.name: entry
    for entry in texts or library.catalogue.entries()
    if entry.group == group and entry.name in asked
  }
  window = library.model.window
  check_questions(rows, library.model.config, window)
  check_rows(rows, {n: each.vectors for n, each in entries.items()}, window)
  about = sorted((name, entry.key) for name, entry in entries.items())
  digest = hashlib.sha256(repr((pairs, about)).encode()).hexdigest()
  documents = DocumentFile(
    Document(entry.name, ''.join(pieces), group)
    for entry, pieces in texts.items()
    if entry.name in asked
  )
  return _Lesson(group, rows, entries, documents, digest)


def _learn(
  config, library: Library, lesson: _Lesson, runs: pathlib.Path
) -> str:
  """Finetunes the adapter of a group, and names it to the library.

  Returns:
    What has prevented it, but must not prevent the other groups; '' if nothing.
  """
  model, group = library.model, lesson.group
  # Where the library lies, and its other groups, change nothing.
  fields = config.to_dict()
  del fields['library']
  run = runs / _run_name(fields, compressor_fingerprint(model), lesson.digest)
  folder = run / 'adapter'
  trained = all(agreed([(folder / peft.CONFIG).is_file()]))
  if not trained and not all(agreed(_are_stored(library, lesson))):
    return (
      f"The group '{group}' was not trained: the store lacks summaries of its "
      'documents. If they were changed since this call began, give the same '
      'command again; else find out with: python -m lloco_jax library verify '
      f'--library={shlex.quote(str(library.folder))}'
    )
  claim(run, ConfigDict(fields), model, training_data=lesson.digest)
  if trained:
    print(f"The adapter of '{group}' is trained: {folder}")
  else:
    training = training_of(config, len(lesson.rows))
    questions = sum(len(row.questions) for row in lesson.rows)
    print(
      f"Finetuning the adapter of '{group}' on {questions:,} pairs about "
      f'{len(lesson.entries):,} documents: {training.steps:,} steps.',
      flush=True,
    )
    run_task(_task(config, library, lesson), training, run, folder, model)
  return _name(library, group, folder, config.prompt) if is_first() else ''


def _are_stored(library: Library, lesson: _Lesson) -> list[bool]:
  keys = [entry.key for entry in lesson.entries.values()]
  return [library.store.find(key) is not None for key in keys]


def _name(
  library: Library, group: str, folder: pathlib.Path, prompt: str
) -> str:
  """Names an adapter to the library; tells what has prevented it."""
  try:
    library.name_adapter(group, str(folder), prompt)
  except (ValueError, OSError) as error:
    words = ['adapter', group, str(folder), f'--prompt={prompt}']
    words.append(f'--library={library.folder}')
    return (
      f"The adapter of '{group}' is trained, but not named to the library: "
      f'{error} Then name it with: python -m lloco_jax library '
      f'{shlex.join(words)}'
    )
  print(f"The group '{group}' is answered with {folder} now.")
  return ''


def _run_name(*parts) -> str:
  fields, *rest = parts
  text = json.dumps([flat_config(fields), *rest], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _task(config, library: Library, lesson: _Lesson):
  model, rows = library.model, lesson.rows
  window = model.window
  contexts = Contexts(
    lesson.documents,
    model.tokenizer,
    library.summaries_of(lesson.entries.values()),
    window,
  )

  def summaries_of(document_ids, reserve):
    return contexts.of(ContextKind.SUMMARIES, document_ids, reserve)

  def text_of(document_ids, reserve):
    return contexts.of(ContextKind.WINDOW, document_ids, reserve)

  return question_task(
    model,
    init_adapter(
      model.config,
      LoraConfig(**config.lora.to_dict()),
      jax.random.key(config.training.seed),
    ),
    adapter_batches(
      config,
      rows,
      summaries_of,
      window,
      text_of if config.distillation else None,
    ),
    config.remat,
    library.base if config.distillation else None,
    config.distillation,
  )
