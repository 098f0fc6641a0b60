"""Product analytics: Snowplow, PostHog, Amplitude, Mixpanel."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from features.connectors.edge import Connector, Edge, Item, Note, person_key, required
from features.connectors.row import Row
from features.connectors.tracked import tracked
from features.events import InvalidItem

LAG = timedelta(minutes=15)
LAG_REASON = "minutes; 15 is our choice, on the safe side"
_TOOL = "its property `tool`, else what event or app names"
_YIELDS = "the kind that the words of the event's name say; `task` where `outcome` is completed and a workflow named"
_CLOCKS = "client clocks drift: the corrected time is when it occurred, and never after it was received"
_SYSTEM = "are the vendor's own events ($…): left out"


def read_snowplow(row: Row, edge: Edge) -> Iterator[Item]:
    """An enriched event; what it says of itself stands in a field whose name is its schema."""
    at = row.instant("derived_tstamp", "dvce_created_tstamp", "collector_tstamp")
    if at is None:
        raise InvalidItem("derived_tstamp", "is required")
    yield from tracked(
        edge,
        principal=person_key(row.text("user_id")),
        names=(row.text("event_name"), row.text("event")),
        at=at,
        received=row.instant("collector_tstamp", "etl_tstamp"),
        key=(required(row.text("event_id"), "event_id"),),
        properties=row.under(next((name for name in row.fields if name.startswith("unstructevent")), "unstruct_event")),
        labels=(row.text("app_id"),),
    )


def read_posthog(row: Row, edge: Edge) -> Iterator[Item]:
    """An event of PostHog."""
    name = row.text("event") or ""
    if name.startswith("$"):
        yield Note(_SYSTEM)
        return
    at = row.instant("timestamp")
    if at is None:
        raise InvalidItem("timestamp", "is required")
    yield from tracked(
        edge,
        principal=person_key(_identified(row.text("distinct_id"), row.under("properties"))),
        names=(name,),
        at=at,
        received=row.instant("created_at"),
        key=(required(row.text("uuid", "id"), "uuid"),),
        properties=row.under("properties"),
        role=row.under("person").under("properties").word("role"),
    )


def read_amplitude(row: Row, edge: Edge) -> Iterator[Item]:
    """An event of Amplitude's export."""
    if (row.text("event_type") or "").startswith(("$", "[Amplitude]")):
        yield Note(_SYSTEM)
        return
    at = row.instant("event_time", "client_event_time")
    if at is None:
        raise InvalidItem("event_time", "is required")
    yield from tracked(
        edge,
        principal=person_key(row.text("user_id")),
        names=(row.text("event_type"),),
        at=at,
        received=row.instant("server_upload_time", "server_received_time"),
        key=(_amplitude_key(row),),
        properties=row.under("event_properties"),
        labels=(row.text("platform"),),
        role=row.under("user_properties").word("role"),
    )


def amplitude_revision(row: Row) -> tuple[str, datetime] | None:
    """Which event it is, and when it was processed."""
    at = row.instant("processed_time", "server_upload_time")
    return None if at is None else (_amplitude_key(row), at)


def _amplitude_key(row: Row) -> str:
    inserted = row.text("$insert_id")
    if inserted is None:
        return required(row.text("uuid"), "$insert_id")
    return f"{row.text('device_id') or ''} {inserted}"  # unique within a device


def read_mixpanel(row: Row, edge: Edge) -> Iterator[Item]:
    """An event of Mixpanel's raw export."""
    name = row.text("event") or ""
    if name.startswith("$"):
        yield Note(_SYSTEM)
        return
    properties = row.under("properties")
    at = properties.epoch("time", per_second=1)
    if at is None:
        raise InvalidItem("properties/time", "is required")
    received = properties.epoch("$mp_api_timestamp_ms", per_second=1000) or properties.epoch(
        "mp_processing_time_ms", per_second=1000
    )
    yield from tracked(
        edge,
        principal=person_key(properties.text("$user_id") or _identified(properties.text("distinct_id"), properties)),
        names=(name,),
        at=at,
        received=received,
        key=(_mixpanel_key(row),),
        properties=properties,
    )


def _identified(distinct_id: str | None, properties: Row) -> str | None:
    """The distinct id where it is a person's and not only a device's."""
    if distinct_id is None or distinct_id.startswith("$device:") or distinct_id == properties.text("$device_id"):
        return None
    return distinct_id


def mixpanel_revision(row: Row) -> tuple[str, datetime] | None:
    """Which event it is, and when it was processed."""
    at = row.under("properties").epoch("mp_processing_time_ms", per_second=1000)
    return None if at is None else (_mixpanel_key(row), at)


def _mixpanel_key(row: Row) -> str:
    """Source: Mixpanel deduplicates by event, time, distinct_id and $insert_id together."""
    properties = row.under("properties")
    inserted = required(properties.text("$insert_id"), "properties/$insert_id")
    return " ".join((row.text("event") or "", properties.text("distinct_id") or "", inserted))


CONNECTORS = (
    Connector(
        name="snowplow",
        title="Snowplow enriched events (JSON, NDJSON)",
        vendor="Snowplow",
        tool=_TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields=_YIELDS,
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=(
            _CLOCKS,
            "derived_tstamp is the corrected time; times without a zone are UTC",
            "available at the collector",
        ),
        marks=(("event_id", "collector_tstamp", "event"),),
        unread=("user_ipaddress", "page_url", "page_title", "page_referrer", "useragent"),
        columns="app_id platform etl_tstamp collector_tstamp dvce_created_tstamp dvce_sent_tstamp derived_tstamp event "
        "event_id event_vendor event_name event_format event_version event_fingerprint txn_id name_tracker v_tracker "
        "v_collector v_etl user_id domain_userid domain_sessionid domain_sessionidx network_userid true_tstamp contexts "
        "derived_contexts unstruct_event* contexts_* geo_country geo_region geo_city geo_zipcode os_timezone br_lang",
        read=read_snowplow,
    ),
    Connector(
        name="posthog",
        title="PostHog events (JSON, NDJSON)",
        vendor="PostHog",
        tool=_TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields=_YIELDS,
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=(
            _CLOCKS,
            "available when ingested (created_at)",
            "$pageview and its like are left out and counted",
            "a distinct_id that is the $device_id is nobody's",
        ),
        marks=(("uuid", "event", "distinct_id"), ("id", "event", "distinct_id", "properties")),
        containers=("results",),
        unread=("elements", "elements_chain", "elements_hash", "ip"),
        columns="uuid id event distinct_id timestamp created_at properties person person_id team_id site_url",
        read=read_posthog,
    ),
    Connector(
        name="amplitude",
        title="Amplitude raw export (NDJSON)",
        vendor="Amplitude",
        tool=_TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields=_YIELDS,
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=(
            "an $insert_id that comes again on a device is one event: the latest processed counts, whatever the files' order",
            "available at its server upload time",
            "a device without a user is nobody's: left out and counted",
            _CLOCKS,
        ),
        marks=(("event_type", "amplitude_id", "event_time"),),
        unread=("ip_address", "location_lat", "location_lng", "idfa", "adid", "city"),
        columns="$insert_id insert_id uuid app amplitude_id user_id device_id session_id event_id event_type "
        "amplitude_event_type client_event_time client_upload_time server_received_time server_upload_time event_time "
        "processed_time user_creation_time event_properties user_properties groups group_properties platform library data "
        "data_type device_type device_family device_carrier device_brand device_manufacturer device_model os_name "
        "os_version language country region dma start_version version_name paying is_attribution_event "
        "amplitude_attribution_ids sample_rate schema $schema global_user_properties partner_id plan source_id",
        revision=amplitude_revision,
        read=read_amplitude,
    ),
    Connector(
        name="mixpanel",
        title="Mixpanel raw export (NDJSON)",
        vendor="Mixpanel",
        tool=_TOOL,
        lag=LAG,
        lag_reason=LAG_REASON,
        yields=_YIELDS,
        kinds=None,  # a tracking plan is the sender's own: what it has sent
        traps=(
            "`time` is in seconds; duplicates by event, person and $insert_id: the latest processed counts",
            "available when the API received it",
            "distinct_id may be a device ($device:… or the $device_id): then it is nobody's, left out and counted",
        ),
        marks=(("event", "properties", "properties/distinct_id", "properties/time"),),
        columns="event properties",
        revision=mixpanel_revision,
        read=read_mixpanel,
    ),
)
