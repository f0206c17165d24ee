"""`tiktok-dm listen new|serve|places|report`: the listening tests' verbs. What they do is in the package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from tiktok_dm.errors import UserError

app = typer.Typer(help="Listening tests: make a study, hold it in browsers, report it.", no_args_is_help=True)

_DATABASE_VARIABLE = "TIKTOK_DM_LISTEN_DATABASE"
StudyFolder = Annotated[Path, typer.Argument(help="The study's folder.", metavar="STUDY_DIR")]
Database = Annotated[
    str | None,
    typer.Option(
        help="URL of a PostgreSQL database for the answers; SQLite in the study's folder by default.",
        envvar=_DATABASE_VARIABLE,
        show_envvar=True,
    ),
]


def _named(texts: list[str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for text in texts:
        name, mark, folder = text.partition("=")
        if not mark or not name or not folder:
            raise UserError(f"a system is given as name=DIR, not as {text!r}")
        if name in named:
            raise UserError(f"two systems are called {name}: give each a name of its own")
        named[name] = Path(folder)
    return named


def _wants(module: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UserError(f"the listening tests need {module}: run pip install 'tiktok-dm[web]'")


@app.command()
def new(
    folder: StudyFolder,
    more_systems: Annotated[list[str] | None, typer.Argument(help="Further systems.", metavar="[NAME=DIR]...")] = None,
    protocol: Annotated[str, typer.Option(help="coherence (video with music) or quality (sound alone).")] = "coherence",
    systems: Annotated[
        list[str] | None,
        typer.Option(help="A system's generated files, by id; several may follow.", metavar="NAME=DIR"),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The original music or films by id, or a built dataset.")
    ] = None,
    videos: Annotated[Path | None, typer.Option(help="Dance videos, where the reference has no picture.")] = None,
    midi: Annotated[
        list[str] | None, typer.Option(help="A system that plays MIDI; left out of the quality protocol.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a dataset: clips of this split alone.")] = None,
    items: Annotated[int, typer.Option(help="Clips that a rater rates.", min=1)] = 15,
    pool: Annotated[int | None, typer.Option(help="Clips in the study; as many as --items by default.", min=2)] = None,
    raters: Annotated[int, typer.Option(help="The study closes when so many have finished.", min=1)] = 26,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Let anybody in who has the address; by default each rater has a link.")
    ] = False,
    address_limit: Annotated[
        int, typer.Option(help="Of an open study: sessions that one network address may begin in a day.", min=1)
    ] = 3,
    seed: Annotated[int, typer.Option(help="Of all choices.")] = 0,
    max_seconds: Annotated[float, typer.Option(help="Longest clip.")] = 10.0,
    loudness: Annotated[float, typer.Option(help="Of every stimulus, LUFS.")] = -23.0,
    checks: Annotated[int, typer.Option(help="Attention checks a rater.", min=0, max=10)] = 2,
    headphone_trials: Annotated[int, typer.Option(help="Of the headphone check; 0 leaves it out.", min=0)] = 6,
    exclude_without_headphones: Annotated[
        bool, typer.Option("--exclude-without-headphones", help="Leave out who fails the headphone check.")
    ] = False,
    practice: Annotated[bool, typer.Option(help="Begin with a practice clip.")] = True,
    consent: Annotated[Path | None, typer.Option(help="Text of the consent page, paragraphs by empty lines.")] = None,
    contact: Annotated[str, typer.Option(help="Whom raters may ask; shown on the consent page.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a study: pair the files by id, bring them to one loudness and length, fix the rules of exclusion."""
    from tiktok_dm.listening.making import Wanted, make
    from tiktok_dm.listening.study import Exclusion

    if reference is None:
        raise UserError("name the original music: --reference DIR_OR_DATASET")
    paragraphs = None
    if consent is not None:
        try:
            text = consent.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the consent text {consent} cannot be read: give a text file in UTF-8") from error
        paragraphs = tuple(" ".join(part.split()) for part in text.split("\n\n") if part.strip())
    study, key = make(
        folder,
        Wanted(
            protocol=protocol,
            systems=_named([*(systems or []), *(more_systems or [])]),
            reference=reference,
            videos=videos,
            midi=frozenset(midi or ()),
            split=split,
            items=items,
            pool=pool,
            raters=raters,
            access="open" if open_to_all else "invited",
            address_limit=address_limit,
            seed=seed,
            max_seconds=max_seconds,
            loudness_lufs=loudness,
            checks=checks,
            headphone_trials=headphone_trials,
            practice=practice,
            exclusion=Exclusion(headphones="exclude" if exclude_without_headphones else "record"),
            consent=paragraphs or None,
            contact=contact,
        ),
        (lambda text: None) if as_json else lambda text: typer.echo(text, err=True),
    )
    votes = study.raters * study.items_a_rater / (study.n_items * study.n_conditions)
    told: dict[str, Any] = {
        "study": str(folder),
        "protocol": study.protocol.name,
        "systems": [c.name for c in key.conditions if c.kind == "system"],
        "items": list(key.items),
        "votes_a_cell": round(votes, 2),
        "loudness_lufs": study.loudness_lufs,
        "notes": list(key.notes),
    }
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(f"{folder}: {protocol}, {study.n_items} clips under {study.n_conditions} conditions")
    typer.echo(f"{study.raters} raters with {study.items_a_rater} clips each: {votes:.1f} votes a system and clip")
    typer.echo(
        f"stimuli at {study.loudness_lufs:g} LUFS; {len(study.exclusion.in_words())} rules of exclusion are fixed"
    )
    for note in key.notes:
        typer.echo(f"note: {note}")
    if study.access == "invited":
        typer.echo(f"{study.raters} invitation links, one a rater: tiktok-dm listen places {folder} --links")
    typer.echo(f"next: tiktok-dm listen serve {folder}")


@app.command()
def serve(
    folder: StudyFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    database: Database = None,
    public_url: Annotated[
        str | None, typer.Option(help="Address under which raters reach the study, as https://listen.example.org.")
    ] = None,
) -> None:
    """Hold a study: raters open the page, the owner the page /results with the admin token."""
    _wants("starlette")
    _wants("uvicorn")
    _wants("sqlalchemy")
    import uvicorn

    from tiktok_dm.listening import study as studies
    from tiktok_dm.listening.server import application
    from tiktok_dm.listening.store import Store
    from tiktok_dm.web_guard import LOOPBACK

    study, key = studies.read(folder)
    public = urlsplit(public_url or "")
    if public_url and (public.scheme not in ("http", "https") or not public.hostname):
        raise UserError(f"{public_url!r} is no address: give one as https://listen.example.org")
    store = Store(folder, study, key, studies.digest(folder), database)
    if store.design_changed:
        store.close()
        raise UserError(
            f"{studies.STUDY} in {folder} was changed after the first start: restore it, or make a new study"
        )
    # Against DNS rebinding; an address that the owner opened to a network may go by any name.
    hosts = LOOPBACK | ({public.hostname} if public.hostname else set())
    local = host in hosts
    asgi = application(folder, store, public_url=public_url, hosts=hosts if local else None)
    config = uvicorn.Config(
        asgi,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=public_url is not None,  # else anybody could claim any network address
    )
    try:
        listening = config.bind_socket()
    except (OSError, SystemExit) as error:
        store.close()
        raise UserError(f"{host}:{port} cannot be listened on: name another --port or --host") from error
    where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    if study.access == "invited":
        typer.echo(f"raters:  tiktok-dm listen places {folder} --links --public-url {public_url or where}")
    else:
        typer.echo(f"raters:  {public_url or where}/")
    typer.echo(f"results: {public_url or where}/results  (admin token: in {folder / studies.KEY})")
    if not local:
        typer.echo(
            "open to the network; raters' browsers and networks see what they send unless https stands before it"
        )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        store.close()


@app.command()
def places(
    folder: StudyFolder,
    database: Database = None,
    free: Annotated[
        list[int] | None, typer.Option(help="End this session and give its place to others; may be given repeatedly.")
    ] = None,
    invite: Annotated[int, typer.Option(help="Make so many further invitations.", min=0, max=10_000)] = 0,
    links: Annotated[bool, typer.Option("--links", help="Print the links of unused invitations alone.")] = False,
    public_url: Annotated[str, typer.Option(help="Address under which raters reach the study.")] = (
        "http://127.0.0.1:8000"
    ),
) -> None:
    """Show who holds the study's places, free some, make and print invitations."""
    _wants("sqlalchemy")
    from tiktok_dm.listening import study as studies
    from tiktok_dm.listening.store import Store

    study, key = studies.read(folder)
    if study.access == "open" and (invite or links):
        raise UserError(f"The study in {folder} is open to all: it has no invitations.")
    store = Store(folder, study, key, studies.digest(folder), database)
    try:
        for rater in free or ():
            store.free(rater)
        if invite:
            studies.invite(folder, invite)
        sessions, unused = store.places(), store.unused_invitations()
        now = store.clock()
    finally:
        store.close()
    if links:
        for token in unused:
            typer.echo(f"{public_url.rstrip('/')}/go-on/{token}")
        return
    for place in sessions:
        typer.echo(
            f"session {place.rater}: {place.state}, {place.answered} of {study.items_a_rater} clips, seen "
            f"{max(0.0, now - place.seen_at) / 60:.0f} min ago{', takes a place' if place.counts else ''}"
        )
    typer.echo(f"{sum(place.counts for place in sessions)} of {study.raters} places are taken")
    if study.access == "invited":
        typer.echo(f"{len(unused)} invitations are unused (--links prints them)")


@app.command()
def report(
    folder: StudyFolder,
    database: Database = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the long-format table here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here; - prints them.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write a plot here (.png, .svg, .pdf).")] = None,
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap.", min=100, max=1_000_000)] = 5000,
) -> None:
    """Mean opinion scores with clustered intervals, paired tests, exclusions with reasons."""
    _wants("sqlalchemy")
    _wants("statsmodels")
    from tiktok_dm.listening import study as studies
    from tiktok_dm.listening.report import analyse, in_words, long_table, plot
    from tiktok_dm.listening.store import Store

    study, key = studies.read(folder)
    if database is None and not (folder / studies.VOTES).is_file():
        raise UserError(f"nobody has taken part in {folder} yet: hold it with `tiktok-dm listen serve {folder}`")
    store = Store(folder, study, key, studies.digest(folder), database)
    try:
        raters, trials = store.everything()
    finally:
        store.close()
    results = analyse(study, key, raters, trials, draws=draws, design_changed=store.design_changed)
    to_stdout = json_file is not None and str(json_file) == "-"
    if csv_file is not None:
        _write(csv_file, long_table(results))
    if json_file is not None:
        text = json.dumps(results.as_dict(), indent=2)
        if to_stdout:
            typer.echo(text)
        else:
            _write(json_file, text + "\n")
    if plot_file is not None:
        plot(results, study, plot_file)
    if not to_stdout:
        typer.echo(in_words(results))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): name another file") from error
    finally:
        partial.unlink(missing_ok=True)
