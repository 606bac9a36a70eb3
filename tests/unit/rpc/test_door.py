"""Calls that are refused before they are read, on an ASGI server of which each step is seen."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fakes.trust_bundles import FixedBundles
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from issuer.core.admission import SHORT_WAIT, STANDING_QUEUE, FairQueue, Limits
from issuer.core.spiffe_id import SpiffeId
