"""The program in this process: what `mvae ARGUMENTS` prints and where, and its exit code."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

from mvae.cli.main import main


@dataclass
class Result:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one object on standard output, in the JSON that every reader accepts."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


def mvae(*arguments: object) -> Result:
    """What `mvae ARGUMENTS` does, in this process."""
    before, sys.argv = sys.argv, ["mvae", *map(str, arguments)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 0
    finally:
        sys.argv = before
    return Result(code, out.getvalue(), err.getvalue())


def assert_refused(result: Result, message: str) -> None:
    """Exit code 2 and one clear line on standard error."""
    assert result.err.startswith("mvae: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert (result.code, result.out) == (2, "")
