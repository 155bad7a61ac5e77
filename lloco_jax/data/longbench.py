"""LongBench: one file of JSON lines a task, in one format.

A row has `input`, `context`, `answers` and more (Bai et al. 2024). Its
questions are all for validation. Tasks that summarise or count have an empty
input; the question that stands for it is ours.
"""

from collections.abc import Mapping
import dataclasses
import pathlib

from lloco_jax.data.examples import Dataset, Example, dataset_of_files
from lloco_jax.data.prepared import Rows
from lloco_jax.data.records import (
  at,
  distinct,
  identifier,
  read_json_lines,
  split_files,
  text,
  texts,
)

DOWNLOAD = (
  'download '
  'https://huggingface.co/datasets/THUDM/LongBench/resolve/main/data.zip and '
  'unpack it there.'
)


@dataclasses.dataclass(frozen=True)
class Task:
  """How answers to a task are made and scored.

  `metric` is '' where it is none of this package's. `question` is asked where
  a row has no input.
  """

  max_new_tokens: int
  metric: str
  question: str = ''


_F1, _ROUGE = 'f1', 'longbench_rouge_l'
# Lengths and metrics: config/dataset2maxlen.json and eval.py of
# github.com/THUDM/LongBench.
# The first nine are those of the paper's Table 4 (Tan et al. 2024).
TASKS = {
  'narrativeqa': Task(128, _F1),
  'qasper': Task(128, _F1),
  'multifieldqa_en': Task(64, _F1),
  'hotpotqa': Task(32, _F1),
  '2wikimqa': Task(32, _F1),
  'musique': Task(32, _F1),
  'gov_report': Task(512, _ROUGE, 'Summarize the report in one page.'),
  'qmsum': Task(512, _ROUGE),
  'multi_news': Task(512, _ROUGE, 'Summarize the news in one page.'),
  'trec': Task(64, ''),
  'triviaqa': Task(32, _F1),
  'samsum': Task(128, _ROUGE),
  'passage_count': Task(32, '', 'How many different paragraphs are there?'),
  'passage_retrieval_en': Task(32, ''),
}


def read_longbench(
  path: str | pathlib.Path,
  part: str,
  splits: tuple[str, ...] = ('train', 'validation'),
) -> Dataset:
  """Reads the file of a task, `part`, from the folder of all.

  Raises:
    FileNotFoundError: nothing is there.
    ValueError: the task is unknown, or a row is damaged.
  """
  if part not in TASKS:
    raise ValueError(
      f"LongBench has no task '{part}' here; use one of {', '.join(TASKS)}."
    )
  patterns = {'validation': (f'{part}.jsonl', f'data/{part}.jsonl')}
  if 'validation' not in splits:
    splits = (*splits, 'validation')
  files = split_files(path, patterns, splits, DOWNLOAD)
  return dataset_of_files(
    part,
    files,
    lambda file, _, collection: _read(read_json_lines(file), part, collection),
  )


def longbench_of_rows(splits: Mapping[str, Rows], part: str) -> Dataset:
  """As `read_longbench`, of what tensorflow_datasets has prepared."""
  return dataset_of_files(
    part, splits, lambda rows, _, collection: _read(rows, part, collection)
  )


def _read(rows, part, collection):
  examples = []
  for place, fields in rows:
    with at(place):
      id = collection.new_id(identifier(fields, '_id'))
      task = fields.get('dataset', part)
      if task != part and task in TASKS:
        raise ValueError(
          f"The row is of the task '{task}', and the file is read as that of "
          f"'{part}'; mend its name."
        )
      question = text(fields, 'input')
      examples.append(
        Example(
          id,
          question if question.strip() else TASKS[part].question,
          distinct(texts(fields, 'answers')),
          (collection.add(id, text(fields, 'context')),),
        )
      )
  return tuple(examples)
