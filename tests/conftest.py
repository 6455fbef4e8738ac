"""Settings for all tests."""

from hypothesis import settings

# A test has no time limit: on a busy machine the usual 200 milliseconds an example say nothing about the code.
settings.register_profile("leakyrelu", deadline=None)
settings.load_profile("leakyrelu")
