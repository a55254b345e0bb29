"""`mvae config`: declarations to start from, and what may stand in one."""

import click

__all__ = ["config"]


@click.group()
def config() -> None:
    """Declarations of runs: list those that are shipped, show one to start from, print the schema."""


@config.command("list")
def list_declarations() -> None:
    """The shipped declarations, each with its one line."""
    from mvae.runs.source import shipped

    for name, declaration in shipped().items():
        click.echo(f"{name:14} {declaration.summary}")


@config.command()
@click.argument("name")
def show(name: str) -> None:
    """A shipped declaration, as a file to start from: mvae config show mnist > run.toml."""
    from mvae.runs.source import shipped_text

    click.echo(shipped_text(name), nl=False)


@config.command()
def schema() -> None:
    """The JSON schema of declarations, for editors and checks."""
    from mvae.runs.config import Config

    click.echo(Config.schema_text())
