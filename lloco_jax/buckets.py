"""Few sizes for many counts, so that few programs are compiled."""


def bucket(count: int, smallest: int) -> int:
  """The least of 0, s, 1.5 s, 2 s, 3 s, 4 s, 6 s, ... that holds `count`.

  At most a third of it is empty from s on. `smallest`, s, must be even.
  """
  if count == 0:
    return 0
  size = smallest
  while size < count:
    if count <= size * 3 // 2:
      return size * 3 // 2
    size *= 2
  return size


def bucket_sizes(smallest: int, most: int) -> list[int]:
  """The sizes that `bucket` gives for 1 to `most`, the last one cut to it."""
  sizes, count = [], 1
  while count <= most:
    sizes.append(min(bucket(count, smallest), most))
    count = sizes[-1] + 1
  return sizes
