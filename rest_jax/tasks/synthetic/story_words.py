"""The words of the stories: people, things, and ways to say each event."""

PEOPLE = (
  *((name, 'She', 'her') for name in (
    'Ann', 'Mia', 'Eva', 'Lea', 'Zoe', 'Ida', 'Kim', 'Amy', 'Sara', 'Nora',
    'Lily', 'Rosa', 'Jane', 'Emma',
  )),
  *((name, 'He', 'him') for name in (
    'Tom', 'Ben', 'Max', 'Leo', 'Sam', 'Dan', 'Jim', 'Bob', 'Paul', 'Omar',
    'Luke', 'Noah', 'Ivan', 'Hugo',
  )),
)  # fmt: skip
THINGS = (
  'pens', 'books', 'cards', 'coins', 'shells', 'apples', 'eggs', 'stamps',
  'toys', 'balls', 'nuts', 'keys', 'cups', 'hats', 'rocks', 'beads',
)  # fmt: skip
PLANTS = ('roses', 'trees', 'herbs', 'tulips', 'shrubs', 'ferns')
CONTAINERS = ('boxes', 'bags', 'packs', 'jars')

# Ways to say the start (1 or 2 numbers), each event and the question.
# {n} {m} numbers, {u} unit, {N} name, {P} He or She, {O} him or her,
# {W} another person, {h} a container, {t} another kind of thing.
WORDING = {
  'things': {
    1: ('{N} has {n} {u}.', '{N} owns {n} {u}.', '{N} starts with {n} {u}.'),
    2: ('{N} has {n} {h} of {m} {u}.', '{N} buys {n} {h} with {m} {u} each.'),
    'add': ('{P} finds {n} more.', '{P} gets {n} more.', '{P} buys {n} more.'),
    'take': ('{P} loses {n}.', '{P} gives away {n}.', '{P} sells {n}.'),
    'packs': ('{P} buys {n} {h} of {m}.', '{P} gets {n} {h} with {m} each.'),
    'each': ('{P} gives {m} to each of {n} friends.',
             '{n} friends take {m} each.'),
    'times': ('{W} has {n} times as many.', '{W} owns {n} times as many.'),
    'share': ('{P} puts them in {n} equal piles.',),
    'ask': ('How many {u} does {N} have now?', 'How many {u} has {N} now?'),
    'ask share': ('How many {u} are in each pile?',),
  },
  'money': {
    1: ('{N} has {n} dollars.', '{N} earns {n} dollars.'),
    2: ('{N} works {n} hours for {m} dollars each.',
        '{N} sells {n} {t} for {m} dollars each.'),
    'add': ('{P} gets {n} dollars.', '{P} earns {n} dollars more.'),
    'take': ('{P} spends {n} dollars.', '{P} pays {n} dollars.'),
    'packs': ('{P} sells {n} {t} for {m} dollars each.',
              '{P} earns {m} dollars on each of {n} days.'),
    'each': ('{P} buys {n} {t} for {m} dollars each.',
             '{P} pays {m} dollars to each of {n} people.'),
    'times': ('{W} has {n} times as much.',),
    'share': ('{P} splits it among {n} children.',),
    'ask': ('How many dollars does {N} have now?',
            'How many dollars are left for {N}?'),
    'ask share': ('How many dollars does each child get?',),
  },
  'bus': {
    1: ('A bus has {n} people.', '{n} people are on a bus.'),
    2: ('A bus has {n} rows of {m} people.',
        '{n} groups of {m} people are on a bus.'),
    'add': ('{n} get on.', '{n} more people come in.'),
    'take': ('{n} get off.', '{n} people leave.'),
    'packs': ('At each of {n} stops {m} get on.',
              '{n} groups of {m} come in.'),
    'each': ('At each of {n} stops {m} get off.', '{n} groups of {m} leave.'),
    'times': ('A train has {n} times as many.',),
    'share': ('They form {n} equal teams.',),
    'ask': ('How many people are there now?', 'How many people is that?'),
    'ask share': ('How many people are in each team?',),
  },
  'garden': {
    1: ('A garden has {n} {u}.', '{N} plants {n} {u}.'),
    2: ('A garden has {n} rows of {m} {u}.', '{N} plants {n} rows of {m} {u}.'),
    'add': ('{n} more grow.', '{n} are added.'),
    'take': ('{n} die.', '{n} are cut.', '{n} are removed.'),
    'packs': ('{n} rows of {m} are added.', 'In {n} weeks {m} grow each week.'),
    'each': ('{n} rows of {m} are cut.', 'In {n} weeks {m} die each week.'),
    'times': ('A park has {n} times as many.',),
    'share': ('They stand in {n} equal beds.',),
    'ask': ('How many {u} are there now?', 'How many {u} is that?'),
    'ask share': ('How many {u} are in each bed?',),
  },
}  # fmt: skip
