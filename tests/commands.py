"""Running the command in this process, as a user types it."""

from typer.testing import CliRunner

from specverify import cli
from specverify.errors import InputError


def ran(*arguments):
    """What it prints; its InputError, as it is, where there is one."""
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output
