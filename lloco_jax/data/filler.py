"""The text between the facts of a made report, from a small grammar.

A template is a sentence with slots (`[slot]`), each filled from a list whose
entries may hold slots themselves. No word of it is ever a value of
`lloco_jax.data.words.POOLS`, so a value in a report is always a stated fact.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import random
import re
from typing import TypeVar

Item = TypeVar('Item')
_SLOT = re.compile(r'\[(\w+)\]')


@dataclasses.dataclass(frozen=True)
class Kind:
  """A kind of report: what its titles, headings and sentences are made of."""

  titles: tuple[str, ...]
  openings: tuple[str, ...]
  headings: tuple[str, ...]
  sentences: tuple[str, ...]
  slots: Mapping[str, tuple[str, ...]]


def pick(rng: random.Random, items: Sequence[Item]) -> Item:
  """One of `items`; the same on every Python, which `choice` does not say."""
  return items[int(rng.random() * len(items))]


def expand(
  rng: random.Random, template: str, slots: Mapping[str, tuple[str, ...]]
) -> str:
  """Fills every slot of `template`, and the slots of what fills it."""
  return _SLOT.sub(
    lambda found: expand(rng, pick(rng, slots[found[1]]), slots), template
  )


_SLOTS = {
  'year': tuple(str(year) for year in range(1861, 1934)),
  'area': (
    'the northern parishes',
    'the upper valley',
    'the coastal district',
    'the western hills',
    'the old county',
    'the border country',
    'the eastern marshes',
    'the southern slopes',
    'the great plain',
  ),
  'side': (
    'northern',
    'southern',
    'eastern',
    'western',
    'upper',
    'lower',
    'outer',
    'inner',
  ),
  'when': (
    'in the early hours',
    'towards noon',
    'late in the afternoon',
    'on the second day',
    'before the light failed',
    'soon after sunrise',
    'during the third week',
    'on the way back',
    'at the end of the month',
    'shortly before dusk',
    'towards evening',
    'on the following Tuesday',
  ),
  'weather': (
    'a thin drizzle',
    'a dry wind',
    'low cloud',
    'a hard frost',
    'thick fog',
    'steady rain',
    'a mild breeze',
    'sudden hail',
    'a warm haze',
  ),
  'way': (
    'the main road',
    'the lower track',
    'the towpath',
    'the footpath',
    'the high lane',
    'the turnpike',
    'the causeway',
    'the path along the ditch',
  ),
  'state': (
    'in fair order',
    'badly rutted',
    'dry underfoot',
    'narrow in places',
    'under repair',
    'better than expected',
    'soft after the thaw',
    'overgrown with weeds',
    'passable with care',
    'hardly used any more',
  ),
  'distance': (
    'two miles',
    'half a mile',
    'some forty yards',
    'nearly a furlong',
    'a short mile',
    'three or four miles',
  ),
  'people': (
    'the neighbours',
    'the tenants',
    'the older villagers',
    'the parish council',
    'the hired hands',
    'the local committee',
    'those who live nearby',
  ),
  'mood': (
    'friendly',
    'cautious',
    'patient with questions',
    'slow to answer',
    'glad of the company',
    'eager to help',
    'somewhat puzzled',
  ),
  'topic': (
    'the price of labour',
    'the state of the drains',
    'the new toll',
    'the long winter',
    'a quarrel about a boundary',
    'the repair of the sluice',
    'the coming election',
    'a dispute over grazing',
    'the missing milestones',
  ),
  'record': (
    'the notes',
    'the sketches',
    'the returns',
    'the figures',
    'the copies',
    'the measurements',
    'the drawings',
    'the first drafts',
  ),
  'done': (
    'were checked twice',
    'were copied out again',
    'had to be corrected',
    'agreed with those of last year',
    'were put in order',
    'were compared with older ones',
    'were kept dry with difficulty',
  ),
  'thing': (
    'the fence',
    'the ditch',
    'the gatepost',
    'the retaining wall',
    'the stile',
    'the culvert',
    'the hedge',
    'the embankment',
    'the milestone',
    'the sluice',
  ),
  'fault': (
    'had slipped a little',
    'wanted attention',
    'was sound',
    'had been patched',
    'leaned to one side',
    'was newer than it looked',
    'had been moved at some time',
  ),
}

_SENTENCES = (
  '[party] met with [weather] [when], and the work went slowly.',
  '[when], [weather] made it hard to see far.',
  'After [weather] [when], the ground was heavy going.',
  '[way] was found to be [state].',
  '[way], [state], was taken without incident.',
  'For [distance] beyond the last house, [way] was [state].',
  '[party] followed [way] for [distance] [when].',
  '[people] were [mood] and spoke at length about [topic].',
  'There was some talk of [topic], which need not be repeated here.',
  '[when], [people] came to ask about [topic].',
  'On [topic], [people] had little to add.',
  '[party] found [people] [mood].',
  '[record] made [when] [done].',
  'Because of [weather], [record] [done].',
  '[record] for the [side] part [done].',
  '[thing] on the [side] boundary [fault].',
  '[thing] beside [way] [fault], and this was pointed out to [people].',
  '[thing] seen [when] [fault].',
  'A second visit [when] changed nothing in [record].',
  'It was agreed with [people] to leave [topic] for another occasion.',
  'Nothing else on the [side] side called for comment.',
  'No charge was made by [people] for the use of [way].',
  '[party] lost about an hour [when] through [weather].',
  'What [people] said of [topic] could not be confirmed.',
  'The distance by [way] was taken as [distance].',
  '[people] had not seen [thing] in such a condition before.',
  'Where [way] bends, [thing] [fault].',
  '[thing] was paid for by [people] some years ago.',
  '[way] was closed [when] on account of [weather].',
  '[party] rested [when] and went over [record].',
  'The [side] boundary was walked [when], for [distance] and no farther.',
  '[people] offered to lend a hand with [record], which was declined.',
  'It took [distance] of [way], [state], to come back to [thing].',
  'Since [topic] came up, [people] have been [mood].',
  'A drawing of [thing] is among [record].',
  '[party] asked [people] about [topic] [when].',
  'Neither [people] nor [party] could account for this.',
)

# `{name}` is the place that the next fact is about.
ARRIVALS = (
  '[party] reached {name} [when].',
  'It is [distance] from [way] to {name}.',
  '[way] to {name} was [state].',
  '[people] showed the way to {name}.',
  'At {name} [people] were [mood].',
  '[when], [party] turned aside to see {name}.',
  'A visit to {name} followed [when].',
  'The approach to {name} is [state].',
)

KINDS = {
  'survey': Kind(
    titles=(
      'A Survey of the Places of [area], [year]',
      'Survey of [area], Made in [year]',
      'Places and Buildings of [area]: Survey of [year]',
    ),
    openings=(
      'This survey covers the places of [area] as they stood in [year].',
      'The following pages set out what was found in [area] in [year].',
      'In the spring of [year] a survey of [area] was ordered.',
    ),
    headings=(
      'The [side] sheet',
      'Places on the [side] line',
      'Along [way]',
      'Triangles of the [side] line',
      'Further remarks on the [side] part',
    ),
    sentences=(
      'The baseline was measured again [when], with a difference of inches.',
      'A new flagpole was set up [distance] from [way].',
      'The [side] sheet was drawn [when] and shown to [people].',
      'Two angles on the [side] line had to be taken again after [weather].',
      'Names were written down as [people] pronounced them.',
      'Heights on the [side] side are given to the nearest foot.',
    ),
    slots={
      'party': (
        'the surveyors',
        'the survey party',
        'the two assistants',
        'the men on the line',
      ),
    },
  ),
  'inspection': Kind(
    titles=(
      'Report on the Inspection of [area], [year]',
      'Inspection of Premises in [area], [year]',
      'Annual Report of the Inspectors for [area], [year]',
    ),
    openings=(
      'The inspectors visited [area] in [year] and report as follows.',
      'This is the report of the inspection of [area] in [year].',
      'As the act requires, the premises of [area] were inspected in [year].',
    ),
    headings=(
      'Premises on the [side] circuit',
      'The [side] quarter',
      'Visits made along [way]',
      'Observations on the [side] district',
      'Matters left open in the [side] quarter',
    ),
    sentences=(
      'A notice was left with [people] [when].',
      'The complaint about [topic] was found to be without ground.',
      'Fire precautions in the [side] quarter were thought sufficient.',
      'The certificate for the [side] circuit was renewed [when].',
      'No fee is owed for the inspection made [when].',
      'The inspectors remind [people] of the rule about [topic].',
    ),
    slots={
      'party': (
        'the inspectors',
        'the deputy inspector',
        'both members of the board',
        'the visiting officers',
      ),
    },
  ),
  'expedition': Kind(
    titles=(
      'Journal of an Expedition through [area], [year]',
      'The Expedition to [area] in [year]: A Report to the Society',
      'Notes of a Journey in [area], [year]',
    ),
    openings=(
      'The expedition left for [area] in the first days of [year].',
      'What follows is the journal of our journey through [area] in [year].',
      'The society asked in [year] for an account of [area].',
    ),
    headings=(
      'The [side] stage of the journey',
      'A week in the [side] country',
      'By way of [way]',
      'Across to the [side] side',
      'Rest and repairs on the [side] stage',
    ),
    sentences=(
      'We made our bivouac [distance] from [way].',
      'The packs were weighed again [when] and made lighter.',
      'Our guide left us [when] and was replaced by one of [people].',
      'Two of us were unwell [when], but recovered quickly.',
      'We wrote our letters [when] and gave them to [people].',
      'Supplies for the [side] stage were bought from [people].',
    ),
    slots={
      'party': (
        'the expedition',
        'our party',
        'the advance party',
        'three of our number',
      ),
    },
  ),
  'estate': Kind(
    titles=(
      'Report to the Trustees on the Estate in [area], [year]',
      'The Estate and Its Holdings in [area], [year]',
      'Holdings in [area]: The Report of the Agent for [year]',
    ),
    openings=(
      'The trustees asked in [year] for a report on the holdings in [area].',
      'This report describes the holdings in [area] at the close of [year].',
      'The estate in [area] was visited in full in the course of [year].',
    ),
    headings=(
      'The [side] holdings',
      'Leases on the [side] side',
      'Holdings reached by [way]',
      'Repairs on the [side] estate',
      'Particulars of the [side] holdings',
    ),
    sentences=(
      'Rent for the [side] holdings was paid [when].',
      'A lease on the [side] side falls in next year.',
      'The agent discussed [topic] with [people] [when].',
      'An allowance was made to [people] on account of [weather].',
      'The valuation of the [side] holdings was finished [when].',
      'No arrears were found when the [side] accounts were closed.',
    ),
    slots={
      'party': (
        'the agent',
        'the trustees',
        'the valuers',
        'the steward and the agent',
      ),
    },
  ),
}

SENTENCES = {name: _SENTENCES + kind.sentences for name, kind in KINDS.items()}
SLOTS = {name: {**_SLOTS, **kind.slots} for name, kind in KINDS.items()}

# Said before a fact now and then, so that facts do not all begin alike.
LEADS = (
  'By all accounts, ',
  'It was noted that ',
  'So far as could be learned, ',
  'It should be recorded that ',
  'We are told that ',
  'On inquiry it appeared that ',
  'There is little doubt that ',
)
