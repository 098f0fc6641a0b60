import pytest
import yaml

from features.licences import Licences, Price, ToolLicences, prices_of
from features.tools import load_tools

TOOLS = load_tools()


def test_a_price_of_its_own_goes_before_that_of_all_tools():
    found = prices_of(TOOLS, ["claude=20", "30", "cursor=32USD"])
    assert set(found) == set(TOOLS)
    assert (found["claude"], found["cursor"]) == (Price(20.0, "EUR"), Price(32.0, "USD"))
    assert found["m365_copilot"] == Price(30.0, "EUR")


def test_a_tool_profile_may_have_its_price(tmp_path):
    own = tmp_path / "tools.yaml"
    own.write_text(
        yaml.safe_dump(
            {
                "tools": {
                    "claude": {
                        "title": "Claude",
                        "any_workflow": True,
                        "licence_price": 18.5,
                        "licence_currency": "CHF",
                    },
                    "cursor": {"title": "Cursor", "any_workflow": True, "licence_price": 20},
                }
            }
        )
    )
    tools = load_tools(own)
    assert prices_of(tools) == {"claude": Price(18.5, "CHF"), "cursor": Price(20.0, "EUR")}
    assert prices_of(tools, ["claude=1"], currency="USD")["claude"] == Price(1.0, "USD")
    assert tools["claude"].feature_hash == tools["claude"].model_copy(update={"licence_price": 99.0}).feature_hash


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("-1", "0 or more"),
        ("copilots=3", "expected a tool of"),
        ("claude=", "expected AMOUNT, TOOL=AMOUNT"),
        ("much", "expected AMOUNT"),
        ("claude=3euro", "expected AMOUNT"),
        ("inf", "expected AMOUNT"),
        ("nan", "expected AMOUNT"),
    ],
)
def test_what_is_no_price_is_refused(asked, said):
    with pytest.raises(ValueError, match=f"licence-price: .*{said}"):
        prices_of(TOOLS, [asked])


def test_a_currency_is_three_letters():
    with pytest.raises(ValueError, match="currency: expected three capital letters"):
        prices_of(TOOLS, ["30"], currency="€")


def test_money_is_summed_by_currency_and_what_is_not_in_it_is_named():
    tools = (
        ToolLicences("claude", 100, 20, Price(20.0, "EUR")),
        ToolLicences("m365_copilot", 300, 50, Price(30.0, "EUR")),
        ToolLicences("cursor", 40, 20, Price(32.0, "USD")),
        ToolLicences("codex", 40, None, Price(32.0, "USD")),
        ToolLicences("aider", 40, 20, None),
    )
    found = Licences(520, 110, (), tools)
    assert found.yearly == {"EUR": 20 * 20 * 12 + 50 * 30 * 12, "USD": 20 * 32 * 12}
    assert found.left_out == ("codex", "aider")
    assert found.one_price is None
