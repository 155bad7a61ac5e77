"""The commands `library` and `ask` of python -m lloco_jax."""

import collections
import dataclasses
import shlex
import sys

from lloco_jax.data.prompts import PROMPTS
from lloco_jax.files import named_path
from lloco_jax.library.adding import (
  MOST_MEGABYTES,
  add_folder,
  check_limits,
  remove,
)
from lloco_jax.library.asking import Answer, Timed, ask
from lloco_jax.library.checks import verify
from lloco_jax.library.folder import check_folder, show
from lloco_jax.library.grouping import MOST_GROUPS, find_groups, is_ungrouped
from lloco_jax.library.kinds import KINDS
from lloco_jax.library.library import (
  DEFAULT_FOLDER,
  Library,
  check_group,
)
from lloco_jax.library.making import Making
from lloco_jax.library.pairs import groups_of, pairs_file, read_pairs
from lloco_jax.library.study import LEAST_CHARACTERS, study

_SHOWN = 300


def add_library(commands) -> None:
  """Adds the command `library` to those of a parser."""
  parser = commands.add_parser(
    'library',
    help='a library of your own documents',
    description='Makes a library of folders of text, Markdown, HTML and PDF, '
    'to ask questions of.',
  )
  actions = parser.add_subparsers(
    title='actions', required=True, metavar='ACTION'
  )
  _add_add(actions)
  _command(actions, 'list', _list, 'what the library has').add_argument(
    '--documents', action='store_true', help='each document on a line'
  )
  taking = _command(actions, 'remove', _remove, 'take documents out')
  taking.add_argument('paths', nargs='*', metavar='PATH', help='file or folder')
  taking.add_argument(
    '--group', action='append', default=[], help='all documents of a group'
  )
  finding = _command(
    actions, 'group', _group, 'find groups by what the files are about'
  )
  finding.add_argument(
    '--most',
    type=int,
    default=MOST_GROUPS,
    metavar='N',
    help='try up to N groups (default: %(default)s)',
  )
  finding.add_argument(
    '--groups', type=int, default=0, metavar='N', help='make N groups'
  )
  studying = _command(
    actions, 'study', _study, 'make question-answer pairs to finetune on'
  )
  studying.add_argument('--group', default='', help='by default all, in turn')
  studying.add_argument(
    '--kinds',
    nargs='+',
    default=(),
    metavar='KIND',
    help=f'of questions: {", ".join(KINDS)} (default: all)',
  )
  studying.add_argument(
    '--most',
    type=int,
    default=0,
    metavar='N',
    help='read at most N more passages of a group (default: all)',
  )
  checking = _command(actions, 'verify', _verify, 'recompute every hash')
  checking.add_argument(
    '--mend', action='store_true', help='remove what is damaged or left over'
  )
  naming = _command(actions, 'adapter', _adapter, "name a group's adapter")
  naming.add_argument('group', metavar='GROUP')
  naming.add_argument(
    'adapter', nargs='?', metavar='FOLDER', help='in the format of PEFT'
  )
  naming.add_argument(
    '--none', action='store_true', help='forget the one that was named'
  )
  naming.add_argument(
    '--prompt',
    default='plain',
    choices=PROMPTS,
    help='what it was finetuned with (default: plain)',
  )


def add_ask(commands) -> None:
  """Adds the command `ask` to those of a parser."""
  parser = _command(commands, 'ask', _ask, 'a question to a library')
  parser.add_argument('question', metavar='QUESTION')
  parser.add_argument(
    '--group', help='of the documents; by default what the question finds'
  )
  parser.add_argument(
    '--documents',
    type=int,
    default=3,
    metavar='N',
    help='read the summaries of at most N documents (default: 3)',
  )
  parser.add_argument(
    '--max_new_tokens', type=int, default=64, metavar='N', help='(default: 64)'
  )
  parser.add_argument(
    '--compare',
    action='store_true',
    help='answer from the text itself as well, and say how long that takes',
  )


def _command(commands, name: str, action, said: str):
  description = said[0].upper() + said[1:] + '.'
  parser = commands.add_parser(name, help=said, description=description)
  parser.add_argument(
    '--library',
    default=DEFAULT_FOLDER,
    metavar='PATH',
    help=f'folder of the library (default: {DEFAULT_FOLDER})',
  )
  parser.set_defaults(action=action)
  return parser


def _add_add(actions) -> None:
  parser = _command(
    actions, 'add', _add, 'bring the library to what a folder holds'
  )
  parser.add_argument('folder', metavar='FOLDER')
  parser.add_argument(
    '--group',
    metavar='NAME',
    help='of all files; by default those of a new library are put into groups '
    'that are found, and later ones where they fit best',
  )
  parser.add_argument(
    '--rows',
    type=int,
    default=8,
    metavar='N',
    help='documents compressed side by side (default: 8)',
  )
  parser.add_argument(
    '--most_megabytes',
    type=float,
    default=MOST_MEGABYTES,
    metavar='N',
    help=f'refuse larger files (default: {MOST_MEGABYTES})',
  )
  fixed = parser.add_argument_group(
    'what the library is made with, the first time'
  )
  fresh = Making()
  fixed.add_argument('--model', help=f'(default: {fresh.model})')
  fixed.add_argument(
    '--compressor',
    metavar='FOLDER',
    help="'' where the model is one itself; by default the one shipped for it",
  )
  fixed.add_argument('--dtype', help=f'(default: {fresh.dtype})')
  for name, said in (
    ('part_characters', 'cut files into documents of at most N characters; 0: '
     'never'),
    ('passage_characters', 'of the passages that are found'),
    ('token_cap', 'tokens of a document at most; 0: what the window holds'),
  ):  # fmt: skip
    fixed.add_argument(
      f'--{name}',
      type=int,
      metavar='N',
      help=f'{said} (default: {getattr(fresh, name)})',
    )


def _add(chosen) -> None:
  given = {
    field.name: value
    for field in dataclasses.fields(Making)
    if (value := getattr(chosen, field.name)) is not None
  }
  making = Making(**given)
  # Before a library is made for nothing.
  check_folder(named_path(chosen.folder))
  check_limits(chosen.rows, chosen.most_megabytes)
  if chosen.group is not None:
    check_group(chosen.group)
  library = Library.make(chosen.library, making, given=given)
  counts = add_folder(
    library, chosen.folder, chosen.group, chosen.rows, chosen.most_megabytes
  )
  print(counts.text())
  if chosen.group is None and is_ungrouped(library):
    print(find_groups(library).text())


def _group(chosen) -> None:
  found = find_groups(Library(chosen.library), chosen.most, chosen.groups)
  print(found.text())


def _study(chosen) -> None:
  library = Library(chosen.library)
  place = shlex.quote(str(library.folder))
  for group in groups_of(library, chosen.group):
    studied = study(library, group, chosen.kinds, chosen.most)
    print(studied.text())
    if not read_pairs(library, group):
      print(
        f"There are no pairs about '{group}': passages of fewer than "
        f'{LEAST_CHARACTERS} characters are not read, and what was refused is '
        'in the library under studied/. Write some yourself to '
        f'{show(pairs_file(library, group))}.',
        flush=True,
      )
      continue
    print(
      f'The pairs are in {show(pairs_file(library, group))}; read and edit '
      'them, then: python train.py --config=configs/library.py '
      f'--config.library.path={place} '
      f'--config.library.group={shlex.quote(group)}',
      flush=True,
    )


def _list(chosen) -> None:
  library = Library(chosen.library)
  entries = library.catalogue.entries()
  adapters = library.adapter_folders()
  groups = collections.defaultdict(list)
  for entry in entries:
    groups[entry.group].append(entry)
  print(f'{show(library.folder)}, made with {library.making.model}:')
  for group, some in sorted(groups.items()):
    files = len({entry.path for entry in some})
    tokens = sum(entry.tokens for entry in some)
    cut = sum(entry.cut_tokens for entry in some)
    vectors = sum(entry.vectors for entry in some)
    said = show(adapters[group][0]) if group in adapters else 'none'
    print(
      f'  {group}: {files:,} files, {len(some):,} documents, {tokens:,} tokens '
      f'in {vectors:,} vectors{f", {cut:,} cut off" if cut else ""}; adapter: '
      f'{said}'
    )
    if chosen.documents:
      for entry in some:
        print(f'    {entry.name}: {entry.tokens:,} tokens')
  if not groups:
    print('  no documents yet')


def _remove(chosen) -> None:
  if not chosen.paths and not chosen.group:
    raise ValueError('Nothing is named to be removed: give a PATH or --group.')
  count, emptied = remove(Library(chosen.library), chosen.paths, chosen.group)
  print(f'{count} files removed from the library.')
  for sentence in emptied:
    print(f'Note: {sentence}')


def _verify(chosen) -> None:
  findings = verify(Library(chosen.library), chosen.mend)
  print(findings.text())
  if findings.adapters or findings.damage and not chosen.mend:
    sys.exit(1)


def _adapter(chosen) -> None:
  if chosen.none == bool(chosen.adapter):
    raise ValueError('Name either the FOLDER of an adapter or --none.')
  library = Library(chosen.library)
  if chosen.none:
    library.forget_adapter(chosen.group)
    print(f"No adapter is named for '{chosen.group}' any more.")
    return
  library.name_adapter(chosen.group, chosen.adapter, chosen.prompt)
  print(f"The adapter of '{chosen.group}' is {chosen.adapter}.")


def _ask(chosen) -> None:
  def said(piece):
    print(piece, end='', flush=True)

  answer = ask(
    chosen.question,
    chosen.library,
    chosen.group,
    chosen.documents,
    chosen.max_new_tokens,
    said,
    chosen.compare,
  )
  print('' if answer.text else '(nothing)')
  print(answer_report(answer, chosen.compare))


def answer_report(answer: Answer, compare: bool = False) -> str:
  """Where an answer comes from and what it took, below the answer itself."""
  by = (
    'with its adapter'
    if answer.has_adapter
    else 'which has no adapter: the compressor alone answered'
  )
  lines = ['', f"From the group '{answer.group}', {by}:"]
  for number, hit in enumerate(answer.sources, 1):
    # A text may hold what moves a terminal's cursor.
    shown = (each if each.isprintable() else ' ' for each in hit.text)
    passage = ' '.join(''.join(shown).split())
    if len(passage) > _SHOWN:
      passage = passage[:_SHOWN].rsplit(' ', 1)[0] + ' ...'
    lines += [f'  {number}. {hit.entry.name}', f'     {passage}']
  ours = answer.answer
  if ours.cut:
    lines.append(
      'The answer has all the tokens it may have (--max_new_tokens).'
    )
  lines.append(
    f'Read {ours.context:,} vectors in place of {answer.text_tokens:,} tokens '
    f'of text; {_times(ours)}.'
  )
  if answer.from_text is not None:
    text = answer.from_text
    lines.append(
      f'The base reading the text itself, {text.context:,} tokens: '
      f'{_times(text)}; it answers: {text.text or "(nothing)"}'
    )
  elif compare:
    lines.append("The text itself does not fit the model's window.")
  return '\n'.join(lines)


def _times(timed: Timed) -> str:
  return (
    f'first token after {timed.seconds_to_first_token:.2f} s, all after '
    f'{timed.seconds:.2f} s'
  )
