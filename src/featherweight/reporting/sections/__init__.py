"""The sections of the report, in the order of the page; each module registers one."""

from featherweight.reporting.sections import (  # noqa: F401, I001 - the order of the page
    verdict,
    notes,
    use,
    latency,
    detection,
    adapting,
    ghost,
    searching,
    measured,
    training,
    layers,
    advice,
    data,
    time,
    reproduce,
)
