"""Text embedding: the encoder that is used where none is given."""

from collections.abc import Callable, Sequence
import functools
import logging
import pathlib

import numpy as np

from lloco_jax.retrieval.extra import need

# Texts to vectors [n, D], one a text, of any length.
Encoder = Callable[[Sequence[str]], np.ndarray]


def embed(texts: Sequence[str]) -> np.ndarray:
  """Vectors [n, 256] of texts: the means of their tokens' embeddings.

  The tokens' embeddings are those that the package wordllama carries, so
  nothing is downloaded. They know words, not their order: an encoder that
  reads the text finds more.

  Raises:
    ImportError: wordllama is not installed.
  """
  return _wordllama().embed(list(texts))


@functools.cache
def _wordllama():
  need('wordllama')
  root = logging.getLogger()
  handlers, level = root.handlers[:], root.level
  import wordllama

  # Its import sets up logging for the whole program.
  root.handlers[:] = handlers
  root.setLevel(level)
  # Without a folder it looks for its tokenizer in the user's cache, and then
  # on the network, although it has one.
  return wordllama.WordLlama.load(
    cache_dir=pathlib.Path(wordllama.__file__).parent, disable_download=True
  )
