"""``blockqueue completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ._cli_group import FAILED, Failed

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete commands and options.

    \b
    bash: eval "$(blockqueue completion bash)" in ~/.bashrc
    zsh:  eval "$(blockqueue completion zsh)" in ~/.zshrc
    fish: blockqueue completion fish > ~/.config/fish/completions/blockqueue.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    try:
        script = kind(ctx.find_root().command, {}, "blockqueue", "_BLOCKQUEUE_COMPLETE").source()
    except RuntimeError as error:  # no such shell here, or one that is too old
        raise Failed(str(error), FAILED) from error
    click.echo(script)
