"""What a made report can state about a place, and how it can be asked."""

import dataclasses

from lloco_jax.data import words


@dataclasses.dataclass(frozen=True)
class Attribute:
  """A property of a place: its possible values, statements and questions.

  A statement names the place (`{name}`) and the value (`{value}`, or
  `{a} {value}` where an article is due); a question names the place only.
  """

  key: str
  values: tuple[str, ...]
  statements: tuple[str, ...]
  questions: tuple[str, ...]


ATTRIBUTES = (
  Attribute(
    'sign',
    words.POOLS['animal'],
    (
      'The sign of {name} shows {a} {value}.',
      '{name} hangs out a sign with {a} {value} on it.',
      'Over the entrance of {name} swings a sign with {a} {value}.',
      'Visitors know {name} by the {value} on its sign.',
      'On its sign {name} carries {a} {value}.',
    ),
    (
      'Which animal is on the sign of {name}?',
      'What animal does the sign of {name} show?',
    ),
  ),
  Attribute(
    'door',
    words.POOLS['colour'],
    (
      'The door of {name} is painted {value}.',
      '{name} has {a} {value} front door.',
      'At {name} the front door is {value}.',
      'Anyone who comes to {name} sees first its {value} door.',
      'The people of {name} have always kept its door {value}.',
    ),
    (
      'What colour is the door of {name}?',
      'In which colour is the door of {name} painted?',
    ),
  ),
  Attribute(
    'crop',
    words.POOLS['crop'],
    (
      'The fields of {name} are planted with {value}.',
      '{name} grows mostly {value}.',
      'The main crop of {name} is {value}.',
      'Most of the land at {name} is given over to {value}.',
      'This year {name} has planted nothing but {value}.',
    ),
    (
      'What is the main crop of {name}?',
      'Which crop does {name} grow?',
    ),
  ),
  Attribute(
    'town',
    words.POOLS['town'],
    (
      '{name} ships its goods to {value}.',
      'Everything made at {name} is sent to {value}.',
      'The goods of {name} leave every week for {value}.',
      'The buyers of what {name} makes are all in {value}.',
      'A standing contract obliges {name} to send its goods to {value}.',
    ),
    (
      'To which town does {name} ship its goods?',
      'Where are the goods of {name} sent?',
    ),
  ),
  Attribute(
    'keeper',
    words.POOLS['keeper'],
    (
      'The keeper of {name} is called {value}.',
      '{name} is looked after by a keeper named {value}.',
      'A keeper by the name of {value} lives at {name}.',
      'The present keeper of {name} answers to {value}.',
      'At {name} the keeper is {value}.',
    ),
    (
      'What is the first name of the keeper of {name}?',
      'What is the keeper of {name} called?',
    ),
  ),
  Attribute(
    'builder',
    words.POOLS['builder'],
    (
      '{name} was built by a man named {value}.',
      'The builder of {name} was a certain {value}.',
      'It was old {value} who built {name}.',
      'The plans of {name} are signed by its builder, {value}.',
      'The walls of {name} were raised by the builder {value}.',
    ),
    (
      'Who built {name}?',
      'What is the surname of the builder of {name}?',
    ),
  ),
  Attribute(
    'shed',
    words.POOLS['tool'],
    (
      'In the shed of {name} there is {a} {value}.',
      '{name} keeps {a} {value} in its shed.',
      'The shed at {name} holds little more than {a} {value}.',
      'The only thing of use in the shed of {name} was {a} {value}.',
      'The people of {name} lend out {a} {value} from their shed.',
    ),
    (
      'What is kept in the shed of {name}?',
      'Which object is in the shed of {name}?',
    ),
  ),
  Attribute(
    'floor',
    words.POOLS['found'],
    (
      'Workmen found {a} {value} under the floor of {name}.',
      'Under the floor of {name} lay {a} {value}.',
      'When the floor of {name} was lifted, {a} {value} came to light.',
      '{name} gave up {a} {value} from beneath its floor.',
      'The floor of {name} had been hiding {a} {value}.',
    ),
    (
      'What was found under the floor of {name}?',
      'Which object lay under the floor of {name}?',
    ),
  ),
  Attribute(
    'roof',
    words.POOLS['roof'],
    (
      'The roof of {name} is made of {value}.',
      '{name} is roofed with {value}.',
      'For the roof of {name} they chose {value}.',
      'A roof of {value} covers {name}.',
      'At {name} the roof was renewed in {value}.',
    ),
    (
      'What is the roof of {name} made of?',
      'Which material covers the roof of {name}?',
    ),
  ),
  Attribute(
    'hearth',
    words.POOLS['carved'],
    (
      'The word {value} is carved above the hearth of {name}.',
      'Carved over the hearth of {name} is the word {value}.',
      '{name} has the word {value} cut into its hearth.',
      'Above the hearth at {name} one reads the single word {value}.',
      'The hearth of {name} bears one word, {value}.',
    ),
    (
      'Which word is carved above the hearth of {name}?',
      'What word does the hearth of {name} bear?',
    ),
  ),
  Attribute(
    'cellar',
    words.POOLS['cellar'],
    (
      'The cellar of {name} is used to store {value}.',
      '{name} stores {value} in its cellar.',
      'Below {name} the cellar is full of {value}.',
      'The cellar at {name} was stacked with {value}.',
      'Most of the cellar of {name} is taken up by {value}.',
    ),
    (
      'What is stored in the cellar of {name}?',
      'What fills the cellar of {name}?',
    ),
  ),
  Attribute(
    'former use',
    words.POOLS['former'],
    (
      '{name} was once {a} {value}.',
      'In earlier times {name} served as {a} {value}.',
      'Before its present use {name} was {a} {value}.',
      'The building now called {name} began as {a} {value}.',
      'Old plans mark {name} as {a} {value}.',
    ),
    (
      'What was {name} in earlier times?',
      'What was {name} before its present use?',
    ),
  ),
  Attribute(
    'owner',
    words.POOLS['owner'],
    (
      'The last owner of {name} was {a} {value}.',
      '{name} last belonged to {a} {value}.',
      'Until the sale {name} was owned by {a} {value}.',
      'The deeds of {name} give {a} {value} as its last owner.',
      'As its last owner {name} had {a} {value}.',
    ),
    (
      'What was the profession of the last owner of {name}?',
      'What did the last owner of {name} do for a living?',
    ),
  ),
  Attribute(
    'painting',
    words.POOLS['painting'],
    (
      'The painting in the parlour of {name} shows {a} {value}.',
      '{name} has in its parlour a painting of {a} {value}.',
      'In the parlour of {name} hangs a painting of {a} {value}.',
      'A large painting of {a} {value} fills one parlour wall at {name}.',
      'The parlour at {name} is known for its painting of {a} {value}.',
    ),
    (
      'What does the painting in the parlour of {name} show?',
      'What is the subject of the painting at {name}?',
    ),
  ),
  Attribute(
    'engine',
    words.POOLS['country'],
    (
      'The engine at {name} came from {value}.',
      '{name} bought its engine in {value}.',
      'The engine of {name} was built in {value}.',
      'An engine brought over from {value} stands behind {name}.',
      'The plate on the engine of {name} says that it was made in {value}.',
    ),
    (
      'From which country did the engine of {name} come?',
      'In which country was the engine of {name} made?',
    ),
  ),
  Attribute(
    'ledgers',
    words.POOLS['language'],
    (
      'The ledgers of {name} are written in {value}.',
      '{name} keeps its ledgers in {value}.',
      'All the ledgers at {name} are in {value}.',
      'Whoever wants to read the ledgers of {name} must know {value}.',
      'The ledgers at {name} turned out to be in {value}.',
    ),
    (
      'In which language are the ledgers of {name} written?',
      'Which language is used in the ledgers of {name}?',
    ),
  ),
  Attribute(
    'table',
    words.POOLS['dish'],
    (
      'Guests at {name} are always served {value}.',
      'The guests of {name} speak well of its {value}.',
      'The table at {name} offers {value} and little else.',
      '{name} feeds its guests on {value}.',
      'At {name} every guest is given {value}.',
    ),
    (
      'What are guests served at {name}?',
      'Which food does {name} give its guests?',
    ),
  ),
)
