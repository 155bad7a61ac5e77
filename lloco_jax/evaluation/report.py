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

from lloco_jax.evaluation import groups, heatmap, plots, wording
from lloco_jax.evaluation.comparison import Results
from lloco_jax.evaluation.results import (
  PREDICTIONS_FILE,
  RESULTS_FILE,
)
from lloco_jax.files import write_file

REPORT_FILE = 'report.md'
SCORE_PLOT = 'score_against_tokens.png'
SECONDS_PLOT = 'seconds_per_answer.png'
MAIN_MAP = 'score_by_length_and_depth.png'
OTHER_MAPS = 'score_by_length_and_depth_of_others.png'
_ABOUT_SECONDS = (
  'The questions about a document are answered together: the first token comes '
  'when all of them have been read, and the seconds per answer are those of '
  'all, divided. Making the summaries, once a document, is not among them.'
)


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
    # Without a height rich believes a dumb terminal's 80 columns instead.
    height=100,
    force_terminal=color,
    color_system='standard' if color else None,
    highlight=False,
    legacy_windows=False,
  )
  rows = [wording.score_cells(results, system) for system in results.systems]
  main = [system.name == results.main_system for system in results.systems]
  styles = ['bold' if is_main else '' for is_main in main]
  console.print(_rich_table(wording.score_headers(results), rows, styles))
  if results.differences:
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
  for sentence in wording.findings(results):
    console.print(Text(sentence))
  console.print(Text(_ABOUT_SECONDS))
  lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
  return '\n'.join(lines).strip('\n') + '\n'


def one_question(results: Results, width: int = 100) -> str:
  """One question, its right answers, and what every system answered.

  It is the first question that all systems with answers have in common, or
  else the main system's first: not picked for its answers. Lines have at most
  `width` columns.
  """
  question, references, answers = _question(results)
  longest = max(len(name) for name in answers)
  lines = [
    'The first question, not chosen:',
    '',
    f'Question: {question}',
    f'Right answer: {references}',
    *(f'  {name:<{longest}}  {told}' for name, told in answers.items()),
  ]
  indent = ' ' * (longest + 4)
  return ''.join(
    textwrap.fill(line, width, subsequent_indent=indent) + '\n'
    for line in lines
  )


def write_report(
  folder: str | os.PathLike,
  results: Results,
  details: Mapping[str, Any] | None = None,
  title: str = 'Evaluation',
) -> pathlib.Path:
  """Writes report.md and its plots into the folder; returns its path.

  Args:
    folder: where `write_results` wrote.
    results: the systems compared.
    details: what the run was, by heading: the resolved config, the versions,
      the device. Mappings are shown as JSON, anything else as text.
    title: of the page.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  pictures = _write_plots(folder, results)
  sections = [
    f'# {title}',
    '## What it shows',
    '\n'.join(
      f'- {_escape(sentence)}' for sentence in wording.findings(results)
    ),
    '## Systems',
    _markdown_table(
      wording.score_headers(results, every_score=True),
      [
        wording.score_cells(results, system, every_score=True)
        for system in results.systems
      ],
    ),
    *_descriptions(results),
    _how_to_read(results),
  ]
  if results.differences:
    sections += [
      f'## {_escape(results.main_system)} minus each other system',
      'Paired over the questions that both answered.',
      _markdown_table(
        wording.difference_headers(results),
        [
          wording.difference_cells(name, difference)
          for name, difference in results.differences.items()
        ],
      ),
    ]
  sections += _group_sections(results)
  sections += [
    *pictures,
    _question_section(results),
    *_detail_sections(details or {}),
  ]
  path = folder / REPORT_FILE
  text = '\n\n'.join(sections) + '\n'
  write_file(path, text.encode('utf-8', 'backslashreplace'))
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


def _write_plots(folder, results):
  pictures = []
  for caption, name, draw in (
    ('Score against tokens read', SCORE_PLOT, plots.score_figure),
    (
      'Seconds per answer, without compression',
      SECONDS_PLOT,
      plots.seconds_figure,
    ),
    (f'{results.main_system} by length and depth', MAIN_MAP, heatmap.main_map),
    ('Other systems by length and depth', OTHER_MAPS, heatmap.other_maps),
  ):
    figure = draw(results)
    if figure is not None:
      plots.save_figure(figure, folder / name)
      pictures.append(f'![{caption}]({name})')
  return pictures


def _descriptions(results):
  lines = [
    f'- **{_escape(system.name)}**: {_escape(system.description)}'
    for system in results.systems
    if system.description
  ]
  return ['\n'.join(lines)] if lines else []


def _how_to_read(results):
  documents = results.scores[results.main_system].clusters
  return (
    f'Intervals: {results.level:.0%}, bootstrapped over whole documents '
    f'({documents} of them{wording.counted(results)}, {results.samples:,} '
    f'samples, seed {results.seed}); they do not cover the chance of '
    'training. Tokens read: tokens or summary vectors of context per question, '
    f'without the question itself. {_ABOUT_SECONDS} '
    f'Numbers in full: [{RESULTS_FILE}]({RESULTS_FILE}), every answer: '
    f'[{PREDICTIONS_FILE}]({PREDICTIONS_FILE}).'
  )


def _group_sections(results):
  sections = []
  for table in groups.group_tables(results):
    sections.append(f'## Score by {_escape(table.key or "group")}')
    if table.scores:
      headers = wording.group_headers(
        table.key or 'group', next(iter(table.scores.values())), results.metric
      )
      rows = [
        wording.group_cells(group, scores)
        for group, scores in table.scores.items()
      ]
      sections.append(_markdown_table(headers, rows))
    else:
      sections.append(
        f'{table.count} groups are too many for a table; the tags of every '
        f'answer are in [{PREDICTIONS_FILE}]({PREDICTIONS_FILE}).'
      )
  return sections


def _question(results):
  answers = {
    system.name: {answer.example_id: answer for answer in system.answers}
    for system in results.systems
    if system.answers
  }
  main = answers[results.main_system]
  common = (
    name for name in main if all(name in found for found in answers.values())
  )
  example_id = next(common, next(iter(main)))
  shown = main[example_id]
  predictions = {
    name: _one_line(found[example_id].prediction) or '(nothing)'
    for name, found in answers.items()
    if example_id in found
  }
  references = ' / '.join(shown.references)
  return _one_line(shown.question), _one_line(references), predictions


def _question_section(results):
  question, references, answers = _question(results)
  table = _markdown_table(
    ['system', 'answer'],
    list(answers.items()),
  )
  return '\n\n'.join(
    [
      '## One question',
      f'**Question:** {_escape(question)}',
      f'**Right answer:** {_escape(references)}',
      table,
    ]
  )


def _detail_sections(details):
  sections = ['## How it was run'] if details else []
  for heading, content in details.items():
    sections.append(f'### {heading}')
    if isinstance(content, Mapping):
      text = json.dumps(dict(content), indent=2, default=str)
      sections.append(f'```json\n{text}\n```')
    else:
      sections.append(_escape(str(content)))
  return sections


def _markdown_table(headers, rows):
  # Numbers, everything but the names and the answers, stand to the right.
  numbers = '---:' if len(headers) > 2 else '---'
  rule = '| --- |' + f' {numbers} |' * (len(headers) - 1)
  head, *body = [
    '| ' + ' | '.join(_escape(cell) for cell in line) + ' |'
    for line in (headers, *rows)
  ]
  return '\n'.join([head, rule, *body])


def _escape(text):
  """Text that Markdown shows as it is, on one line."""
  text = _one_line(text)
  for mark in '\\`*_|<>[]':
    text = text.replace(mark, '\\' + mark)
  return text


def _one_line(text):
  return ' '.join(text.split())
