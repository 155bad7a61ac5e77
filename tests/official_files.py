"""Tiny files in the official format of every data set, for tests."""

import csv
import json

STORY = 'A fox lived by the mill.\n\nIt was red.'
PAPER = 'We study foxes.\n\nAll of them are red.'


def write_lines(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps(row, ensure_ascii=False) for row in rows]
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def scrolls_row(id, number, question, document, output):
  return {
    'id': id,
    'pid': f'{id}_{number}',
    'input': f'{question}\n\n{document}',
    'output': output,
  }


def write_scrolls(folder, part='qasper'):
  train = [
    scrolls_row('q1', 0, 'What colour?', PAPER, 'red'),
    scrolls_row('q1', 1, 'What colour?', PAPER, 'Red ones'),
    scrolls_row('q2', 0, 'Which animals?', PAPER, 'foxes'),
  ]
  write_lines(folder / part / 'train.jsonl', train)
  validation = [scrolls_row('q3', 0, 'Where?', STORY, 'by the mill')]
  write_lines(folder / part / 'validation.jsonl', validation)


def quality_line(article, text, questions):
  return {
    'article_id': article,
    'set_unique_id': f'{article}_A',
    'title': 'A title',
    'article': text,
    'questions': [
      {
        'question': question,
        'question_unique_id': id,
        'options': options,
        'gold_label': gold,
        'difficult': difficult,
      }
      for id, question, options, gold, difficult in questions
    ],
  }


def write_quality(folder):
  four = ['red', 'blue', 'green', 'grey']
  train = [
    quality_line('100', STORY, [('100_1', 'Colour?', four, 1, 1)]),
    quality_line('100', STORY, [('100_2', 'Not its colour?', four, 4, 0)]),
  ]
  dev = [quality_line('200', PAPER, [('200_1', 'All?', ['no', 'yes'], 2, 0)])]
  write_lines(folder / 'QuALITY.v1.0.1.htmlstripped.train', train)
  write_lines(folder / 'QuALITY.v1.0.1.htmlstripped.dev', dev)


def meeting(*contents):
  return {
    'topic_list': [],
    'general_query_list': [{'query': 'Summarize it.', 'answer': 'Little. '}],
    'specific_query_list': [
      {'query': 'Who spoke?', 'answer': 'Ada.', 'relevant_text_span': []}
    ],
    'meeting_transcripts': [
      {'speaker': 'Ada', 'content': content} for content in contents
    ],
  }


def write_qmsum(folder):
  folder = folder / 'data/ALL/jsonl'
  write_lines(folder / 'train.jsonl', [meeting('Hello.', 'Bye.')])
  write_lines(folder / 'val.jsonl', [meeting('Hm.')])
  write_lines(folder / 'test.jsonl', [meeting('Well.')])


def article(title, *contexts, **question):
  question = {'answers': [{'text': 'red', 'answer_start': 0}], **question}
  return {
    'title': title,
    'paragraphs': [
      {
        'context': context,
        'qas': [{'id': f'{title}-{n}', 'question': 'Colour? ', **question}],
      }
      for n, context in enumerate(contexts)
    ],
  }


def write_json(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value, ensure_ascii=False), encoding='utf-8')


def write_squad(folder, part='v1.1'):
  """The development file alone, which is then divided."""
  articles = [article(f'Fox_{n}', f'Fox {n}.', 'Red.') for n in range(4)]
  write_json(folder / f'dev-{part}.json', {'version': '1', 'data': articles})


TAGS = ('local-or-sum', 'ex-or-im1', 'attribute1')
QUESTION_COLUMNS = (
  *('question_id', 'question', 'answer1', 'answer4', 'cor_section'),
  *TAGS,
)


def write_rows(path, columns, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(rows)


def write_fairytaleqa(folder):
  folder = folder / 'data-by-train-split'
  kinds = ('local', 'explicit', 'character')
  for split, name in (('train', 'fox'), ('val', 'owl'), ('test', 'cat')):
    write_rows(
      folder / f'section-stories/{split}/{name}-story.csv',
      ('section', 'text'),
      [('1', f'A {name}, "red".\nIt ran.'), ('2', 'It slept.')],
    )
    write_rows(
      folder / f'questions/{split}/{name}-questions.csv',
      QUESTION_COLUMNS,
      [
        ('1', 'What colour?', 'red', 'Red', '1', *kinds),
        ('1', 'Who ran?', f'the {name}', '', '1,2', *kinds),
      ],
    )


def hotpot_row(id, *titles, gold=('Fox', 'Mill')):
  return {
    '_id': id,
    'question': f'Which one is {id}?',
    'answer': 'the mill',
    'type': 'bridge',
    'level': 'hard',
    'supporting_facts': [[title, 0] for title in gold],
    'context': [
      [title, [f'{title} is.', f' {title} was.']] for title in titles
    ],
  }


def write_hotpotqa(folder, part='fullwiki'):
  train = [hotpot_row('a', 'Fox', 'Mill'), hotpot_row('b', 'Fox', 'Mill')]
  dev = [hotpot_row('c', 'Mill', 'Owl')]
  write_json(folder / 'hotpot_train_v1.1.json', train)
  write_json(folder / f'hotpot_dev_{part}_v1.json', dev)


def longbench_row(id, question, context, *answers):
  return {
    'input': question,
    'context': context,
    'answers': list(answers),
    'length': 4,
    'dataset': 'any',
    'language': 'en',
    'all_classes': None,
    '_id': id,
  }


def write_longbench(folder, part='narrativeqa'):
  rows = [
    longbench_row('l1', 'Colour?', STORY, 'red', 'Red', 'red'),
    longbench_row('l2', '' if part == 'gov_report' else 'Who?', STORY, 'a fox'),
  ]
  write_lines(folder / 'data' / f'{part}.jsonl', rows)


WRITERS = {
  'scrolls': write_scrolls,
  'quality': lambda folder, part: write_quality(folder),
  'qmsum': lambda folder, part: write_qmsum(folder),
  'squad': write_squad,
  'fairytaleqa': lambda folder, part: write_fairytaleqa(folder),
  'hotpotqa': write_hotpotqa,
  'longbench': write_longbench,
}
