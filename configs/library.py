r"""Adapters of the groups of a library, on its question-answer pairs (README).

    python train.py --config=configs/library.py --config.library.path=LIBRARY

Trains a group after the other, or one with --config.library.group=NAME, and
makes each adapter the one that its group is answered with.
"""

from configs import common


def get_config():
  return common.library('library')
