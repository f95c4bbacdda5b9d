"""The `samara` command: finds the subcommand's module only when it is used, and maps errors to exit codes.

Adding a command: one file in this room that ends in `command = …`, one row in COMMANDS.
"""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any, NoReturn

import click

from samara import __version__
from samara.cli.common import screen
from samara.cli.streams import outlive_readers
from samara.schemas.errors import ExitCode, InterruptedByUser, SamaraError, UsageError

# name → (module with `command`, one line for `samara --help`); in the order in which people meet them
COMMANDS: dict[str, tuple[str, str]] = {
    "publisher": ("samara.cli.publisher", "Make and show the identities you publish as."),
    "publish": ("samara.cli.publish", "Hash, describe and sign model files in place."),
    "push": ("samara.cli.push", "Hand what you published to registries."),
    "registry": ("samara.cli.registry", "Choose and follow registries."),
    "tag": ("samara.cli.tag", "Let another tag mean a release you published."),
    "retract": ("samara.cli.retract", "Withdraw a release you published, saying why."),
    "unpublish": ("samara.cli.unpublish", "Withdraw a release you published."),
    "show": ("samara.cli.show", "Print a release: a reference or a .samara file."),
    "diff": ("samara.cli.diff", "Show what changed between two releases."),
    "trust": ("samara.cli.trust", "Pin, list and remove publishers' identities."),
    "seed": ("samara.cli.seed", "Give every whole blob here to its swarm."),
    "serve": ("samara.cli.serve", "Run a registry: catalogue, API, tracker, the Hub's clients."),
    "listed": ("samara.cli.listed", "Look at what this machine's registry lists; take down, bar."),
    "pull": ("samara.cli.pull", "Get a release, resuming what is already here."),
    "pause": ("samara.cli.pause", "Hold up pulls until samara resume."),
    "resume": ("samara.cli.resume", "Let paused pulls go on."),
    "cancel": ("samara.cli.cancel", "End pulls that are under way."),
    "adopt": ("samara.cli.adopt", "Remember what files of other programs hold."),
    "bundle": ("samara.cli.bundle", "Carry releases to machines that no network reaches."),
    "path": ("samara.cli.path", "Print where a release's verified files lie."),
    "run": ("samara.cli.run", "Run a model that is here."),
    "ls": ("samara.cli.ls", "List the releases known here, and what of each is here."),
    "du": ("samara.cli.du", "Print what takes how much room."),
    "records": ("samara.cli.records", "Show whom pulls were in contact with."),
    "rm": ("samara.cli.rm", "Forget releases on this machine."),
    "export": ("samara.cli.export", "Give a release that is here to other programs."),
    "lock": ("samara.cli.lock", "Print a lockfile of releases, by digest."),
    "prune": ("samara.cli.prune", "Remove releases by rules, and what nothing needs."),
    "verify": ("samara.cli.verify", "Read every block of a release or file again."),
    "repair": ("samara.cli.repair", "Replace what is wrong in a release's files."),
    "audit": ("samara.cli.audit", "Check signatures, index, blocks and leftovers of the whole store."),
    "db": ("samara.cli.db", "Look after the index's database: status, upgrade, backup."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module only to run it: `--help` and `--version` stay quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every command, in COMMANDS' order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list for --help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nSAMARA_HOME   folder for everything this machine keeps\nNO_COLOR      no colours\n\n"
    "\b\nExamples:\n  samara publisher init acme\n  samara publish tiny.gguf --as acme/tiny:q8_0\n"
    "  samara seed\n  samara pull tiny.samara --peer 192.0.2.7:6901",
)
@click.version_option(__version__, prog_name="samara")
def cli() -> None:
    """AI models, whole and provably the right ones, onto any machine, over any link."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the status of docs/exit-codes.md."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be any bytes, and any letters on Windows too
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    outlive_readers()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status is returned."""
    try:
        outcome: Any = cli.main(arguments, prog_name="samara", standalone_mode=False)
    except SamaraError as error:
        screen.failure(error)
        return int(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        context: click.Context | None = getattr(error, "ctx", None)
        where = f"see: {context.command_path if context is not None else 'samara'} --help"
        screen.failure(UsageError(error.format_message().rstrip("."), next_step=where))
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        screen.failure(InterruptedByUser("interrupted", next_step="run the same command again to go on"))
        return int(ExitCode.INTERRUPTED)
    return outcome if isinstance(outcome, int) else int(ExitCode.OK)
