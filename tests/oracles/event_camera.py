"""One pixel of an event camera at a time, in plain Python."""

from __future__ import annotations


def pixel_events(
    log: list[float],
    times: list[int],
    theta_on: float,
    theta_off: float,
    refractory: int,
) -> list[tuple[int, int]]:
    """Returns (time, polarity) of every event of a pixel; its log intensity is piecewise linear."""
    reference = log[0]
    quiet_until = None
    events = []
    for k in range(1, len(log)):
        while True:
            if log[k] >= reference + theta_on:
                level, polarity = reference + theta_on, 1
            elif log[k] <= reference - theta_off:
                level, polarity = reference - theta_off, 0
            else:
                break
            reference = level
            share = (level - log[k - 1]) / (log[k] - log[k - 1])
            time = round(times[k - 1] + share * (times[k] - times[k - 1]))
            if quiet_until is None or time >= quiet_until:
                events.append((time, polarity))
                quiet_until = time + refractory
    return events
