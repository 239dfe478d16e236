"""The command line `nnunet_liver`: one module in `commands/` for each command's arguments.

Nothing heavy is imported here (nnU-Net and torch take seconds); every command imports what it runs
when it runs.
"""

from __future__ import annotations

import inspect
import sys
import warnings

import typer

from nnunet_liver_ext.commands import (
    benchmark,
    compare,
    convert,
    crossval,
    demo,
    env,
    evaluate,
    import_weights,
    mismatch,
    plan,
    postprocess,
    predict,
    splits,
)
from nnunet_liver_ext.errors import InputError


def _join_lines(commands: typer.Typer) -> None:
    """Help in paragraphs, without the line breaks that these have in the code."""
    for command in commands.registered_commands:
        doc = inspect.cleandoc((command.callback and command.callback.__doc__) or "")
        command.help = "\n\n".join(" ".join(lines.split()) for lines in doc.split("\n\n"))


app = typer.Typer(
    name="nnunet_liver",
    help=(
        "Liver segmentation in paired but unregistered T1/T2 MRI with stock nnU-Net v2. Research"
        " use only."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("env")(env.env)
app.add_typer(convert.app, name="convert")
app.command("splits")(splits.splits)
app.command("plan")(plan.plan)
app.command("import-weights")(import_weights.import_weights)
app.command("predict")(predict.predict)
app.command("evaluate", cls=evaluate.EvaluateCommand)(evaluate.evaluate)
app.command("crossval")(crossval.crossval)
app.command("mismatch")(mismatch.mismatch)
app.command("compare")(compare.compare)
app.add_typer(postprocess.app, name="postprocess")
app.command("demo")(demo.demo)
app.add_typer(benchmark.app, name="benchmark")
for group in (app, convert.app, postprocess.app, benchmark.app):
    _join_lines(group)


def main() -> None:
    """Runs the command line; an error that the user can mend is one sentence and exit code 1."""
    # torch warns about its own parts
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    try:
        app()
    except InputError as error:
        sys.exit(f"nnunet_liver: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("\nnnunet_liver: interrupted; run the same command again to continue.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
