"""`mvae config`: declarations to start from, and their schema."""

import click

__all__ = ["config"]


@click.group()
def config() -> None:
    """List the shipped declarations of runs, show one to start from, or print the schema."""


@config.command("list")
def list_declarations() -> None:
    """List the shipped declarations, each with a one-line summary."""
    from mvae.runs.source import shipped

    for name, declaration in shipped().items():
        click.echo(f"{name:14} {declaration.summary}")


@config.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a shipped declaration, as a file to start from.

    \b
    Example:  mvae config show mnist > run.toml
    """
    from mvae.runs.source import shipped_text

    click.echo(shipped_text(name), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON schema of declarations, for editors and validators."""
    from mvae.runs.config import Config

    click.echo(Config.schema_text())
