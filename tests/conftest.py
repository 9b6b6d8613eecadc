"""Settings of all tests: in CI, properties are held against the same examples each time."""

import os

import hypothesis

hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    hypothesis.settings.load_profile("ci")
