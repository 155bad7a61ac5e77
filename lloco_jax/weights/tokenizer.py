"""Text to token ids and back."""

import functools
import hashlib
import pathlib

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from lloco_jax.files import read_object
from lloco_jax.weights import gguf, sources

_LLAMA3_WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
_CONFIG = 'tokenizer_config.json'
_SENTENCEPIECE = 'tokenizer.model'
# Those of them that have a vocabulary.
_SLOW_FILES = (_SENTENCEPIECE, 'vocab.json')
_CONTROL, _USER_DEFINED, _UNKNOWN = 3, 4, 2


class Tokenizer:
  """A tokenizer that adds no special tokens of its own."""

  def __init__(self, backend: tokenizers.Tokenizer, eos_id: int | None = None):
    backend.no_truncation()
    backend.no_padding()
    self.backend = backend
    self.eos_id = eos_id

  @classmethod
  def from_file(cls, path, eos_id: int | None = None) -> 'Tokenizer':
    """Reads a `tokenizer.json`.

    The end-of-sequence token is what tokenizer_config.json beside it names,
    else `eos_id`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a tokenizer.
    """
    path = pathlib.Path(path)
    if not path.is_file():
      raise FileNotFoundError(f'{path} is missing: it should be a tokenizer.')
    try:
      backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
      raise ValueError(
        f'{path} is not a tokenizer ({error}); download it again.'
      ) from error
    _add_tokens(backend, path.parent / _CONFIG)
    named = _named_eos(path.parent)
    if named is not None:
      eos_id = backend.token_to_id(named)
      if eos_id is None:
        raise ValueError(
          f"{path} does not have the eos_token '{named}' that {_CONFIG} names."
        )
    return cls(backend, eos_id)

  @classmethod
  def from_folder(cls, folder, eos_id: int | None = None) -> 'Tokenizer | None':
    """The tokenizer of a checkpoint folder; None where it has none.

    Raises:
      ValueError: the folder's tokenizer cannot be read.
      ImportError: it has no tokenizer.json, and transformers, which reads
        the other kinds, is not installed.
    """
    folder = pathlib.Path(folder)
    if (folder / 'tokenizer.json').is_file():
      return cls.from_file(folder / 'tokenizer.json', eos_id)
    if not any((folder / name).is_file() for name in _SLOW_FILES):
      # transformers would make a tokenizer without words of it.
      if (folder / _CONFIG).is_file():
        raise ValueError(
          f'{folder} has a {_CONFIG} and no vocabulary beside it; download its '
          'tokenizer.json, too.'
        )
      return None
    try:
      import transformers

      if (folder / _SENTENCEPIECE).is_file():
        import sentencepiece  # noqa: F401, or transformers blames another
    except ImportError as error:
      raise ImportError(
        f'{folder} has no tokenizer.json, and its other tokenizer files need '
        "transformers and sentencepiece; pip install 'lloco_jax[transformers]',"
        ' or add a tokenizer.json.'
      ) from error
    try:
      read = transformers.AutoTokenizer.from_pretrained(folder)
      backend = read.backend_tokenizer
    except Exception as error:  # of many kinds, by the kind of file
      raise ValueError(
        f'{folder} has no tokenizer.json, and transformers cannot make one '
        f'of its other files ({sources.first_line(error)}); add a '
        'tokenizer.json.'
      ) from error
    if not backend.encode('a', add_special_tokens=False).ids:
      raise ValueError(
        f'{folder} has no tokenizer.json, and what transformers makes of its '
        'other files knows no letter; add a tokenizer.json.'
      )
    return cls(
      backend, eos_id if read.eos_token_id is None else read.eos_token_id
    )

  @classmethod
  def from_gguf(cls, path) -> 'Tokenizer | None':
    """Builds the tokenizer from a GGUF file's fields; None without them.

    Args:
      path: of the file, or the file opened by `gguf.open_gguf`.

    Raises:
      ValueError: its tokenizer is of a kind that is not supported.
    """
    file = path if isinstance(path, gguf.File) else gguf.open_gguf(path)
    kind = file.field('tokenizer.ggml.model')
    if kind is None:
      return None
    # llama.cpp splits by a rule of its own where the file names none.
    rule = file.field('tokenizer.ggml.pre', 'default')
    if kind != 'gpt2' or rule not in _RULES:
      raise ValueError(
        f"{file.path}: the tokenizer '{kind}' with the rule '{rule}' is not "
        "supported; 'gpt2' is, with the rules " + ', '.join(_RULES) + '.'
      )
    return cls(
      _byte_level_bpe(file, rule), file.field('tokenizer.ggml.eos_token_id')
    )

  @property
  def vocab_size(self) -> int:
    return self.backend.get_vocab_size(with_added_tokens=True)

  @functools.cached_property
  def fingerprint(self) -> str:
    """A hash of everything that decides how text is encoded."""
    return hashlib.sha256(self.backend.to_str().encode()).hexdigest()

  def encode(self, text: str, block_characters: int | None = None) -> list[int]:
    """Token ids of a text, with no BOS or EOS.

    Args:
      text: of any length.
      block_characters: where given, blocks of so many characters are encoded
        on their own and put together; the reference does so with 10,000.

    Raises:
      ValueError: the blocks would be empty.
    """
    if block_characters is None:
      return self.backend.encode(text, add_special_tokens=False).ids
    if block_characters < 1:
      raise ValueError(
        f'block_characters is {block_characters}; it must be 1 or more.'
      )
    blocks = [
      text[start : start + block_characters]
      for start in range(0, len(text), block_characters)
    ]
    encoded = self.backend.encode_batch(blocks, add_special_tokens=False)
    return [token for block in encoded for token in block.ids]

  def decode(self, ids, skip_special: bool = True) -> str:
    """The text of token ids, by default without the special ones."""
    return self.backend.decode(
      [int(token) for token in ids], skip_special_tokens=skip_special
    )


def _named_eos(folder: pathlib.Path) -> str | None:
  """The eos_token that the files beside a tokenizer.json name."""
  for name in (_CONFIG, 'special_tokens_map.json'):
    path = folder / name
    fields = _read_fields(path)
    token = fields.get('eos_token')
    if isinstance(token, dict):
      token = token.get('content')
    if not isinstance(token, str | None):
      raise ValueError(
        f'{path}: eos_token is {token!r}; it must be the text of a token.'
      )
    if token is not None:
      return token
  return None


def _add_tokens(
  backend: tokenizers.Tokenizer, config_path: pathlib.Path
) -> None:
  """Adds tokens that a tokenizer_config.json lists and a tokenizer.json lacks.

  Raises:
    ValueError: they do not come behind all others.
  """
  listed = _read_fields(config_path).get('added_tokens_decoder') or {}
  try:
    found = sorted(
      (int(id_), _added_token(fields))
      for id_, fields in listed.items()
      if backend.token_to_id(fields['content']) is None
    )
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f'{config_path}: added_tokens_decoder is damaged ({error!r}); download '
      'it again.'
    ) from error
  for id_, token in found:
    if id_ != backend.get_vocab_size(with_added_tokens=True):
      raise ValueError(
        f"{config_path} gives '{token.content}' the id {id_}, which is not the "
        'next of the tokenizer.json beside it; download both again.'
      )
    backend.add_tokens([token])


def _added_token(fields: dict) -> tokenizers.AddedToken:
  known = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')
  options = {name: fields[name] for name in known if name in fields}
  return tokenizers.AddedToken(fields['content'], **options)


def _read_fields(path: pathlib.Path) -> dict:
  """Those of a JSON object; none where there is no file."""
  return read_object(path) if path.is_file() else {}


def _byte_level():
  return pre_tokenizers.ByteLevel(add_prefix_space=False)


# How llama.cpp's names for the rules cut text into words before BPE.
_RULES = {
  'gpt-2': _byte_level,
  'smollm': lambda: pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), _byte_level()]
  ),
  'llama-bpe': lambda: pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_LLAMA3_WORDS), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  ),
}


def _byte_level_bpe(file: gguf.File, rule: str) -> tokenizers.Tokenizer:
  tokens = file.need('tokenizer.ggml.tokens')
  vocab = {token: index for index, token in enumerate(tokens)}
  if len(vocab) != len(tokens):
    raise ValueError(
      f'{file.path}: its tokenizer has the same token twice; download it again.'
    )
  merges = [
    tuple(merge.split(' ')) for merge in file.need('tokenizer.ggml.merges')
  ]
  try:
    model = models.BPE(vocab, merges, ignore_merges=rule == 'llama-bpe')
  except Exception as error:  # the library raises plain Exception
    raise ValueError(
      f'{file.path}: its tokenizer cannot be built ({error}); '
      'download it again.'
    ) from error
  backend = tokenizers.Tokenizer(model)
  backend.pre_tokenizer = _RULES[rule]()
  backend.decoder = decoders.ByteLevel()
  kinds = file.field('tokenizer.ggml.token_type') or []
  added = [
    tokenizers.AddedToken(
      token, special=kind != _USER_DEFINED, normalized=False
    )
    for token, kind in zip(tokens, kinds)
    if kind in (_CONTROL, _USER_DEFINED, _UNKNOWN)
  ]
  backend.add_tokens(added)
  return backend
