"""`proxyd explain URL`."""

import json
from pathlib import Path
from typing import Annotated

import typer

Headers = Annotated[
    list[str] | None,
    typer.Option("-H", "--header", metavar="'NAME: VALUE'", help="A field; may be repeated."),
]
ConfigFile = Annotated[
    Path,
    typer.Option("-c", "--config", metavar="FILE", help="The configuration.", show_default=True),
]


def explain(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="As a browser has it: http://HOST/PATH")
    ],
    header: Headers = None,
    method: Annotated[str, typer.Option("-X", "--method", metavar="METHOD")] = "GET",
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Ask the upstream once, and judge its answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    config: ConfigFile = Path("proxy.toml"),
) -> None:
    """Say what happens to a request and why: route, key, what is stored, fresh or stale."""
    import logging

    from proxy.tools import show
    from proxy.tools.asked import asked
    from proxy.tools.explain import explain as explained
    from proxy.tools.setting import setting

    # What the steps would log, the explanation says.
    logging.getLogger("proxyd").addHandler(logging.NullHandler())
    told = explained(setting(config), asked(url, header or (), method), fetch=fetch)
    if as_json:
        typer.echo(json.dumps(show.plain(told), indent=2, ensure_ascii=False))
    else:
        show.show(told)
