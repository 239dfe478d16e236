"""The command line `nnunet_liver`: argument parsing only, one module in `commands/` for each
command.

Nothing heavy is imported here (nnU-Net and torch take seconds); every command imports what it runs
when it runs.
"""

from __future__ import annotations

import sys
import warnings

import typer

from nnunet_liver_ext.commands import (
    benchmark,
    compare,
    convert,
    demo,
    env,
    evaluate,
    import_weights,
    plan,
    postprocess,
    predict,
)
from nnunet_liver_ext.errors import InputError

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
app.command("plan")(plan.plan)
app.command("import-weights")(import_weights.import_weights)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.add_typer(postprocess.app, name="postprocess")
app.command("demo")(demo.demo)
app.add_typer(benchmark.app, name="benchmark")


def main() -> None:
    """Runs the command line; what the user can mend is one sentence on standard error and exit code
    1."""
    warnings.filterwarnings(
        "ignore", category=FutureWarning, module="torch"
    )  # torch about its own parts
    try:
        app()
    except InputError as error:
        sys.exit(f"nnunet_liver: {error}")
    except KeyboardInterrupt:
        sys.stderr.write("\nnnunet_liver: interrupted; run the same command again to continue.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
