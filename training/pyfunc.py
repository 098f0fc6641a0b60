"""The registered model as MLflow's own tools run it: feature columns in, risk by horizon out. Loaded by MLflow as code."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

from features.catalogue import CATEGORIES, NUMERIC
from features.scorer import HORIZONS_DAYS, SCORER_ARTIFACT, Scorer


class RiskModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # mlflow is untyped here
    """Risk at each horizon of a frame of features."""

    def load_context(self, context: Any) -> None:
        """Read the scorer that was logged with the model."""
        self._scorer = Scorer.load(Path(context.artifacts[SCORER_ARTIFACT]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """`risk_H` for each horizon, one row per row of features. context, params: MLflow's, not used."""
        del context, params
        vectors = model_input[[feature.name for feature in NUMERIC]].to_numpy(np.float64)
        categories = model_input[[feature.name for feature in CATEGORIES]].fillna("").astype(str).to_numpy().tolist()
        risk = self._scorer.score(vectors, categories).risk
        return pd.DataFrame(risk, columns=[f"risk_{days}" for days in HORIZONS_DAYS])


mlflow.models.set_model(RiskModel())
