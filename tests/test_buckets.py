"""Sizes that many counts share."""

from lloco_jax.buckets import bucket, bucket_sizes


def test_sizes_are_those_of_all_counts():
  for smallest, most in [(16, 128), (64, 500), (16, 10), (4, 1), (64, 0)]:
    given = {min(bucket(n, smallest), most) for n in range(1, most + 1)}
    assert bucket_sizes(smallest, most) == sorted(given)
  assert bucket_sizes(16, 70) == [16, 24, 32, 48, 64, 70]
