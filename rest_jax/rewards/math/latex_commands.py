"""What the commands of LaTeX mean that are read in an answer, by name.

A command that is in none of these tables, and that tokens.py does not name, is
not understood.
"""

# Spacing, sizes and fonts: dropped.
SPACES = frozenset(
  '! , ; : > quad qquad left right big Big bigg Bigg bigl bigr Bigl Bigr biggl '
  'biggr displaystyle textstyle scriptstyle limits thinspace mathstrut strut '
  'mathbf mathit mathsf mathnormal boldsymbol bm bf rm it '
  'hspace hfill nolimits tiny scriptsize footnotesize small normalsize large '
  'Large LARGE huge Huge underline scriptscriptstyle pmb ensuremath sf tt '
  'Biggl Biggr'.split()
) | {' '}
# Their argument is read as words.
TEXTS = frozenset(
  'text textbf textit textrm textnormal textsf texttt textsc emph mbox '
  'hbox'.split()
)
# Dropped with so many arguments.
COLORS = {'color': 1, 'textcolor': 1, 'colorbox': 1, 'fcolorbox': 2}
NUMBER_SETS = {
  'R': 'R',
  'reals': 'R',
  'Reals': 'R',
  'N': 'N',
  'Z': 'Z',
  'Q': 'Q',
}
# Dropped with their argument: what cannot be seen is no answer.
PHANTOMS = frozenset(('phantom', 'hphantom', 'vphantom'))
# The operator that a command is.
OPERATORS = {
  'cdot': '*',
  'times': '*',
  'ast': '*',
  'div': 'div',
  'pm': 'pm',
  'mp': 'mp',
  'le': '<=',
  'leq': '<=',
  'leqslant': '<=',
  'ge': '>=',
  'geq': '>=',
  'geqslant': '>=',
  'lt': '<',
  'gt': '>',
  'ne': '!=',
  'neq': '!=',
  'approx': '~',
  'cup': 'cup',
  'in': 'in',
  'colon': ':',
  'circ': 'deg',
  'degree': 'deg',
  'prime': "'",
  '{': '\\{',
  '}': '\\}',
  'lbrace': '\\{',
  'rbrace': '\\}',
  '%': '%',
  '$': '$',
  '\\': '\\\\',
  'mid': '|',
  'vert': '|',
  'lvert': '|',
  'rvert': '|',
  '|': '||',
}
FUNCTIONS = {
  'frac': 'frac',
  'dfrac': 'frac',
  'tfrac': 'frac',
  'cfrac': 'frac',
  'sqrt': 'root',
  'binom': 'binom',
  'dbinom': 'binom',
  'tbinom': 'binom',
  'log': 'log',
  'ln': 'ln',
  'exp': 'exp',
}
FUNCTIONS.update(
  (name, name)
  for name in 'sin cos tan sec csc cot arcsin arccos arctan'.split()
)
CONSTANTS = {'pi': 'pi', 'infty': 'inf'}
GREEK = frozenset(
  'alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota '
  'kappa lambda mu nu xi rho sigma tau phi varphi chi psi omega Gamma Delta '
  'Theta Lambda Xi Sigma Phi Psi Omega angle triangle ell'.split()
)
# Plain words that are read as the command of that name.
PLAIN_FUNCTIONS = {'sqrt': 'root', 'log': 'log', 'ln': 'ln', 'exp': 'exp'}
PLAIN_FUNCTIONS.update(
  (name, name) for name in ('sin', 'cos', 'tan', 'sec', 'csc')
)
PLAIN_FUNCTIONS['cot'] = 'cot'
