"""The two daemons that ``twistd`` offers; nothing of the package is imported until one is chosen."""

from twisted.application.service import ServiceMaker

antigravity = ServiceMaker(
    "Antigravity Gateway",
    "gateway.tap",
    "A gateway for the Gemini API over a pool of Google credentials.",
    "antigravity",
)

antigravity_simulator = ServiceMaker(
    "Antigravity simulator",
    "gateway.simulator.tap",
    "A stand-in for Google's Gemini backends, for tests.",
    "antigravity-simulator",
)
