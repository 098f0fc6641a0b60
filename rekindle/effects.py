"""`rekindle learn|prove`: effects of interventions, from logged decisions."""

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from rekindle.features import features_of
from rekindle.state import State, known_seats, open_state
from rekindle.terminal import AsJson, out, print_json, progress_bar, utc_now

if TYPE_CHECKING:
    from training.decided import Decided
    from training.learn import Worth


def learn_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same effects.")] = 7,
    threads: Annotated[int, typer.Option(min=1, help="Threads of LightGBM.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Learn what each intervention does from matured decisions; register it, promote it if it surely keeps more."""
    from training.learn import learn
    from training.proof_page import per

    state = open_state()
    decided = decided_data(state)
    with progress_bar("learning effects"):
        learned = learn(state.home, decided.learning, worth=worth_of(state), seed=seed, threads=threads)
    if as_json:
        print_json({**asdict(learned), "left_out": decided.left_out})
        return
    table = Table("candidate", "kept of 1 000, more than by the experts' choice", title="On teams it never saw")
    for name, found in learned.values.items():
        table.add_row(name, per(found))
    if learned.values:
        out.print(table)
    where = f", version {learned.version}" if learned.version else ""
    verb = "Promoted" if learned.is_promoted else "Not promoted"
    out.print(f"{learned.decisions:,} matured decisions in {learned.teams:,} teams: {learned.learner}{where}.")
    out.print(f"{verb}: {learned.why}.", highlight=False)
    for why, count in decided.left_out.items():
        out.print(f"Left out: {count:,} decisions {why}.", highlight=False)


def prove_command(
    seed: Annotated[int, typer.Option(help="Same data, same seed, same intervals.")] = 7,
    as_json: AsJson = False,
) -> None:
    """Whether it worked: licences kept against teams left alone and against doing nothing, by policy and segment."""
    from features.effects import expert_model
    from training.learn import choose, incumbent_effects
    from training.proof import LEARNED, prove
    from training.proof_page import per, verdict, write_proof

    state = open_state()
    decided = decided_data(state)
    worth, arms = worth_of(state), decided.learning.arms
    experts, learned = expert_model(arms), incumbent_effects(state.home, arms)
    policies = {"experts' choice": lambda of: choose(of, experts.effects(of.seen), worth)}
    learned_until = {}
    if learned.decisions and any(learned.weights):
        policies[LEARNED] = lambda of: choose(of, learned.effects(of.seen), worth)
        learned_until[LEARNED] = datetime.fromisoformat(learned.trained_until)
    with progress_bar("valuing policies"):
        proof = prove(decided, policies, learned_until=learned_until, seed=seed)
        page = write_proof(state.home / "proofs" / f"{utc_now():%Y%m%dT%H%M%S}", proof)
    if as_json:
        print_json({**proof.document(), "report": str(page)})
        return
    table = Table("policy", "kept of 1 000, more than by none", title="Licences kept, 95 % intervals over teams")
    for one in proof.policies:
        table.add_row(one.name, per(one.against_none) if one.against_none is not None else one.why)
    out.print(table)
    for sentence in verdict(proof):
        out.print(sentence, highlight=False)
    for note in proof.notes:
        out.print(f"Note: {note}.", highlight=False)
    for why, count in proof.left_out.items():
        out.print(f"Left out: {count:,} decisions {why}.", highlight=False)
    out.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)


def worth_of(state: State) -> "Worth":
    """By what the service decides."""
    from training.learn import Worth

    terms = state.settings().terms
    return Worth(terms.seat_value, terms.harm_bound)


def decided_data(state: State) -> "Decided":
    """Logged decisions with their features and outcomes, as far as outcomes are known."""
    from features.interventions import SHIPPED, load_interventions
    from training.decided import read_decided

    known_seats(state)
    own = state.home / "interventions.yaml"
    catalogue = load_interventions(own if own.exists() else SHIPPED)
    with progress_bar("reading decisions and what came of them"):
        return read_decided(
            state.log,
            tools=state.tools,
            catalogue=catalogue,
            features_of=lambda seats, instants: features_of(state, seats, instants),
        )
