#!/bin/sh
# Schemathesis against the running service's own OpenAPI document, in an environment of its own.
#   REKINDLE_KEY=rk_… benchmarks/fuzz_api.sh [URL]
set -eu
url="${1:-http://127.0.0.1:3000}"
folder="${FUZZ_VENV:-$(mktemp -d)}"
[ -x "$folder/bin/schemathesis" ] || { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet 'schemathesis==4.32.*'; }
exec "$folder/bin/schemathesis" run "$url/openapi.json" --header "Authorization: Bearer $REKINDLE_KEY" \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --max-examples "${FUZZ_EXAMPLES:-50}" --generation-database none --suppress-health-check filter_too_much
