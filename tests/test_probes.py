"""Probes against losses computed by hand."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny
from tiny import CONFIG

import lloco_jax as lloco
from lloco_jax.evaluation.probe_report import GIVEN
from lloco_jax.evaluation.probes import make_probes, probe_losses

SEGMENT, TARGET = 4, 5


def documents():
  return [
    (name, tiny.ids(seed, length))
    for seed, (name, length) in enumerate([('a', 40), ('b', 12), ('c', 13)])
  ]


def probes(per_document=2):
  return make_probes(documents(), 2 * SEGMENT, TARGET, per_document)


def nats(model, ids, context=None):
  """Mean loss of the last TARGET - 1 of the ids."""
  scores = jax.nn.log_softmax(lloco.forward(model, ids, context))
  places = np.arange(len(ids) - TARGET, len(ids) - 1)
  return -float(np.mean(scores[places, ids[places + 1]]))


def test_probes_are_spread_and_do_not_overlap():
  for length, starts in (
    (60, [15, 31, 47]),
    (40, [13, 27]),
    (38, [25]),
    (26, [13]),
    (13, [0]),
  ):
    text = np.arange(length)
    found = make_probes(
      [('a', text), ('b', 1 + np.arange(13))], 2 * SEGMENT, TARGET, 3
    )
    assert [probe.document_id for probe in found] == ['a'] * len(starts) + ['b']
    for probe, start in zip(found, starts):
      passage = np.concatenate([probe.text, probe.target])
      np.testing.assert_array_equal(passage, text[start : start + 13])
    assert (np.diff(starts) >= 13).all()


@pytest.mark.parametrize('count', [0, 1, 2])
def test_losses_are_those_of_the_forward_pass(count):
  model, found = tiny.model(), probes()
  others = [2, 2, 0]
  losses = list(probe_losses(model, model, found, SEGMENT, count))
  assert [each.document_id for each in losses] == ['a', 'a', 'c']

  def last(probe):
    return probe.text[len(probe.text) - count * SEGMENT :]

  for probe, other, each in zip(found, others, losses):
    nothing = nats(model, probe.target)
    text = nats(model, np.concatenate([last(probe), probe.target]))
    summaries, wrong = (
      nats(model, probe.target, lloco.compress(model, last(one), SEGMENT))
      if count
      else nothing
      for one in (probe, found[other])
    )
    # As many tokens as the segments have vectors.
    kept = probe.text[len(probe.text) - count * CONFIG.summary_length :]
    recent = nats(model, np.concatenate([kept, probe.target]))
    expected = (nothing, text, summaries, recent, wrong)
    actual = [getattr(each, name) for name in GIVEN]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert len(set(actual)) == (5 if count else 1)


def test_reader_may_be_another_model():
  found = probes()
  base = tiny.model(dataclasses.replace(CONFIG, summary_length=0))
  [first, *_] = probe_losses(base, tiny.model(), found, SEGMENT, 1)
  vectors = lloco.compress(tiny.model(), found[0].text[SEGMENT:], SEGMENT)
  expected = nats(base, found[0].target, vectors)
  np.testing.assert_allclose(first.summaries, expected, rtol=1e-5)


def test_a_copy_is_no_other_document(capsys):
  copied = [('copy', documents()[0][1]), *documents()]
  found = make_probes(copied, 2 * SEGMENT, TARGET, 2)
  assert {probe.document_id for probe in found} == {'copy', 'c'}
  assert 'passed over: 1' in capsys.readouterr().out
  with pytest.raises(ValueError, match='Fewer than two documents'):
    make_probes(copied[:2], 2 * SEGMENT, TARGET, 2)
  with pytest.raises(ValueError, match="Two documents have the id 'c'"):
    make_probes([*documents(), ('c', np.arange(40))], 2 * SEGMENT, TARGET, 2)


def test_too_few_documents():
  with pytest.raises(ValueError, match='Fewer than two documents have 25 tok'):
    make_probes(documents(), 20, TARGET, 1)


def test_too_many_segments():
  with pytest.raises(ValueError, match='3 segments of 4 tokens are more than'):
    next(iter(probe_losses(tiny.model(), tiny.model(), probes(), SEGMENT, 3)))
