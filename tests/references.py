"""The program that tests compare with, or the reason why it is missing."""

import pytest


def need_torch():
  """torch; skips the tests of a Python that the tests do not install it for."""
  return pytest.importorskip(
    'torch', reason='needs torch, which is a reference on Python 3.11 alone'
  )
