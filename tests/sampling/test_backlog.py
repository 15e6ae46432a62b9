"""What waits is taken in order, once, and by the program that serves it."""

import itertools
import random

from rest_jax.sampling import backlog
from rest_jax.sampling.requests import Request


def taken_by(requests, program, most, choose):
  """Every (problem, sample) in the order in which it is taken."""
  waiting = backlog.Backlog(
    requests, program, most, groups=choose.randint(1, 9), lanes=2
  )
  order = []
  while (serves := waiting.next_program()) is not None:
    while (work := waiting.take(serves, waiting.share())) is not None:
      assert program(work.request) == serves
      order += [
        (work.request.problem_id, work.first + i) for i in range(work.number)
      ]
      if choose.random() < 0.2:
        break
  return order, waiting.refused


def test_every_sample_is_taken_once_whatever_the_order_of_taking():
  draw = random.Random(0)
  for _ in range(50):
    requests = [
      Request(
        f'p{i}', [0] * draw.randint(1, 6), sorted(draw.sample(range(9), 5))
      )
      for i in range(20)
    ]
    order, refused = taken_by(
      requests,
      lambda r: None if len(r.prompt) == 6 else len(r.prompt) % 3,
      draw.randint(1, 8),
      draw,
    )
    served = [r for r in requests if len(r.prompt) < 6]
    assert sorted(order) == sorted(
      (r.problem_id, index) for r in served for index in r.sample_indices
    )
    assert refused == [r for r in requests if len(r.prompt) == 6]


def test_one_program_takes_requests_in_their_order_and_not_before_it_must():
  pulled = []

  def each():
    for i in itertools.count():
      pulled.append(i)
      yield Request(f'p{i}', [0], range(2))

  waiting = backlog.Backlog(each(), lambda r: 'one', most=3, groups=4, lanes=2)
  serves = waiting.next_program()
  taken = [
    waiting.take(serves, waiting.share()).request.problem_id for _ in range(10)
  ]
  assert taken == [f'p{i}' for i in range(10)]
  assert len(pulled) <= 10 + 3


def test_a_program_is_not_starved_by_requests_of_another():
  """It ends when too many of the others wait, and they are served then."""
  requests = [
    Request(f'p{i}', [0] * (1 + (i > 2)), range(1)) for i in range(99)
  ]
  waiting = backlog.Backlog(
    requests, lambda r: len(r.prompt), most=5, groups=4, lanes=2
  )
  assert waiting.next_program() == 1
  taken = 0
  while waiting.take(1, waiting.share()) is not None:
    taken += 1
  assert taken == 3
  assert waiting.next_program() == 2


def test_towards_the_end_no_group_goes_on_alone():
  """The last works are cut, so that all groups end at about the same time."""
  requests = [Request(f'p{i}', [0], range(16)) for i in range(12)]
  waiting = backlog.Backlog(
    requests, lambda r: 'one', most=8, groups=4, lanes=2
  )
  serves = waiting.next_program()
  free_at, taken = [0] * 4, []  # rounds of two samples, each of one time
  while (work := waiting.take(serves, waiting.share())) is not None:
    group = free_at.index(min(free_at))
    free_at[group] += work.number // 2
    taken += [
      (work.request.problem_id, work.first + i) for i in range(work.number)
    ]
  assert sorted(taken) == sorted(
    (r.problem_id, i) for r in requests for i in range(16)
  )
  assert max(free_at) - min(free_at) <= 1


def test_as_many_works_as_groups_are_not_cut():
  """Each group has one, and refills its lanes with the samples of it."""
  requests = [Request(f'p{i}', [0], range(15 + i % 2)) for i in range(4)]
  waiting = backlog.Backlog(
    requests, lambda r: 'one', most=8, groups=4, lanes=2
  )
  serves, share = waiting.next_program(), waiting.share()
  numbers = [waiting.take(serves, share).number for _ in range(4)]
  assert numbers == [15, 16, 15, 16]
  assert waiting.take(serves, waiting.share()) is None
