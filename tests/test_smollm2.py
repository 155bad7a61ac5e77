"""SmolLM2 from its GGUF file against transformers and torch on the same file.

It is fetched on first use (98 MB).
"""

import dataclasses

import numpy as np
import pytest
from references import need_torch
from tiny import relative_error
from torch_twin import to_torch

import lloco_jax as lloco
from lloco_jax.weights import sources

pytestmark = pytest.mark.slow

NEW = 64
TOLERANCE = 1e-3
PROMPTS = [
  'What is the capital of France?',
  'Write a haiku about rain on a tin roof.',
  'def fibonacci(n):\n  """The n-th number."""\n',
  'Explain to a child why the sky is blue, and why sunsets are red.',
  'Café, naïve, Zürich, 東京 — translate what you can; say so if you cannot.',
]
TEXTS = PROMPTS + [
  '',
  ' ',
  '\n\n\tindented\t\ttabs  and   spaces \n',
  "It's we'll they've I'm you'd CAN'T Don't",
  'emoji 🙂👩‍🚀, math ∑∂√≠, Ελληνικά, العربية, हिन्दी, 한국어',
  '<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n',
  'snake_case camelCase SCREAMING https://example.org/?q=a&b=c#d',
  'a' * 200 + ' ' * 30 + '...!!!???',
  'e\u0301 combining, \u200b zero width, \ufeff mark, \x00 null',
  'one 1 digit 2 at 3 a 4 time',
]


@pytest.fixture(scope='module')
def pair():
  """(the torch model, its tokenizer, ours), of one file."""
  need_torch()
  import transformers

  path = sources.resolve(sources.EMBEDDED_DEFAULT)
  where = {'gguf_file': path.name}
  reference = transformers.AutoModelForCausalLM.from_pretrained(
    path.parent, **where, dtype='float32'
  )
  tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, **where)
  return reference.eval(), tokenizer, lloco.load(sources.EMBEDDED_DEFAULT)


def chat(model, text):
  return model.tokenizer.encode(
    f'<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n'
  )


def test_network_of_the_file(pair):
  reference, _, model = pair
  theirs, ours = reference.config, model.config
  assert ours.rope_theta == theirs.rope_parameters['rope_theta'] == 100_000
  for name in (
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'max_position_embeddings',
    'tie_word_embeddings',
  ):
    assert getattr(ours, name) == getattr(theirs, name), name
  np.testing.assert_allclose(ours.rms_norm_eps, theirs.rms_norm_eps, 1e-6)


def test_token_ids(pair):
  """Runs of digits are left out: the file's rule is one token a digit, which
  transformers' reader drops."""
  _, tokenizer, model = pair
  for text in TEXTS:
    expected = tokenizer(text, add_special_tokens=False).input_ids
    assert model.tokenizer.encode(text) == expected, text


def test_digits_are_tokens_of_their_own(pair):
  _, _, model = pair
  ids = model.tokenizer.encode('In 2024: 31415 of 92')
  pieces = [model.tokenizer.decode([token]) for token in ids]
  assert ''.join(pieces) == 'In 2024: 31415 of 92'
  assert [p for p in pieces if any(map(str.isdigit, p))] == list('20243141592')


def test_logits(pair):
  reference, _, model = pair
  ids = np.array([chat(model, ' '.join(PROMPTS))])
  assert ids.shape[1] > 80
  expected = reference(to_torch(ids)).logits.detach().numpy()
  assert relative_error(lloco.forward(model, ids), expected) < TOLERANCE


def test_greedy_tokens(pair):
  """All of a batch of ragged rows at once, against one row at a time.

  Where the reference's two best tokens are nearer than the tolerance either
  may follow, and the rest of that row is another text.
  """
  reference, _, model = pair
  prompts = [chat(model, text) for text in PROMPTS]
  ids = np.zeros((len(prompts), max(map(len, prompts))), int)
  for row, prompt in enumerate(prompts):
    ids[row, : len(prompt)] = prompt
  tokens = lloco.generate(
    model,
    ids,
    lengths=[len(prompt) for prompt in prompts],
    max_new_tokens=NEW,
    stop_tokens=(),
  )
  compared = 0
  for prompt, actual in zip(prompts, np.asarray(tokens)):
    given = to_torch(np.array([prompt]))
    output = reference.generate(
      given,
      # It would guess that the <|im_end|> of the prompt is padding.
      attention_mask=given * 0 + 1,
      max_new_tokens=NEW,
      do_sample=False,
      eos_token_id=None,
      output_logits=True,
      return_dict_in_generate=True,
    )
    expected = output.sequences[0, len(prompt) :].numpy()
    for place, scores in enumerate(output.logits):
      best = scores[0].topk(2).values.numpy()
      unsure = best[0] - best[1] < TOLERANCE * scores.abs().max().item()
      if actual[place] != expected[place]:
        assert unsure, f'token {place} behind {prompt}'
        break
      compared += 1
  assert compared > 0.8 * NEW * len(prompts)


def test_bfloat16_says_much_the_same(pair):
  """The likeliest token is mostly the same one."""
  _, _, model = pair
  low = lloco.load(sources.EMBEDDED_DEFAULT, dtype='bfloat16')
  ids = np.array([chat(model, PROMPTS[3])])
  assert dataclasses.replace(low, params={}, tokenizer=None) == (
    dataclasses.replace(model, params={}, tokenizer=None)
  )
  best = np.argmax(lloco.forward(model, ids), axis=-1)
  agree = np.argmax(lloco.forward(low, ids), axis=-1) == best
  assert agree.mean() > 0.85
