r"""Which answers say the same: by hand, and against independent arithmetic."""

import cmath
import fractions
import math
import random
from decimal import Decimal

import pytest

from rest_jax.rewards.math import math_answer, sample_points, trigonometry

# reference, answer
EQUAL = r"""
\frac12 ~ .5
\frac12 ~ 0.50
\frac12 ~ \frac{3}{6}
\frac12 ~ 1/2
-\frac{7}{4} ~ \frac{-7}{4}
1/3 ~ 0.\overline{3}
6\frac34 ~ \frac{27}{4}
6\frac34 ~ 6.75
6 3/4 ~ 27/4
-1\frac23 ~ -\frac53
300000000 ~ 3 \times 10^8
50\% ~ 50
\$5 ~ 5\text{ dollars}
\$32{,}348 ~ 32348
-\$0.50 ~ \$-0.5
120^\circ ~ 120
120 ~ 120 degrees
5 ~ 5\text{ cm}
20\text{ sq. units} ~ 20 \text{ square units}
1{,}008{,}016 ~ 1008016
1,\!000 ~ 1000
x=5 ~ 5
5 ~ x = 5
5 ~ 5 = x
5 ~ f(2) = 5
5 ~ P(2) = 5
30 ~ \angle ABC = 30^\circ
8 ~ \text{Area} = 8
(3,4) ~ (x, y) = (3, 4)
3,5 ~ 5, 3
3,5 ~ \{5, 3\}
3,5 ~ 5 \text{ and } 3
-2 \text{ or } -12 ~ -12, -2
2,-2 ~ x = 2, -2
2,-2 ~ x = \pm 2
1\pm\sqrt{19} ~ 1+\sqrt{19}, 1-\sqrt{19}
\{1\pm\sqrt{5},-2\} ~ -2, 1-\sqrt5, 1+\sqrt5
70,110 ~ 70, 110
AB=9, CD=4 ~ CD=4, AB=9
5 ~ \{5\}
(1,2) ~ \left( 1, \frac{4}{2} \right)
(a+b,b] ~ (b+a,b]
(-\infty,5) ~ x < 5
x<5 ~ 5 > x
[-2,3) ~ -2 \le x < 3
[-2,7] ~ x \in [-2,7]
(-\infty,1)\cup(3,\infty) ~ (3,\infty)\cup(-\infty,1)
(-\infty,1)\cup(3,\infty) ~ x<1 \text{ or } x>3
\mathbb{R} ~ (-\infty,\infty)
\begin{pmatrix}1\\-2\end{pmatrix} ~ \begin{bmatrix} 1 \\ -2 \\ \end{bmatrix}
2516_8 ~ 2516_{8}
24_{10} ~ 24
5:6 ~ 5\!:\!6
05\!:\!00 ~ 5:00
8\!:\!34 \text{ p.m.} ~ 8:34 pm
y=2x+3 ~ 2x+3
2x+3 ~ y=2x+3
y=2x+3 ~ 2x-y+3=0
34x+45y-20z+100=0 ~ -34x-45y+20z-100=0
x^2+y^2=13 ~ 2x^2+2y^2-26=0
\text{(A)} ~ A
\text{(A)} ~ (A)
\text{Evelyn} ~ evelyn
\text{odd} ~ odd
\mbox{four} ~ 4
(x+1)^2 ~ x^2+2x+1
3(\frac12)x ~ \frac{3x}{2}
(x^2)^3 ~ x^6
x-y ~ -(y-x)
\frac{x+1}{x-1} ~ \frac{-x-1}{1-x}
\frac{x^2-1}{x-1} ~ x+1
\frac{2x-7}{(x+1)(x-2)} ~ \frac{2x-7}{x^2-x-2}
-\frac{1}{4m} ~ \frac{-1}{4m}
2^{n-1} ~ \frac{2^n}{2}
3^x-2^x ~ -2^x+3^x
\sqrt{ab} ~ \sqrt{a}\sqrt{b}
30p\sqrt{p} ~ 30\sqrt{p^3}
\sqrt{x^2} ~ |x|
\sqrt{x^2-10x+25} ~ |x-5|
|x-1000000| ~ |1000000-x|
|x^2+1| ~ x^2+1
|x-y| ~ |y-x|
\sqrt{x^2+2xy+y^2} ~ |x+y|
\sqrt[3]{(x-7)^3} ~ x-7
|\sin x| ~ \sqrt{1-\cos^2 x}
\frac{x-1}{|x-1|} ~ \frac{|x-1|}{x-1}
\sqrt{x^2+1}+x ~ \frac{1}{\sqrt{x^2+1}-x}
6\sqrt2 ~ \sqrt{72}
6\sqrt2 ~ \sqrt{50}+\sqrt{2}
\frac{1}{\sqrt2} ~ \frac{\sqrt{2}}{2}
2+\sqrt3 ~ \frac{1}{2-\sqrt3}
2\sqrt[3]{2} ~ \sqrt[3]{16}
12^{1/7} ~ \sqrt[7]{12}
2\sqrt2 ~ 2^{3/2}
\sqrt2 ~ 2^{0.5}
0.00001 ~ 10^{-5}
0.00001 ~ 1\times10^{-5}
2^{10} ~ 4^5
2^{10} ~ 1024
x^2-6x+13 ~ (x-3)^2+4
(x+1)(x-2) ~ x^2-x-2
30p\sqrt{p} ~ 30p \cdot p^{1/2}
2(1+i) ~ 2+2i
\frac12+\frac i2 ~ \frac{1+i}{2}
e^{16}-1 ~ \exp(16)-1
e ~ \exp(1)
\exp(2) ~ e^2
\log_2 3 ~ \frac{\ln 3}{\ln 2}
i\sqrt5 ~ \sqrt{-5}
x^{20000} ~ (x^{10000})^2
\sqrt{1009}\sqrt{1013} ~ \sqrt{1022117}
2500\cdot2499! ~ 2500!
\frac{25\pi}{2} ~ \frac{25}{2}\pi
\tan 15^\circ ~ 2-\sqrt3
\sin^2 t ~ 1-\cos^2 t
2\sin b\cos a ~ 2\cos a \sin b
3 \sec \frac12\theta ~ 3\sec\frac{\theta}{2}
\ln 2 ~ -\ln\frac12
f(4-x) ~ f(-x+4)
2^{100}-2 ~ 2(2^{99}-1)
\frac{1}{2004!} ~ \frac{2005}{2005!}
0.56 = 56\% ~ 0.56
5 ~ 5\text{ percent}
5\text{ pairs} ~ 5
5\text{ pairs} ~ 5\text{ pairs}
5\text{ gizmos} ~ 5
5\text{ gizmos} ~ 5\text{ gizmos}
5 ~ 5\text{ cm squared}
5 ~ 5\text{ square units}
5 ~ 5\text{ miles per hour}
5\text{ mph} ~ 5\text{ miles per hour}
5 ~ \$5\text{ per hour}
5 ~ 5\text{ cups of flour}
5 ~ 5 ways
5 ~ 5\text{ different ways}
18\text{ ways} ~ 18\text{ integers}
5 ~ 5\mathrm{~cm}
5 ~ 5\mathrm{cm}^2
5 ~ 5\text{ cm}^2
5 ~ 5\,\text{cookies}
5 ~ 5\text{ squares}
3 ~ \color{red}{\large 3}
3 ~ \large 3
3 ~ \color{blue}{3}
3 ~ \color{blue} 3
3 ~ {\color{red} 3}
3 ~ \textcolor{red}{3}
3 ~ \underline{3}
3 ~ \underline{\textbf{3}}
3 ~ \textbf{\underline{3}}
3 ~ \mathbf{3}
3 ~ \mathbf 3
3 ~ \boldsymbol{3}
3 ~ \displaystyle 3
3 ~ \colorbox{yellow}{$3$}
3 ~ \Large{3}
3 ~ {\Huge 3}
3 ~ \textbf{3}
3 ~ **3**
3 ~ \color[rgb]{1,0,0}{3}
\frac12 ~ \color{red}{\dfrac{1}{2}}
\frac12 ~ \displaystyle\frac{1}{2}
\frac{\pi}{2} ~ \frac{\color{red}{\pi}}{2}
x+1 ~ \underline{x}+1
\text{Evelyn} ~ \textbf{Evelyn}
\text{Evelyn} ~ \underline{\text{Evelyn}}
\mathbb{R} ~ \mathbb R
\mathbb{R} ~ \R
\mathbb{R} ~ \Bbb{R}
\mathbb{R} ~ (-\infty,\infty)
\mathbb{Z} ~ \mathbb Z
\emptyset ~ \varnothing
\emptyset ~ \{\}
\emptyset ~ \{ \}
\emptyset ~ ∅
\begin{pmatrix}1\\2\end{pmatrix} ~ \left(\begin{array}{c}1\\2\end{array}\right)
\begin{pmatrix}1\\2\end{pmatrix} ~ \left[\begin{array}{r}1\\2\end{array}\right]
\begin{vmatrix}1\\2\end{vmatrix} ~ \left|\begin{array}{c}1\\2\end{array}\right|
\begin{pmatrix}1\\2\end{pmatrix} ~ \left(\begin{matrix}1\\2\end{matrix}\right)
1e-05 ~ 0.00001
1e-05 ~ 10^{-5}
1e-05 ~ 1\times10^{-5}
1e-05 ~ 1e-05
1e+22 ~ 10^{22}
1.5e-07 ~ 0.00000015
2e-3 ~ 2e-3
e^{2^{20000}} ~ e^{2^{20000}}
5 ~ \text{\$5}
10\sqrt2 ~ 10√2
x^2 ~ x²
"""
DIFFERENT = r"""
1 ~ 1 \text{ or } 2
1 ~ 1 or 2
1 ~ 1 \text{ and } 2
5 ~ 4,5
5 ~ [4,6]
5 ~ \pm 5
5 ~ x=4=5
5 ~ x=5=5
5 ~ 5=5
0 ~ 1=2
5 ~ \text{not } 5
5 ~ \text{about } 5
5 ~ \text{between 4 and 6}
5 ~ 5\text{ million}
5 ~ 2+3
7 ~ -(-7)
5 ~ 7^0+4
5 ~ 5\cdot1
36\pi ~ 6^2\pi
-16 ~ (-144)\div 9
0.4 ~ 2.4 \div 6
3 ~ \frac{1}{31} \div \frac{1}{93}
6 ~ 36^{10} \div 6^{19}
7 ~ (7^{-1})^{-1}
13225 ~ 115^2
20 ~ (2-2i)(5+5i)
-11+27i ~ (5-3i)(-4+3i)
12 ~ (9-4i)-(-3-4i)
-2-14i ~ -3(1+4i)+i(-2-i)
1+2i ~ \frac{-3+4i}{1+2i}
-128-128\sqrt{3}i ~ (-1+i\sqrt{3})^8
i ~ i^5+i^{-25}+i^{45}
5i ~ 2i+3i
-1 ~ (-1)^{1001}
-1 ~ e^{\pi i}
\frac25 ~ \frac{0.\overline{3}}{0.8\overline{3}}
5 ~ 2+3e^0
5 ~ x+5-x
5 ~ 25^{0.5}
4 ~ 8^{2/3}
169 ~ (\sqrt[3]{13})^6
54 ~ (\sqrt{6}+\sqrt{24})^2
\frac14 ~ (\frac{1}{4})^{n+1} \cdot 2^{2n}
1 ~ \frac{\csc \theta}{\sin \theta}-\frac{\cot \theta}{\tan \theta}
\cos 13^\circ ~ \sin 17^\circ+\sin 43^\circ
8x-1 ~ (3x-8)+(5x+7)
\frac{8t}{3} ~ \frac{24t^3}{15t^4}\cdot\frac{5t^8}{3t^6}
36x\sqrt{35x} ~ \sqrt{60x}\cdot\sqrt{12x}\cdot\sqrt{63x}
8\pi ~ 5\pi+3\pi
x^2 ~ \frac{x^3}{x}
\frac12+\frac{\sqrt3}{2}i ~ e^{i\pi/3}
-1 ~ i^2
2i ~ (1+i)^2
\frac{1+i}{2} ~ \frac{1}{1-i}
1024 ~ 2^{10}
7 ~ 3 + 4
6 ~ 2\cdot3
2 ~ \sqrt4
\frac34 ~ 1-\frac14
70 ~ \binom84
120 ~ 5!
3 ~ \log_2 8
\frac{\sqrt3}{2} ~ \sin 60^\circ
5 ~ |-5|
5 ~ 2x=10
x=5 ~ 2x=10
7 ~ a+b=7
\pm 2 ~ x^2=4
5050 ~ \sum_{k=1}^{100} k
\frac13 ~ \int_0^1 x^2 dx
2 ~ \lim_{x\to2} x
2 ~ \max(1,2)
(1,2) ~ \max(1,2)
5 ~ \lfloor 5 \rfloor
5 ~ \sum 5
5 ~ \not 5
x ~ \hat{x}
z ~ \overline{z}
2600\cdot2599! ~ 2600!
\frac13 ~ 0.3333
0.001 ~ 0.0018
1000000 ~ 1000050
0.5 ~ 0.5000001
0.0000001 ~ 0.0000002
\sqrt2 ~ 1.41421356237309504880
\pi ~ 3.14159265358979
\pi ~ \frac{22}{7}
\frac{1}{2004!} ~ \frac{1}{2006!}
1/2^{99} ~ 1/2^{98}
\sqrt2 ~ \sqrt2 + 10^{-100}
\sqrt2+\pi ~ \sqrt2+\pi+10^{-50}
e^{\pi\sqrt{163}} ~ 262537412640768744
1-\frac{1}{e} ~ 1+\frac{1}{e}
1-\frac{1}{\mathrm{e}} ~ 1+\frac{1}{\mathrm{e}}
50 ~ 0.5
50\% ~ 0.5
\frac12 ~ 50\%
5 ~ 500
x ~ X
e ~ E
(1,2) ~ (2,1)
(0,1) ~ [0,1)
(0,1] ~ [0,1)
(1,2) ~ 1,2
1,2 ~ (1,2)
1,-2 ~ 1
1,2 ~ 1,2,3
1 ~ 1,1
1,1,2 ~ 1,2,2
(3,4) ~ (y,x)=(3,4)
0,1 ~ 1,000
x<5 ~ x>5
x<5 ~ x\le 5
x=5 ~ y=5
x<5 ~ y<5
5\text{ cm} ~ 5\text{ m}
5\text{ cm} ~ 5\text{ cm}^2
\$5 ~ 5\text{ cents}
18\text{ feet} ~ 18\text{ boxes}
8\!:\!34\text{ a.m.} ~ 8:34\text{ p.m.}
3:4 ~ \frac34
3:4 ~ 6:8
2516_8 ~ 2516_9
2516_8 ~ 2516
2516_8 ~ 1358
6\frac34 ~ \frac{18}{4}
6\frac34 ~ 6\cdot\frac34
6\frac34 ~ 6(\frac34)
3x-y+13=0 ~ 3x+4y+14=0
\begin{pmatrix}1\\2\end{pmatrix} ~ \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} ~ (1,2)
\begin{pmatrix}1&2\\3&4\end{pmatrix} ~ \begin{vmatrix}1&2\\3&4\end{vmatrix}
1,2,\ldots,n ~ 1,3,5,\ldots,2n-1
4 ~ 4\sqrt(2)
x ~ \sqrt{x^2}
|x+5| ~ x+5
|x-3| ~ 3-x
\sqrt{x^2-10x+25} ~ 5-x
|x^2-9| ~ 9-x^2
6x-5 ~ 5x - |x - 5|
x|x| ~ x^2
|(x-5)(x-6)| ~ (x-5)(x-6)
|x-y| ~ x-y
|x^2+y^2-1| ~ x^2+y^2-1
\sqrt{x^2+2xy+y^2} ~ x+y
\arctan(\tan x) ~ x
\sqrt[4]{x^4} ~ x
((x-100)^2)^{1/2} ~ x-100
||x|-3| ~ |x|-3
|\sin x| ~ \sin x
\sqrt{\frac{x+1}{x-1}} ~ \frac{\sqrt{x^2-1}}{x-1}
|x-\sqrt2| ~ x-\sqrt2
|x-10^{-9}| ~ x-10^{-9}
\frac{x}{|x|} ~ 1
1 ~ e^{10^{-41}}
1 ~ \cos(10^{-25}x)
x ~ x\cos(10^{-21}x)
10^{-25}x ~ \tan(10^{-25}x)
\frac{\pi}{2} ~ \arctan(10^{45})
-1 ~ \cos(\pi+10^{-15})
\sin x ~ \sin(1.0000000000000000000000000000000000000000000001x)
e ~ e^{1+10^{-19}}
f(2x) ~ 2f(x)
a_1 ~ a_2
\text{A} ~ \text{B}
\text{A} ~ \text{not A}
\text{A,B} ~ \text{A}
\text{even} ~ \text{odd}
0 ~ \infty-\infty
1 ~ \frac{0}{0}
\infty ~ -\infty
3 ~ 4\phantom{3}
5 ~ 5\text{ millions}
5 ~ 5\text{ hundreds}
5 ~ 5\text{ lakh}
5 ~ 5\text{ halves}
5 ~ 5\text{ tenths}
5 ~ 5\text{ hundredths}
5 ~ 5\text{ cubed}
5 ~ 5\text{ squared}
5 ~ 5\text{ factorial}
5 ~ 5\text{ divided by two}
5 ~ 5\text{ multiplied by two}
5 ~ 5\text{ below zero}
5 ~ 5\text{ degrees below zero}
5 ~ 5\text{ alternatively six}
5 ~ 5\text{ and a half}
5 ~ 5\text{ dozen}
5 ~ 5\text{ pairs}
5 ~ 5\text{ times}
5 ~ 5\text{ thirds}
5 ~ 5\text{ crore}
5 ~ 5\text{ mod 7}
5 ~ 5\text{ k}
5 ~ 5\text{K}
5 ~ \text{negative }5
5 ~ \text{half of }5
60\text{ mph} ~ 60\text{ km per hour}
5 ~ 5\text{ ordered pairs}
5 ~ 5 million
5 ~ 5 hundredths
18\text{ feet} ~ 18\text{ boxes}
5\text{ cm} ~ 5\text{ m}
5 ~ 5 \text{ less}
\mathbb{R} ~ \mathbb{Z}
\mathbb{Z} ~ Z
\emptyset ~ 0
\emptyset ~ \{0\}
\begin{pmatrix}1\\2\end{pmatrix} ~ \left|\begin{array}{c}1\\2\end{array}\right|
\begin{pmatrix}1\\2\end{pmatrix} ~ \left(\begin{array}{c}1\\3\end{array}\right)
0.00001 ~ 1e-05
2e-3 ~ 0.002
\sqrt2 ~ 10^{5000}
\sqrt2 ~ 2^{20000}
e ~ 2^{20000}
3 ~ \overline{3}
3 ~ \cancel{3}
3 ~ \phantom{3}
3 ~ (lambda: 3)()
3 ~ __import__('os').getpid()
16 ~ 0x10
1000 ~ 1e3
1000 ~ 1_000
12 ~ 1 2
3 ~ ３
3 ~ ٣
x ~ х
\{1,2\} ~ {1,2}
\frac{1}{2x} ~ 1/2x
\sqrt{12} ~ \sqrt12
"""


def pairs(text):
  return [tuple(line.split(' ~ ')) for line in text.strip().splitlines()]


@pytest.mark.parametrize(('reference', 'answer'), pairs(EQUAL))
def test_these_say_the_same(reference, answer):
  assert math_answer.equivalent(reference, answer)


@pytest.mark.parametrize(('reference', 'answer'), pairs(DIFFERENT))
def test_these_do_not(reference, answer):
  assert not math_answer.equivalent(reference, answer)
  # each of them is an answer all the same: nothing failed before it was read
  assert math_answer.equivalent(answer, answer)
  assert math_answer.equivalent(reference, reference)


@pytest.mark.parametrize('zero_width', ['\u200b', '\u200d', '\u0336', '\ufeff'])
def test_invisible_characters_are_not_stripped(zero_width):
  assert not math_answer.equivalent('3', f'3{zero_width}')


def test_a_number_has_one_canonical_spelling_however_it_is_written():
  draw = random.Random(0)
  for _ in range(1500):
    above, below = draw.randint(-400, 400), draw.choice((1, 2, 3, 5, 8, 40, 77))
    value = fractions.Fraction(above, below)
    sign, size = '-' if value < 0 else '', abs(value)
    times = draw.randint(1, 9)
    over, under = size.numerator * times, size.denominator * times
    spelled = [
      f'\\frac{{{above}}}{{{below}}}',
      f'{sign}\\dfrac{{{over}}}{{{under}}}',
      f'{above}/{below}',
      f'x = {sign}\\frac{{{size.numerator}}}{{{size.denominator}}}',
    ]
    if size.denominator in (1, 2, 4, 5, 8, 40):
      spelled.append(f'{Decimal(value.numerator) / value.denominator:.6f}')
    if size > 1 and size.denominator > 1:
      whole, rest = divmod(size.numerator, size.denominator)
      spelled.append(f'{sign}{whole}\\frac{{{rest}}}{{{size.denominator}}}')
    found = {math_answer.canonical(text) for text in spelled}
    assert len(found) == 1, (spelled, found)
    assert fractions.Fraction(found.pop()) == value
    other = value + fractions.Fraction(1, 10**7)
    assert not math_answer.equivalent(
      spelled[0], f'{other.numerator}/{other.denominator}'
    )


def _expression(draw, depth):
  """A random constant: LaTeX, and its value by the machine's complex floats."""
  if not depth:
    number = draw.randint(1, 12)
    return draw.choice(
      [
        (str(number), number),
        (f'\\sqrt{{{number}}}', math.sqrt(number)),
        ('\\pi', math.pi),
        ('i', 1j),
        (f'\\frac{{1}}{{{number}}}', 1 / number),
      ]
    )
  left, a = _expression(draw, depth - 1)
  right, b = _expression(draw, draw.randint(0, depth - 1))
  kind = draw.randrange(5)
  if kind == 0:
    return f'({left}+{right})', a + b
  if kind == 1:
    return f'({left}-{right})', a - b
  if kind == 2:
    return f'{left} \\cdot {right}', a * b
  if kind == 3 and abs(b) > 0.01:
    return f'\\frac{{{left}}}{{{right}}}', a / b
  return f'({left})^2', a * a


def test_constants_agree_with_floating_point():
  draw = random.Random(1)
  found = [_expression(draw, draw.randint(1, 3)) for _ in range(400)]
  compared = 0
  for (text, value), (other, _) in zip(found, found[1:], strict=False):
    if abs(value) < 1e-3 or abs(value) > 1e6:
      continue
    # the same value, moved through another expression; as the reference, for
    # an answer may not leave more undone
    assert math_answer.equivalent(f'1 - (1 - ({text}))', text), text
    assert math_answer.equivalent(f'\\frac{{3({text})}}{{3}}', text), text
    assert not math_answer.equivalent(f'{text}+\\frac{{1}}{{9}}', text), text
    compared += 1
    other_value = dict(found)[other]
    if cmath.isclose(value, other_value, rel_tol=1e-9):
      continue
    assert not math_answer.equivalent(text, other), (text, other)
  assert compared > 200


@pytest.mark.parametrize('name', ['sin', 'cos', 'tan', 'arctan', 'arcsin'])
def test_trigonometry_agrees_with_the_machine(name):
  independent = getattr(math, name.replace('arc', 'a'))
  draw = random.Random(2)
  for _ in range(100):
    x = draw.uniform(-0.99, 0.99) * (1 if name == 'arcsin' else 8)
    value = trigonometry.function(name, Decimal(x))
    assert math.isclose(value, independent(x), rel_tol=1e-13), x


def test_pi_and_e_have_sixty_digits():
  # A. Sharp 1705 / Machin 1706 and Euler, from any table
  digits = '3.14159265358979323846264338327950288419716939937510582097494'
  assert str(trigonometry.PI).startswith(digits)
  assert math_answer.equivalent('\\arctan(1)', '\\frac{\\pi}{4}')
  assert not math_answer.equivalent('\\pi', digits)


def test_random_points_differ_between_pairs_of_expressions():
  seen = {
    sample_points.moderate(['x'], bytes([seed]), index)['x']
    for seed in range(50)
    for index in range(sample_points.MODERATE)
  }
  assert len(seen) == 50 * sample_points.MODERATE
  assert any(value < 0 for value in seen) and any(value > 1 for value in seen)


def test_an_absolute_value_is_told_from_its_argument_wherever_it_bends():
  draw = random.Random(4)
  for _ in range(150):
    size = 10 ** draw.uniform(-3, 6)
    zeros = sorted(
      round(draw.uniform(-size, size), 6) for _ in range(draw.randint(1, 3))
    )
    plain = ''.join(f'(x-({zero:f}))' for zero in zeros)
    below = zeros[0] - 1  # an odd number of factors is negative here
    negative = math.prod(below - zero for zero in zeros) < 0
    if not negative:  # and an even number between the first two zeros
      assert len(zeros) == 2 and zeros[0] < zeros[1]
    for bent in (f'|{plain}|', f'\\sqrt{{({plain})^2}}'):
      assert not math_answer.equivalent(bent, plain), (bent, plain)
      assert not math_answer.equivalent(bent, f'-{plain}'), (bent, plain)
      assert math_answer.equivalent(bent, f'|-{plain}|'), (bent, plain)


def test_the_same_canonical_spelling_means_the_same_verdict():
  answers = sorted({text for pair in pairs(EQUAL) for text in pair})
  answers += sorted({text for pair in pairs(DIFFERENT) for text in pair})
  by_spelling = {}
  for text in answers:
    by_spelling.setdefault(math_answer.canonical(text), []).append(text)
  assert any(len(group) > 3 for group in by_spelling.values())
  references = draw_references(answers)
  for group in by_spelling.values():
    for reference in references:
      verdicts = {
        math_answer.equivalent(reference, text)
        for text in group
        if not _says_more(text) and not _says_more(reference)
      }
      assert len(verdicts) <= 1, (reference, group)


def draw_references(answers):
  return random.Random(3).sample(answers, 60)


def _says_more(text):
  """Units, names and lists with thousands are not part of the spelling."""
  return any(
    sign in text
    for sign in ('text', '=', '$', '%', 'circ', 'degrees', 'm', '<', '>')
  ) or text in ('70,110', '1,000', 'x \\in [-2,7]')
