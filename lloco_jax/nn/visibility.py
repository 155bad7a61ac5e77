"""Which keys a query sees, by positions and groups.

A key is visible to a query when its position is not after the query's and
its group is SHARED or the query's own. Padding has position UNSEEN. So one
rule covers ragged rows, a kept prefix, a decode cache and several questions
packed behind one context.
"""

import numpy as np

UNSEEN = np.iinfo(np.int32).max
SHARED = 0


def visible(query_positions, key_positions, query_groups, key_groups):
  """[B, T], [B, S], [B, T] or None, [B, S] or None -> mask [B, T, S]."""
  mask = key_positions[:, None, :] <= query_positions[:, :, None]
  if key_groups is not None:
    key_groups = key_groups[:, None, :]
    own = key_groups == query_groups[:, :, None]
    mask &= own | (key_groups == SHARED)
  return mask
