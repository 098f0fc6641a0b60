import pytest

from features.history import MAX_WORKFLOWS
from features.tools import SHIPPED, ToolProfile, load_tools

PROFILES = load_tools()


@pytest.mark.parametrize("tool", PROFILES)
def test_a_shipped_profile_is_usable(tool):
    profile = PROFILES[tool]
    assert profile.title
    assert profile.meaningful_kinds
    assert profile.opportunity_kinds
    assert len(profile.high_value_workflows) <= MAX_WORKFLOWS
    assert profile.any_workflow or len(profile.high_value_workflows) >= 3
    assert all(use_case.endswith(".") for use_case in profile.high_value_workflows.values())
    assert set(profile.meaningful_kinds) <= {"task", "accepted"}  # a login is never meaningful


@pytest.mark.parametrize("tool", ["m365_copilot", "github_copilot", "claude", "einstein", "now_assist"])
def test_the_tools_of_the_design_are_shipped(tool):
    assert tool in PROFILES


@pytest.fixture
def override(tmp_path):
    def load(text):
        path = tmp_path / "tools.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_tools(path)

    return load


def test_a_missing_file_of_overrides_changes_nothing(tmp_path):
    assert load_tools(tmp_path / "tools.yaml") == PROFILES


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "tools: {}\n", "tools:\n", "defaults:\ntools: {}\n"])
def test_an_empty_file_changes_nothing(override, text):
    assert override(text) == PROFILES


def test_a_new_tool_takes_the_shipped_defaults(override):
    profile = override("tools: {mine: {title: Mine, any_workflow: true}}")["mine"]
    assert profile.silence_days == 28


def test_an_override_replaces_the_shipped_profile(override):
    tools = override("tools: {claude: {title: Ours, any_workflow: true, silence_days: 14}}")
    assert (tools["claude"].title, tools["claude"].silence_days) == ("Ours", 14)
    assert tools["cursor"] == PROFILES["cursor"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("{title: X}", "high_value_workflows"),
        ("{title: X, high_value_workflows: {a: A., b: B., c: C., d: D., e: E., f: F.}}", "at most five"),
        ("{title: X, any_workflow: true, meaningful_kinds: [login]}", "meaningful_kinds"),
        ("{title: X, any_workflow: true, silence_days: 0}", "silence_days"),
        ("{title: X, any_workflow: true, quick_close_seconds: 0}", "quick_close_seconds"),
        ("{title: X, any_workflow: true, colour: red}", "colour"),
        ("{any_workflow: true}", "title: is required"),
        ("null", "title: is required"),
        ("[1, 2]", "x"),
        ("text", "x"),
    ],
)
def test_a_bad_profile_is_refused_naming_file_tool_and_field(override, fields, said):
    with pytest.raises(ValueError, match=r"tools\.yaml: tool x: ") as caught:
        override(f"tools: {{x: {fields}}}")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "just text", "tools: [1]", "tools: {a: b", "tools: !!python/object:os.system {}", "\t",
             "defaults: [1]\ntools: {}", b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_broken_file_is_refused_by_name_in_one_line(override, text):
    with pytest.raises(ValueError, match=r"tools\.yaml: ") as caught:
        override(text)
    assert "\n" not in str(caught.value)


def test_the_shipped_file_stands_beside_its_module():
    assert SHIPPED.name == "tools.yaml"
    assert set(ToolProfile.model_fields) >= {"silence_days", "quick_close_seconds"}
