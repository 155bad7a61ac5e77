"""The report of an evaluation: tables in the terminal, and report.md.

Scores and differences are printed times 100, as papers do; the files of
`lloco_jax.evaluation.results` hold them from 0 to 1.
"""

from collections.abc import Mapping
import io
import json
import os
import pathlib
import textwrap
from typing import Any

from lloco_jax.evaluation import plots, wording
from lloco_jax.evaluation.comparison import Results
from lloco_jax.evaluation.results import (
  PREDICTIONS_FILE,
  RESULTS_FILE,
  write_atomically,
)

REPORT_FILE = 'report.md'


def terminal_table(
  results: Results, width: int = 100, color: bool = False
) -> str:
  """Both tables and the findings, as text of at most `width` columns.

  The text does not depend on the terminal: a pipe and a screen show the same,
  apart from colours.
  """
  from rich.console import Console
  from rich.text import Text

  buffer = io.StringIO()
  console = Console(
    file=buffer,
    width=width,
    force_terminal=color,
    color_system='standard' if color else None,
    highlight=False,
    legacy_windows=False,
  )
  rows = [wording.score_cells(results, system) for system in results.systems]
  main = [system.name == results.main_system for system in results.systems]
  styles = ['bold' if is_main else '' for is_main in main]
  console.print(_rich_table(wording.score_headers(results), rows, styles))
  if results.controls:
    rows = [
      wording.difference_cells(name, difference)
      for name, difference in results.differences.items()
    ]
    colors = {'above': 'green', 'below': 'red'}
    styles = [
      colors.get(wording.verdict(difference), 'yellow')
      for difference in results.differences.values()
    ]
    console.print(
      _rich_table(wording.difference_headers(results), rows, styles)
    )
  for sentence in wording.shortfalls(results) + wording.cautions(results):
    console.print(Text(sentence))
  lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
  return '\n'.join(lines).strip('\n') + '\n'


def one_question(results: Results, example_id: str | None = None) -> str:
  """One question, its right answers, and what every system answered.

  Without an id it is the first question that all systems with answers have in
  common, or else the main system's first: not picked for its answers.

  Raises:
    ValueError: the main system did not answer the example.
  """
  question, references, answers = _question(results, example_id)
  width = max(len(name) for name in answers)
  lines = [f'Question: {question}', f'Right answer: {" / ".join(references)}']
  lines += [
    f'  {name:<{width}}  {_one_line(prediction)}'
    for name, prediction in answers.items()
  ]
  return '\n'.join(lines) + '\n'


def write_report(
  folder: str | os.PathLike,
  results: Results,
  details: Mapping[str, Any] | None = None,
  title: str = 'Evaluation',
  example_id: str | None = None,
) -> pathlib.Path:
  """Writes report.md and its plots into the folder; returns its path.

  Args:
    folder: where `write_results` wrote.
    results: the systems compared.
    details: what the run was, by heading: the resolved config, the versions,
      the device. Mappings are shown as JSON, anything else as text.
    title: of the page.
    example_id: the question to show; without it the first common one.

  Raises:
    ValueError: the main system did not answer the example.
  """
  folder = pathlib.Path(folder)
  question = _question_section(results, example_id)
  folder.mkdir(parents=True, exist_ok=True)
  pictures = []
  if plots.score_plot(results, folder / plots.SCORE_PLOT):
    pictures.append(('Score against tokens read', plots.SCORE_PLOT))
  if plots.seconds_plot(results, folder / plots.SECONDS_PLOT):
    pictures.append(('Seconds per answer', plots.SECONDS_PLOT))
  sections = [
    f'# {title}',
    '## What it shows',
    '\n'.join(
      f'- {_escape(sentence)}' for sentence in wording.findings(results)
    )
    or 'No control was evaluated, so there is nothing to claim.',
    '## Systems',
    _markdown_table(
      wording.score_headers(results, every_score=True),
      [
        wording.score_cells(results, system, every_score=True)
        for system in results.systems
      ],
    ),
    _how_to_read(results),
  ]
  if results.controls:
    sections += [
      f'## {_escape(results.main_system)} less each control',
      'Paired over the questions that both answered.',
      _markdown_table(
        wording.difference_headers(results),
        [
          wording.difference_cells(name, difference)
          for name, difference in results.differences.items()
        ],
      ),
    ]
  sections += [f'![{caption}]({name})' for caption, name in pictures]
  sections += [question, *_detail_sections(results, details or {})]
  path = folder / REPORT_FILE
  text = '\n\n'.join(sections) + '\n'
  write_atomically(path, text.encode('utf-8', 'backslashreplace'))
  return path


def _rich_table(headers, rows, styles):
  from rich import box
  from rich.table import Table
  from rich.text import Text

  table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
  for number, header in enumerate(headers):
    # Headers stand on several lines, which leaves the names their room.
    table.add_column(
      Text(
        textwrap.fill(header, 8, break_long_words=False) if number else header
      ),
      justify='right' if number else 'left',
      vertical='bottom',
      no_wrap=number > 0,
    )
  for cells, style in zip(rows, styles):
    table.add_row(*(Text(cell) for cell in cells), style=style)
  return table


def _how_to_read(results):
  documents = results.scores[results.main_system].clusters
  return (
    f'Intervals: {results.level:.0%}, bootstrapped over whole documents '
    f'({documents} of them, {results.samples:,} samples, seed '
    f'{results.seed}). Tokens read: tokens or summary vectors of context per '
    'question, without the question itself. Times: means in seconds per '
    'answer; making the summaries, once a document, is not among them. '
    f'Numbers in full: [{RESULTS_FILE}]({RESULTS_FILE}), every answer: '
    f'[{PREDICTIONS_FILE}]({PREDICTIONS_FILE}).'
  )


def _question(results, example_id):
  answers = {
    system.name: {answer.example_id: answer for answer in system.answers}
    for system in results.systems
    if system.answers
  }
  main = answers.get(results.main_system, {})
  if example_id is None:
    common = (
      name for name in main if all(name in found for found in answers.values())
    )
    example_id = next(common, next(iter(main), None))
  if example_id not in main:
    raise ValueError(
      f'{results.main_system} did not answer example {example_id!r}, so there '
      'is nothing to show; give the id of one that it did.'
    )
  shown = main[example_id]
  predictions = {
    name: found[example_id].prediction
    for name, found in answers.items()
    if example_id in found
  }
  return shown.question, shown.references, predictions


def _question_section(results, example_id):
  question, references, answers = _question(results, example_id)
  table = _markdown_table(
    ['system', 'answer'],
    [[name, _one_line(prediction)] for name, prediction in answers.items()],
  )
  return '\n\n'.join(
    [
      '## One question',
      f'**Question:** {_escape(_one_line(question))}',
      f'**Right answer:** {_escape(" / ".join(references))}',
      table,
    ]
  )


def _detail_sections(results, details):
  sections = ['## How it was run']
  described = [system for system in results.systems if system.description]
  if described:
    sections.append(
      '\n'.join(
        f'- **{_escape(system.name)}**: {_escape(system.description)}'
        for system in described
      )
    )
  for heading, content in details.items():
    sections.append(f'### {heading}')
    if isinstance(content, Mapping):
      text = json.dumps(dict(content), indent=2, default=str)
      sections.append(f'```json\n{text}\n```')
    else:
      sections.append(_escape(str(content)))
  return sections


def _markdown_table(headers, rows):
  aligned = ['---', *('---:' if len(headers) > 2 else '---',) * len(headers)]
  lines = [headers, aligned[: len(headers)], *rows]
  return '\n'.join(
    '| ' + ' | '.join(_escape(cell) for cell in line) + ' |' for line in lines
  )


def _escape(text):
  """Text that Markdown shows as it is, on one line."""
  text = _one_line(text)
  for mark in '\\`*_|<>[]':
    text = text.replace(mark, '\\' + mark)
  return text


def _one_line(text):
  return ' '.join(text.split())
