"""Nine made-up systems that answered the same questions, for the tests."""

import numpy as np

from lloco_jax.evaluation.comparison import Answer, SystemResult

# Name, tokens read, chance of a right answer, seconds to the first token and
# per answer.
ROWS = (
  ('no context', 0, 0.03, 0.1, 0.8),
  ('context truncated to the window', 2048, 0.41, 1.9, 2.7),
  ("truncated to the summaries' token count", 505, 0.14, 0.5, 1.2),
  ('full context', 4210, 0.55, 4.4, 5.3),
  ('compressed without finetuning', 512, 0.09, 0.31, 1.05),
  ('LLoCO', 512, 0.38, 0.33, 1.08),
  ('finetuned without context', 0, 0.12, 0.1, 0.82),
  ('finetuned on equal-budget truncation', 505, 0.21, 0.5, 1.22),
  ("LLoCO with another document's summaries", 540, 0.115, 0.33, 1.08),
)
CONTROLS = tuple(row[0] for row in ROWS[-3:])


def made_up_systems(rows=ROWS, documents=12, questions=8, seed=0):
  random = np.random.default_rng(seed)
  systems = []
  for name, tokens, chance, first, total in rows:
    answers = []
    for document in range(documents):
      for number in range(questions):
        right = float(random.random() < chance)
        answers.append(
          Answer(
            example_id=f'{document}-{number}',
            document_ids=(f'report {document}',),
            question=f'Who signed page {number} of report {document}?',
            prediction='Marta Oduya' if right else 'the | harbour\noffice',
            references=('Marta Oduya', 'M. Oduya'),
            scores={'f1': right, 'exact_match': right / 2},
          )
        )
    systems.append(
      SystemResult(name, f'It is {name}.', tuple(answers), tokens, first, total)
    )
  return systems


def scored_system(name, scores, documents=None, **fields):
  """A system with one answer a score, by default each of its own document."""
  documents = documents or [f'd{number}' for number in range(len(scores))]
  answers = tuple(
    Answer(f'e{number}', (document,), 'Why?', 'so', ('so',), {'f1': score})
    for number, (score, document) in enumerate(zip(scores, documents))
  )
  return SystemResult(name, '', answers, **fields)
