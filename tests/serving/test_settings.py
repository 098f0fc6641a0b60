"""Settings: read once, checked, handed on."""

from pathlib import Path

import pytest

from serving.settings import Settings


def test_every_setting_has_its_variable() -> None:
    settings = Settings.from_environment(
        {
            "REKINDLE_HOME": "/srv/rekindle",
            "REKINDLE_PORT": "8080",
            "REKINDLE_EPSILON": "0.2",
            "REKINDLE_REDIS": "cache:6379,db=1",
            "PATH": "/bin",
        }
    )

    assert (settings.home, settings.port, settings.epsilon) == (Path("/srv/rekindle"), 8080, 0.2)
    assert settings.redis == "cache:6379,db=1"
    assert settings.database_url == "sqlite:////srv/rekindle/log.db"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REKINDLE_PORT", "http"),
        ("REKINDLE_PORT", "0"),
        ("REKINDLE_HOST", "localhost"),
        ("REKINDLE_EPSILON", "0"),
        ("REKINDLE_EPSILON", "1.5"),
        ("REKINDLE_HOLDOUT_SHARE", "1"),
        ("REKINDLE_SEAT_VALUE", "nan"),
        ("REKINDLE_MAX_BATCH", "ten"),
        ("REKINDLE_HOME", ""),
    ],
)
def test_a_wrong_setting_names_its_variable_and_what_came(variable: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{variable}: .*{value}"):
        Settings.from_environment({variable: value})


def test_another_process_reads_the_same_settings() -> None:
    settings = Settings(home=Path("relative"), redis="cache:6379", max_batch=10, pseudonym_key="secret")

    assert Settings.from_environment(settings.to_environment()) == settings
    assert settings.home.is_absolute()


def test_a_secret_is_not_shown() -> None:
    assert "secret" not in repr(Settings(pseudonym_key="secret"))
