"""The names of the protocol's headers, in lower case (part C.1)."""

from __future__ import annotations

from typing import Final

SDK: Final = "x-inngest-sdk"
"""Whoever answers with it is an SDK; a 2xx without it comes from something else."""
FRAMEWORK: Final = "x-inngest-framework"
REQ_VERSION: Final = "x-inngest-req-version"
NO_RETRY: Final = "x-inngest-no-retry"
RETRY_AFTER: Final = "retry-after"
SIGNATURE: Final = "x-inngest-signature"
SERVER_KIND: Final = "x-inngest-server-kind"
EXPECTED_SERVER_KIND: Final = "x-inngest-expected-server-kind"
SYNC_KIND: Final = "x-inngest-sync-kind"
EVENT_ID_SEED: Final = "x-inngest-event-id-seed"
ENV: Final = "x-inngest-env"
RUN_ID: Final = "x-run-id"
REQUEST_ID: Final = "x-request-id"
JOB_ID: Final = "x-inngest-job-id"
GENERATION_ID: Final = "x-inngest-generation-id"
STEP_ID: Final = "x-inngest-step-id"
FORCE_STEP_PLAN: Final = "x-inngest-force-step-plan"
