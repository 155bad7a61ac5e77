"""QMSum's own format: turns, general and specific queries."""

from official_files import meeting, write_lines, write_qmsum, write_scrolls
import pytest

from lloco_jax.data.qmsum import read_qmsum
from lloco_jax.data.scrolls import read_scrolls


def test_meetings_and_queries(tmp_path):
  write_qmsum(tmp_path)
  dataset = read_qmsum(tmp_path)
  general, specific = dataset.splits['train']
  assert (general.question, general.answers) == ('Summarize it.', ('Little.',))
  assert (general.tags, specific.tags) == (('general',), ('specific',))
  assert general.document_ids == specific.document_ids
  (document,) = dataset.documents_of('train')
  assert document.text == '\nAda: Hello.\nAda: Bye.'
  assert set(dataset.splits) == {'train', 'validation'}
  inner = tmp_path / 'data/ALL/jsonl'
  assert read_qmsum(inner, ('test',)).splits['test']
  assert read_qmsum(inner).splits == dataset.splits


def test_a_meeting_is_the_document_of_scrolls(tmp_path):
  write_qmsum(tmp_path / 'own')
  (own,) = read_qmsum(tmp_path / 'own').documents_of('validation')
  write_scrolls(tmp_path, 'qmsum')
  row = {'id': 'x', 'pid': 'x_0', 'output': 'Little.'}
  row['input'] = 'Summarize it.\n\nAda: Hm.'
  write_lines(tmp_path / 'qmsum/validation.jsonl', [row])
  (other,) = read_scrolls(tmp_path, 'qmsum').documents_of('validation')
  assert own.text == other.text


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'meeting_transcripts': [{'speaker': 'A'}]}, "Field 'content' is missing"),
    ({'meeting_transcripts': []}, "Document 'train-1' is empty"),
    ({'general_query_list': [{'query': 'Q'}]}, 'query 1: Field .answer. is m'),
    ({'specific_query_list': None}, "Field 'specific_query_list' is not"),
  ],
)
def test_a_damaged_meeting_is_named(tmp_path, change, message):
  write_lines(tmp_path / 'train.jsonl', [meeting('x'), meeting('y') | change])
  with pytest.raises(ValueError, match=f'train.jsonl, line 2: {message}'):
    read_qmsum(tmp_path)


def test_missing_files_are_told_with_their_address(tmp_path):
  with pytest.raises(FileNotFoundError, match='git clone https://github.com/Y'):
    read_qmsum(tmp_path)
