"""Connectors: each turns one source into batches of seats and events (features.events.Batch).

A connector qualifies and pseudonymises at once, derives stable event ids (importing twice changes nothing), states its
source's lag, and sets aside what it cannot read, saying where it stood.
"""
