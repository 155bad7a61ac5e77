"""Tokenizers from tokenizer.json, from slow files and from GGUF fields."""

import json
import sys

import gguf as library
import pytest
from references import need_torch
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lloco_jax.weights import sources
from lloco_jax.weights.tokenizer import Tokenizer

CORPUS = [
  'The river rose by 12 metres in 1987, and the mill was flooded twice.',
  "It's the miller's daughter who wrote: don't wait for the water.",
  'Überraschend viele Straßen führen — naïve façade — nach Łódź.',
  'def f(x):\n    return x  # 3.14159\n\n\n',
] * 8
TEXTS = [
  '',
  ' ',
  'The mill was flooded.',
  "  don't   wait\n\n for\tÜber 1987 metres ",
  'unseen: 東京 🙂 ∑ é',
  '<|end|>The river<|begin|> and <note> rose<|end|>',
]
SPECIAL = ['<|unk|>', '<|begin|>', '<|end|>']


def byte_level(rule='smollm'):
  """A small trained byte-level tokenizer, built without the code tested."""
  backend = tokenizers.Tokenizer(models.BPE())
  level = pre_tokenizers.ByteLevel(add_prefix_space=False)
  digits = pre_tokenizers.Digits(individual_digits=True)
  backend.pre_tokenizer = (
    pre_tokenizers.Sequence([digits, level]) if rule == 'smollm' else level
  )
  backend.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=400,
    special_tokens=SPECIAL,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(CORPUS, trainer)
  backend.add_tokens(
    [tokenizers.AddedToken('<note>', normalized=False, special=False)]
  )
  return backend


def write_gguf(path, backend, rule='smollm', kind='gpt2', drop=(), **changes):
  """The fields of a tokenizer, as llama.cpp's converter writes them."""
  model = json.loads(backend.to_str())['model']
  vocab = backend.get_vocab(with_added_tokens=True)
  tokens = sorted(vocab, key=vocab.get)
  merges = [' '.join(merge) for merge in model['merges']]
  types = [1] * len(tokens)
  for token in SPECIAL:
    types[vocab[token]] = 3
  types[vocab['<note>']] = 4
  fields = {
    'tokenizer.ggml.model': kind,
    'tokenizer.ggml.pre': rule,
    'tokenizer.ggml.tokens': tokens,
    'tokenizer.ggml.token_type': types,
    'tokenizer.ggml.merges': merges,
    'tokenizer.ggml.eos_token_id': 2,
  } | changes
  writer = library.GGUFWriter(path, 'llama')
  for name, value in fields.items():
    if name in drop:
      continue
    if isinstance(value, str):
      writer.add_string(name, value)
    elif isinstance(value, list):
      writer.add_array(name, value)
    else:
      writer.add_uint32(name, value)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def metaspace():
  """A small tokenizer that, like Llama 2's, adds BOS unless told not to."""
  backend = tokenizers.Tokenizer(models.BPE(byte_fallback=True))
  backend.normalizer = normalizers.Prepend('▁')
  backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme='never')
  backend.decoder = decoders.Metaspace(prepend_scheme='always')
  trainer = trainers.BpeTrainer(
    vocab_size=200, special_tokens=['<s>', '</s>'], show_progress=False
  )
  backend.train_from_iterator(CORPUS, trainer)
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', 0)]
  )
  return backend


@pytest.mark.parametrize('rule', ['smollm', 'gpt-2'])
def test_gguf_equals_the_tokenizer_it_was_written_from(tmp_path, rule):
  backend = byte_level(rule)
  tokenizer = Tokenizer.from_gguf(
    write_gguf(tmp_path / 'a.gguf', backend, rule)
  )
  for text in CORPUS[:4] + TEXTS:
    expected = backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text) == expected, text
    assert tokenizer.decode(expected, skip_special=False) == text
  assert tokenizer.eos_id == 2
  assert tokenizer.vocab_size == backend.get_vocab_size()


def test_special_tokens_of_a_gguf(tmp_path):
  tokenizer = Tokenizer.from_gguf(write_gguf(tmp_path / 'a.gguf', byte_level()))
  ids = tokenizer.encode('<|begin|>The river<note><|end|>')
  assert ids[0] == 1 and ids[-1] == 2
  assert tokenizer.decode(ids) == 'The river<note>'
  everything = tokenizer.decode(ids, skip_special=False)
  assert everything == '<|begin|>The river<note><|end|>'


def test_digits_are_single_under_the_smollm_rule(tmp_path):
  backend = byte_level('gpt-2')  # so that merges of digits exist
  merged = Tokenizer.from_gguf(
    write_gguf(tmp_path / 'a.gguf', backend, 'gpt-2')
  )
  single = Tokenizer.from_gguf(write_gguf(tmp_path / 'b.gguf', backend))
  assert len(merged.encode('1987')) < 4
  assert len(single.encode('1987')) == 4
  assert merged.fingerprint != single.fingerprint


def test_llama3_rule(tmp_path):
  """Words are cut, and whole words of the vocabulary taken, as in Llama 3."""
  backend = byte_level('gpt-2')
  path = write_gguf(tmp_path / 'a.gguf', backend, 'llama-bpe')
  tokenizer = Tokenizer.from_gguf(path)
  words = tokenizer.backend.pre_tokenizer.pre_tokenize_str(
    "The mill's 123456 metres,\n\n  x"
  )
  assert [word for word, _ in words] == [
    'The',
    'Ġmill',
    "'s",
    'Ġ',
    '123',
    '456',
    'Ġmetres',
    ',ĊĊ',
    'Ġ',
    'Ġx',
  ]
  assert tokenizer.backend.model.ignore_merges
  assert tokenizer.decode(tokenizer.encode(CORPUS[1])) == CORPUS[1]


@pytest.mark.parametrize(
  'kind, rule', [('llama', 'gpt-2'), ('gpt2', 'qwen2'), ('gpt2', 'default')]
)
def test_unknown_kinds_are_refused(tmp_path, kind, rule):
  path = write_gguf(tmp_path / 'a.gguf', byte_level(), rule, kind)
  with pytest.raises(ValueError, match=f"'{kind}' with the rule '{rule}'"):
    Tokenizer.from_gguf(path)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'tokenizer.ggml.tokens': ['a', 'b', 'a']}, 'the same token twice'),
    ({'tokenizer.ggml.merges': ['nowhere found']}, 'cannot be built'),
  ],
)
def test_damaged_fields(tmp_path, changes, message):
  path = write_gguf(tmp_path / 'a.gguf', byte_level(), **changes)
  with pytest.raises(ValueError, match=message):
    Tokenizer.from_gguf(path)


def test_missing_merges(tmp_path):
  path = write_gguf(
    tmp_path / 'a.gguf', byte_level(), drop=['tokenizer.ggml.merges']
  )
  with pytest.raises(ValueError, match='lacks the field tokenizer.ggml.merges'):
    Tokenizer.from_gguf(path)


@pytest.mark.parametrize('make', [byte_level, metaspace])
def test_file_equals_transformers(tmp_path, make):
  import transformers

  path = tmp_path / 'tokenizer.json'
  make().save(str(path))
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
  tokenizer = Tokenizer.from_file(path)
  for text in CORPUS[:4] + TEXTS:
    expected = theirs.encode(text, add_special_tokens=False)
    assert tokenizer.encode(text) == expected, text
    assert tokenizer.decode(expected) == theirs.decode(
      expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
  assert tokenizer.vocab_size == len(theirs)


def test_nothing_is_added_or_cut(tmp_path):
  backend = metaspace()
  backend.enable_truncation(8)
  backend.enable_padding(length=64)
  backend.save(str(tmp_path / 'tokenizer.json'))
  ids = Tokenizer.from_file(tmp_path / 'tokenizer.json').encode(CORPUS[0])
  assert 0 not in ids
  assert 8 < len(ids) < 64


def test_blocks(tmp_path):
  backend = metaspace()
  tokenizer = Tokenizer(backend)
  text = CORPUS[0]
  by_hand = []
  for start in range(0, len(text), 7):
    block = text[start : start + 7]
    by_hand += backend.encode(block, add_special_tokens=False).ids
  assert tokenizer.encode(text, block_characters=7) == by_hand
  assert by_hand != tokenizer.encode(text)
  assert tokenizer.encode(text, block_characters=1000) == tokenizer.encode(text)
  assert tokenizer.encode('', block_characters=7) == []
  with pytest.raises(ValueError, match='block_characters is 0'):
    tokenizer.encode(text, block_characters=0)


def test_fingerprint(tmp_path):
  backend = byte_level()
  path = tmp_path / 'tokenizer.json'
  backend.save(str(path))
  first = Tokenizer.from_file(path)
  assert first.fingerprint == Tokenizer.from_file(path).fingerprint
  backend.add_tokens(['<another>'])
  backend.save(str(path))
  assert first.fingerprint != Tokenizer.from_file(path).fingerprint


@pytest.mark.parametrize(
  'file, named',
  [
    ('tokenizer_config.json', '<|end|>'),
    ('tokenizer_config.json', {'content': '<|end|>', 'special': True}),
    ('special_tokens_map.json', '<|end|>'),
  ],
)
def test_end_of_sequence(tmp_path, file, named):
  byte_level().save(str(tmp_path / 'tokenizer.json'))
  assert Tokenizer.from_folder(tmp_path).eos_id is None
  assert Tokenizer.from_folder(tmp_path, 7).eos_id == 7
  (tmp_path / file).write_text(json.dumps({'eos_token': named}))
  assert Tokenizer.from_folder(tmp_path, 7).eos_id == 2


def test_end_of_sequence_that_does_not_exist(tmp_path):
  byte_level().save(str(tmp_path / 'tokenizer.json'))
  path = tmp_path / 'tokenizer_config.json'
  path.write_text('{"eos_token": "</s>"}')
  with pytest.raises(ValueError, match="the eos_token '</s>'"):
    Tokenizer.from_folder(tmp_path)
  for text, said in (
    ('{', 'is not valid'),
    ('[]', 'holds no JSON object'),
    ('{"eos_token": 2}', 'eos_token is 2; it must be the text'),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=f'tokenizer_config.json:? {said}'):
      Tokenizer.from_folder(tmp_path)


def test_folder_without_tokenizer(tmp_path):
  assert Tokenizer.from_folder(tmp_path) is None


def test_damaged_file(tmp_path):
  path = tmp_path / 'tokenizer.json'
  path.write_text('{"model": ')
  with pytest.raises(ValueError, match='tokenizer.json is not a tokenizer'):
    Tokenizer.from_folder(tmp_path)
  with pytest.raises(FileNotFoundError, match='other.json is missing'):
    Tokenizer.from_file(tmp_path / 'other.json')


def write_slow(folder):
  """Files of a GPT-2 tokenizer, which has no tokenizer.json."""
  model = json.loads(byte_level('gpt-2').to_str())['model']
  (folder / 'vocab.json').write_text(json.dumps(model['vocab']))
  merges = '\n'.join(' '.join(merge) for merge in model['merges'])
  (folder / 'merges.txt').write_text(f'#version: 0.2\n{merges}\n')
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'tokenizer_class': 'GPT2Tokenizer', 'eos_token': '<|end|>'})
  )


def test_slow_files_through_transformers(tmp_path):
  write_slow(tmp_path)
  tokenizer = Tokenizer.from_folder(tmp_path)
  expected = byte_level('gpt-2').encode(CORPUS[1], add_special_tokens=False)
  assert tokenizer.encode(CORPUS[1]) == expected.ids
  assert tokenizer.eos_id == 2


def test_slow_files_without_transformers(tmp_path, monkeypatch):
  write_slow(tmp_path)
  monkeypatch.setitem(sys.modules, 'transformers', None)
  with pytest.raises(ImportError, match='has no tokenizer.json'):
    Tokenizer.from_folder(tmp_path)


def test_a_config_without_a_vocabulary(tmp_path):
  config = {'tokenizer_class': 'LlamaTokenizer', 'eos_token': '</s>'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='no vocabulary beside it'):
    Tokenizer.from_folder(tmp_path)
  (tmp_path / 'vocab.json').write_text('{"b": 0}')
  (tmp_path / 'merges.txt').write_text('#version: 0.2\n')
  config = {'tokenizer_class': 'GPT2Tokenizer'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='knows no letter'):
    Tokenizer.from_folder(tmp_path)


def test_sentencepiece(tmp_path, monkeypatch):
  """Against its own library, which trains the file."""
  sentencepiece = pytest.importorskip(
    'sentencepiece', reason="needs the extra 'test'"
  )
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(CORPUS * 20),
    model_prefix=str(tmp_path / 'tokenizer'),
    model_type='bpe',
    vocab_size=400,
    byte_fallback=True,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  config = {'tokenizer_class': 'LlamaTokenizer', 'eos_token': '</s>'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  found = Tokenizer.from_folder(tmp_path)
  theirs = sentencepiece.SentencePieceProcessor(
    model_file=str(tmp_path / 'tokenizer.model')
  )
  for text in (CORPUS[1], 'the 漢 mill'):
    assert found.encode(text) == theirs.encode(text)
  assert found.eos_id == theirs.eos_id()
  monkeypatch.setitem(sys.modules, 'sentencepiece', None)
  with pytest.raises(ImportError, match='transformers and sentencepiece'):
    Tokenizer.from_folder(tmp_path)


def test_tokens_that_only_the_config_lists(tmp_path):
  backend = byte_level()
  backend.save(str(tmp_path / 'tokenizer.json'))
  after = backend.get_vocab_size()
  path = tmp_path / 'tokenizer_config.json'

  def write(id_, **fields):
    listed = {
      '2': {'content': '<|end|>'},
      str(id_): {'content': '<|im_end|>', 'special': True, **fields},
    }
    path.write_text(
      json.dumps({'added_tokens_decoder': listed, 'eos_token': '<|im_end|>'})
    )

  write(after, lstrip=False, __type='AddedToken')
  found = Tokenizer.from_folder(tmp_path)
  a = found.encode('a')
  assert found.encode('a<|im_end|>a') == [*a, after, *a]
  assert found.eos_id == after and found.vocab_size == after + 1
  write(after + 1)
  with pytest.raises(ValueError, match=f"'<|im_end|>' the id {after + 1}"):
    Tokenizer.from_folder(tmp_path)
  path.write_text('{"added_tokens_decoder": [1]}')
  with pytest.raises(ValueError, match='added_tokens_decoder is damaged'):
    Tokenizer.from_folder(tmp_path)


@pytest.mark.slow
def test_embedded_default_equals_transformers():
  need_torch()  # transformers reads GGUF with it
  import transformers

  path = sources.resolve(sources.EMBEDDED_DEFAULT)
  tokenizer = Tokenizer.from_gguf(path)
  theirs = transformers.AutoTokenizer.from_pretrained(
    path.parent, gguf_file=path.name
  )
  texts = [*CORPUS[1:3], *TEXTS, '<|im_start|>user\nWhat is it?<|im_end|>\n']
  texts += [
    '  indented\n\tcode = {"a": [x, y]}\r\n\r\n',
    'Ελληνικά, русский, العربية, हिन्दी, 中文，한국어',
    'a' * 300 + ' ' * 50 + '!?' * 40,
    ''.join(map(chr, range(1, 700))).translate(
      {ord(digit): None for digit in '0123456789²³¹¼½¾'}
    ),
  ]
  for text in texts:
    expected = theirs.encode(text, add_special_tokens=False)
    assert tokenizer.encode(text) == expected, text
    assert tokenizer.decode(expected, skip_special=False) == theirs.decode(
      expected, clean_up_tokenization_spaces=False
    )
  assert tokenizer.eos_id == theirs.eos_token_id == 2
  assert tokenizer.vocab_size == len(theirs) == 49_152
  digits = tokenizer.encode('Room 1987')[-4:]
  assert [tokenizer.decode([digit]) for digit in digits] == list('1987')
