"""Run `mvae ARGUMENTS` in this process, and capture its output and exit code."""

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
        """The JSON object on standard output, without NaN and infinity, which not every reader accepts."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


def mvae(*arguments: object) -> Result:
    """Run `mvae ARGUMENTS` in this process."""
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
    """Check for exit code 2 and one line on standard error that contains the message."""
    assert result.err.startswith("mvae: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert (result.code, result.out) == (2, "")
