"""How a job stays exactly once: coordinator, mapper and owner as pure state machines.

`on_event(now, event) -> list[Effect]`; no socket, clock, thread, random number, log or Arrow inside. The worker's
runtime is a thin shell that turns frames and calls into events and carries effects out; `tests/sim` runs the same
machines over a simulated network and clock. The reasons for the rules are in `docs/adr/`.

    values       what messages, events and effects are made of: attempts, placements, figures, faults, timers
    messages     what machines say to each other, and its encoding
    events       what a shell tells a machine
    effects      what a machine asks of its shell
    coordinator  one job: who is in it, the plan, placement, winners, the end
    participant  one member of one job: binds the epoch, and holds a mapper and an owner
"""
