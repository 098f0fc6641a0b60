"""A real randomised trial: e-mails of two kinds or none, learned on one half, valued on the other.

    python benchmarks/bench_hillstrom.py hillstrom.csv [--seed 7] [--peers FOLDER]

The data is Kevin Hillstrom's e-mail trial of 2008 (64 000 people, three arms at random); it is not part of this repository. Outcome:
`visit`. Policies are learned on half of the people and valued on the other half by IPS and DR, 95 % intervals over people.
--peers: also EconML and CausalML, in a virtual environment of their own that is made in FOLDER where it is not there yet (its
packages conflict with ours); each is used as its documentation shows, with LightGBM.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from features.effects import Seen
from training.decided import DecisionData
from training.effects import fit_effects
from training.offpolicy import Estimator, gain, greedy, value
from training.outcome import outcome_model

Floats = npt.NDArray[np.float64]

ARMS = ("none", "mens", "womens")
NAMES = {"No E-Mail": 0, "Mens E-Mail": 1, "Womens E-Mail": 2}
PEERS = ("econml", "causalml")
PEER_SCRIPT = """
import sys
import numpy as np
import lightgbm as lgb

which, folder = sys.argv[1:]
data = np.load(folder + "/halves.npz")
X, arm, y, Z = data["X"], data["arm"], data["y"], data["Z"]
trees = dict(n_estimators=100, num_leaves=15, learning_rate=0.06, min_child_samples=100, n_jobs=1, verbose=-1)
if which == "econml_dr":
    from econml.dr import DRLearner
    from sklearn.linear_model import LogisticRegression
    learner = DRLearner(model_propensity=LogisticRegression(max_iter=1000), model_regression=lgb.LGBMRegressor(**trees),
                        model_final=lgb.LGBMRegressor(**{**trees, "n_estimators": 50}), cv=3, random_state=7)
    learner.fit(y, arm, X=X)
    told = np.column_stack([learner.effect(Z, T0=0, T1=k) for k in (1, 2)])
elif which == "econml_forest":
    from econml.dml import CausalForestDML
    from sklearn.linear_model import LogisticRegression
    learner = CausalForestDML(model_y=lgb.LGBMRegressor(**trees), model_t=LogisticRegression(max_iter=1000),
                              discrete_treatment=True, n_estimators=200, min_samples_leaf=100, n_jobs=1, random_state=7)
    learner.fit(y, arm, X=X)
    told = np.column_stack([learner.effect(Z, T0=0, T1=k) for k in (1, 2)])
else:
    from causalml.inference.meta import BaseTRegressor, BaseXRegressor
    kind = BaseXRegressor if which == "causalml_x" else BaseTRegressor
    learner = kind(lgb.LGBMRegressor(**trees), control_name=0)
    thirds = {1: np.full(len(X), 0.5), 2: np.full(len(X), 0.5)}
    if which == "causalml_x":
        learner.fit(X, arm, y, p=thirds)
        told = learner.predict(Z, p={1: np.full(len(Z), 0.5), 2: np.full(len(Z), 0.5)})
    else:
        learner.fit(X, arm, y)
        told = learner.predict(Z)
np.save(folder + "/" + which + ".npy", np.column_stack([np.zeros(len(Z)), np.asarray(told).reshape(len(Z), 2)]))
"""
PEER_LEARNERS = ("econml_dr", "econml_forest", "causalml_t", "causalml_x")


def read(path: Path) -> DecisionData:
    """The trial as decisions, each person a team of its own."""
    frame = pl.read_csv(path, infer_schema_length=None)
    arm = np.array([NAMES[name] for name in frame["segment"].to_list()])
    numbers = frame.select("recency", "history", "mens", "womens", "newbie").to_numpy().astype(np.float64)
    plain = np.column_stack((numbers[:, 0] / 12, np.clip(np.log(numbers[:, 1]) / 8, 0, 1), numbers[:, 2:]))
    n = len(arm)
    people = np.arange(n).astype(str)
    return DecisionData(
        arms=ARMS,
        seen=Seen(numbers, [list(row) for row in frame.select("zip_code", "channel").rows()], np.zeros((n, 3)), plain, np.ones(n)),
        arm=arm,
        propensity=np.full((n, 3), 1 / 3),
        kept=frame["visit"].to_numpy().astype(np.float64),
        team=people,
        organization=np.full(n, "hillstrom"),
        seat=people,
        as_of=np.arange(n),
        cost=np.zeros(3),
        answers=np.zeros((3, 0)),
    )  # fmt: skip


def plain_table(data: DecisionData) -> Floats:
    """(n, p) numbers and one-hot names, for the peers."""
    names = np.array(data.seen.categories)
    columns = [names[:, [c]] == np.unique(names[:, c]) for c in range(names.shape[1])]
    return np.concatenate((data.seen.vectors, *columns), axis=1).astype(np.float64)


def peers(past: DecisionData, later: DecisionData, folder: Path) -> dict[str, Floats]:
    """By learner, (n, 3) effects that it tells of the later half."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS, "lightgbm"], check=True)
    shown = "import importlib.metadata as m; print(*(p + ' ' + m.version(p) for p in ('econml', 'causalml', 'lightgbm', 'numpy')), sep=', ')"
    print(subprocess.run([python, "-c", shown], check=True, capture_output=True, text=True).stdout.strip())
    told = {}
    with tempfile.TemporaryDirectory() as exchange:
        np.savez(Path(exchange) / "halves.npz", X=plain_table(past), arm=past.arm, y=past.kept, Z=plain_table(later))
        for which in PEER_LEARNERS:
            run = subprocess.run(
                [python, "-W", "ignore", "-c", PEER_SCRIPT, which, exchange], capture_output=True, text=True
            )
            if run.returncode:
                print(f"{which} did not run: {run.stderr.strip().splitlines()[-1]}")
            else:
                told[which] = np.load(Path(exchange) / f"{which}.npy")
    return told


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--peers", type=Path)
    asked = parser.parse_args()
    data = read(asked.data)
    half = np.random.default_rng(asked.seed).random(len(data)) < 0.5
    past, later = data.take(half), data.take(~half)
    fit = fit_effects(past, seed=asked.seed)
    print(f"learned on {len(past):,}, valued on {len(later):,}; {fit.model.note}", file=sys.stderr)
    best = int(np.argmax([past.kept[past.arm == arm].mean() for arm in range(3)]))
    targets = {
        "nobody": np.eye(3)[np.zeros(len(later), int)],
        "random third each": np.full((len(later), 3), 1 / 3),
        f"best single arm ({ARMS[best]})": np.eye(3)[np.full(len(later), best)],
        f"Rekindle ({fit.model.learner})": greedy(fit.model.effects(later.seen).mean, later.eligible),
    }
    if asked.peers is not None:
        for name, effects in peers(past, later, asked.peers).items():
            targets[name] = greedy(effects, later.eligible)
    q = outcome_model(later, seed=asked.seed)
    single = targets[f"best single arm ({ARMS[best]})"]
    print("| policy | none / mens / womens | IPS | DR | DR, more than the best single arm |\n|---|---|---|---|---|")
    for name, target in targets.items():
        found = value(later, target, q).values
        shares = " / ".join(f"{share:.0%}" for share in target.mean(axis=0))
        more = gain(later, target, single, q)
        print(f"| {name} | {shares} | {found[Estimator.IPS]} | {found[Estimator.DR]} | {more} |")


if __name__ == "__main__":
    main()
