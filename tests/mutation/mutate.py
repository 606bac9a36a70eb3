# ruff: noqa: E501 - the survivors are spelled as they are printed
"""Mutation testing of what decides: every small change to these files must make a test fail.

    python tests/mutation/mutate.py [FILE ...]

Each mutant is made in a copy of the package and its tests run there, so nothing in the work tree changes. Survivors are
printed as ``file:line: what was changed`` and end the run with exit code 1, unless :data:`EQUIVALENT` says why no test
could tell them apart.
"""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
POLICY = (
    "decide", "candidates", "lifetime", "patterns", "index", "access", "evaluation", "facts_needed", "facts",
    "condition", "condition_text",
)  # fmt: skip
IDENTITY = ("svid", "chain", "path", "extensions", "verdicts", "spiffe_id")
TESTS = {
    POLICY: [
        *(f"tests/unit/core/test_{name}.py" for name in POLICY),
        "tests/unit/core/test_decide_context.py",
        "tests/unit/core/test_decide_properties.py",
        "tests/unit/core/test_shadowing.py",
        "tests/unit/core/test_context_properties.py",
    ],
    IDENTITY: [f"tests/unit/core/test_{name}.py" for name in ("svid", "verdicts", "spiffe_id")],
}
"""The tests that must notice a change, by the files that are changed."""
TIMEOUT_SECONDS = 120

EQUIVALENT = {
    ("decide", "not left"): "when no scope goes, what is left is what there was",
    ("decide", "everything"): "what rules in audit mode change is told only where it differs: slower",
    ("decide", "3"): "a grant of another type stays kept from giving, whatever else it is called",
    ("lifetime", "_rank(limit) <= _rank(least)"): "two limits of equal length, kind and rule are the same limit",
    (
        "index",
        "if True:\n    shapes.setdefault(audience, {}).setdefault(pattern.trust_domain, set()).add(pattern.shape)",
    ): "an exact shape finds what the exact look-up has found already; leaving it out is speed",
    (
        "evaluation",
        "if True:\n    context = self.context(application)\n    found = self._truths[key] = condition.evaluate(context)\n    self._remember(condition, context, application)",
    ): "a memory less: slower",
    (
        "evaluation",
        "if True:\n    found = self._contexts[application] = self._policy.engine.context(self._values(application))",
    ): "the same",
    (
        "evaluation",
        "if True:\n    yield (f'facts.{fact_type.name}.{name}', list(value) if isinstance(value, tuple) else value)",
    ): "a field that is not declared has no variable that could read it",
    ("evaluation", "self._facts.get(FactKey(fact_type.name, subject))"): "no fact is about nobody",
    ("facts_needed", "applications"): "the same key for each application, and for none only where the answer is no",
    ("facts_needed", "if False:\n    return NO_FACTS"): "a short cut less: slower",
    ("decide", "rule.scopes"): "a prohibition without scopes has ended _select; `or ...` is for the types",
    ("access", "rule.scopes"): "a prohibition without scopes has ended the function above; `or ()` is for the types",
    ("verdicts", "4097"): "a cache of one verdict more",
    ("verdicts", "17"): "a bound on what is remembered, not on what is accepted",
    ("verdicts", "1025"): "the same bound",
    ("chain", "constraints.critical"): "both engines of `path` refuse what is no CA, too",
    (
        "path",
        "if True:\n    return _openssl_path(leaf, intermediates, authorities, now)",
    ): "OpenSSL for every path: slower",
    ("path", "extension.oid != x509.OID_NAME_CONSTRAINTS"): "the same",
    ("path", "{47, 48, 51, 52, 53}"): "the codes choose between two reasons of a refusal",
    ("path", "{47, 48, 49, 51, 53}"): "the same",
    ("path", "50"): "the same",
    ("path", "53"): "the same",
    ("access", " for end in ends"): "no end is None there, by the condition before; the filter is for the types",
}
"""(file, changed line) -> why no test can tell the mutant from the original."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}


class Mutant(NamedTuple):
    """A changed file."""

    file: str
    line: int
    source: str
    changed: str


def replacements(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901, PLR0912 - one table, read from top to bottom
    """Yield every small change of one node."""
    match node:
        case ast.Compare(left=left, ops=[op], comparators=comparators):
            for other in COMPARISONS[type(op)]:
                yield ast.Compare(left, [other()], comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            yield from values
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(op)](), right)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.Name(id=name) if name in NAMES:
            yield ast.Name(NAMES[name], node.ctx)
        case ast.IfExp(body=body, orelse=orelse):
            yield body
            yield orelse
        case ast.comprehension(target=target, iter=source, ifs=[_, *_], is_async=is_async):
            yield ast.comprehension(target, source, [], is_async)
        case ast.Set(elts=elements) | ast.Tuple(elts=elements, ctx=ast.Load()) if len(elements) > 1:
            for position in range(len(elements)):
                changed = copy.copy(node)
                changed.elts = elements[:position] + elements[position + 1 :]
                yield changed
        case ast.Attribute(value=value, attr=attr, ctx=context) if isinstance(value, ast.Name) and value.id == "Reason":
            yield ast.Attribute(value, "INTERNAL" if attr != "INTERNAL" else "REQUEST_INVALID", context)
        case ast.If(test=test, body=body, orelse=orelse):
            yield ast.If(ast.Constant(value=True), body, orelse)
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
            yield ast.If(ast.Constant(value=False), body, orelse)


def mutants(file: str) -> Iterator[Mutant]:
    """Yield every mutant of one file of the core. Annotations and docstrings are left alone."""
    path = ROOT / "issuer" / "core" / f"{file}.py"
    source = path.read_text(encoding="utf-8")
    for number, node in enumerate(ast.walk(ast.parse(source))):
        for choice in range(len(list(replacements(node)))):
            tree = ast.parse(source)  # afresh: a swap changes the tree
            parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
            original = next(islice(ast.walk(tree), number, None))
            if not is_annotation(original, parents):
                replacement = list(replacements(original))[choice]
                line = getattr(original, "lineno", 0)
                yield Mutant(file, line, swapped(tree, original, replacement), ast.unparse(replacement))


def is_annotation(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Return whether a node is part of a type rather than of what runs."""
    while (parent := parents.get(node)) is not None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return True
        if isinstance(parent, ast.AnnAssign | ast.arg) and parent.annotation is node:
            return True
        if isinstance(parent, ast.FunctionDef) and parent.returns is node:
            return True
        if isinstance(node, ast.keyword) and ast.unparse(parent).startswith("dataclass("):
            return True
        if isinstance(parent, ast.Assign) and ast.unparse(parent.targets[0]) == "_Shapes":
            return True
        node = parent
    return False


def swapped(tree: ast.Module, node: ast.AST, replacement: ast.AST) -> str:
    """Return the source of ``tree`` with ``node`` replaced."""

    class Swap(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> ast.AST:
            return replacement if visited is node else self.generic_visit(visited)

    return ast.unparse(ast.fix_missing_locations(Swap().visit(tree))) + "\n"


def survives(mutant: Mutant) -> bool:
    """Return whether all tests pass with the mutant in place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("issuer", "tests/unit/core", "tests/support"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tests/vectors").symlink_to(ROOT / "tests/vectors")
        for part in ("pyproject.toml", "issuer_testing", "agent_client", "issuer_api"):
            (folder / part).symlink_to(ROOT / part)
        (folder / "issuer" / "core" / f"{mutant.file}.py").write_text(mutant.source, encoding="utf-8")
        own = f"tests/unit/core/test_{mutant.file}.py"
        of_its_group = next(tests for files, tests in TESTS.items() if mutant.file in files)
        tests = [test for test in (own, *(test for test in of_its_group if test != own)) if (folder / test).exists()]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:spiffe_issuer",
            *tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            run = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return run.returncode == 0


def main() -> int:
    files = sys.argv[1:] or [*POLICY, *IDENTITY]
    for file in files:
        unchanged = Mutant(file, 0, (ROOT / "issuer" / "core" / f"{file}.py").read_text(encoding="utf-8"), "nothing")
        if not survives(unchanged):
            sys.stdout.write(f"{file}: the tests fail without any change\n")
            return 2
    tried = [mutant for file in files for mutant in mutants(file)]
    survivors = equivalent = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for mutant, lives in zip(tried, pool.map(survives, tried), strict=True):
            if lives and (mutant.file, mutant.changed) in EQUIVALENT:
                equivalent += 1
            elif lives:
                survivors += 1
                sys.stdout.write(f"issuer/core/{mutant.file}.py:{mutant.line}: survived: {mutant.changed}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(tried)} mutants, {survivors} survived, {equivalent} equivalent\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
