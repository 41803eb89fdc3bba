"""The bench's own judgement: it must see a wrong answer, a fallen ratio and a missing relay."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
from twisted.trial.unittest import SynchronousTestCase

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "bench"))

import aims  # noqa: E402
import answers  # noqa: E402
import awake  # noqa: E402
import checks  # noqa: E402
import faces  # noqa: E402
import figures  # noqa: E402
import guard  # noqa: E402
import http1  # noqa: E402
import processes  # noqa: E402
import publish  # noqa: E402
import shapes  # noqa: E402
import throughput  # noqa: E402
import upstream  # noqa: E402


def board(**rows: dict[str, list[float]]) -> figures.Figures:
    """Return the figures of a run with these rows."""
    words = dict.fromkeys(("cores", "cpu", "kernel", "python", "openssl", "time"), "1")
    machine = {**words, "load_average": 0.1}
    found = figures.Figures(machine, {"streams": 1000, "rounds": {"rounds": 3}})
    found.subjects = {name: figures.Subject(f"{name} 1", "relays") for name in ("gateway", "bare", "nginx")}
    for kind, values in rows.items():
        found.rows[kind.replace("_", "-")] = figures.Row(values)
    return found


class RatioTests(SynchronousTestCase):
    """Ratios between two relays of one run."""

    def test_a_ratio_is_taken_round_by_round(self) -> None:
        """The median of the ratios is not the ratio of the medians."""
        row = figures.Row({"bare": [10.0, 20.0, 90.0], "gateway": [10.0, 5.0, 30.0]})
        self.assertEqual(row.ratios("bare", "gateway"), figures.Spread(3.0, 1.0, 4.0))

    def test_rounds_that_do_not_pair_give_no_ratio(self) -> None:
        """A relay that missed a round has no ratio."""
        row = figures.Row({"bare": [10.0, 20.0], "gateway": [10.0]})
        self.assertIsNone(row.ratios("bare", "gateway"))

    def test_a_figure_that_failed_once_does_not_count(self) -> None:
        """The rounds before the failure are dropped, and the reason stays."""
        found = board()
        found.add("cpu-unary", "nginx", 20.0)
        found.fail("cpu-unary", "nginx", "status 502")
        self.assertEqual(found.row("cpu-unary"), figures.Row({}, {"nginx": "status 502"}))

    def test_a_wrong_answer_of_the_gateway_is_always_wrong(self) -> None:
        """Of the baseline only where a ratio needs it, and of the others never: they are listed as missing."""
        found = board()
        for kind in ("cpu-unary", "crowd-p50"):
            for name in ("gateway", "bare", "nginx"):
                found.fail(kind, name, "status 502")
        self.assertEqual([one.partition(",")[0] for one in found.wrong()], ["gateway", "bare", "gateway"])


class GuardTests(SynchronousTestCase):
    """The comparison with the recorded ratios."""

    def judged(self, **ratios: float) -> list[bool]:
        """Return what is said of a run whose recorded ratio is 4."""
        now = {kind.replace("_", "-"): ratio for kind, ratio in ratios.items()}
        return [good for good, _ in guard.judge(now, {"cpu-unary": 4.0})]

    def test_a_ratio_nineteen_percent_behind_passes(self) -> None:
        """Noise is no regression."""
        self.assertEqual(self.judged(cpu_unary=4.0 * 0.81), [True])

    def test_a_ratio_twenty_one_percent_behind_fails(self) -> None:
        """More than a fifth is one."""
        self.assertEqual(self.judged(cpu_unary=4.0 * 0.79), [False])

    def test_a_ratio_that_was_not_measured_fails(self) -> None:
        """What is missing cannot have passed."""
        self.assertEqual(self.judged(cpu_burst=9.0), [False])

    def test_only_the_gateways_cpu_is_guarded(self) -> None:
        """Times and the other relays' CPU are not."""
        values = {"bare": [8.0], "gateway": [2.0], "nginx": [1.0]}
        found = guard.ratios(board(cpu_unary=values, unary_p50=values))
        self.assertEqual(found, {"cpu-unary": 4.0})

    def test_the_recorded_ratios_are_of_kinds_that_are_measured(self) -> None:
        """A kind that is renamed is renamed in the file."""
        recorded = msgspec.json.decode(guard.RECORDED.read_bytes(), type=dict[str, float])
        self.assertEqual(set(recorded), {"cpu-unary", "cpu-burst", "cpu-paced", "cpu-tls"})


class PublishTests(SynchronousTestCase):
    """The page with the figures."""

    def test_what_was_written_by_hand_stays(self) -> None:
        """Only what stands between the marks is replaced, and a second time gives the same."""
        page = f"above\n\n{publish.BEGIN}\n\nold\n\n{publish.END}\n\nbelow\n"
        once = publish.replaced(page, "new")
        self.assertEqual(once, f"above\n\n{publish.BEGIN}\n\nnew\n\n{publish.END}\n\nbelow\n")
        self.assertEqual(publish.replaced(once, "new"), once)

    def test_a_page_without_marks_is_refused(self) -> None:
        """Nothing is overwritten by guess."""
        self.assertRaises(ValueError, publish.replaced, "above\nbelow\n", "new")

    def test_the_documentation_has_the_marks(self) -> None:
        """The page that is published can take figures."""
        page = (publish.DOCS / "performance.rst").read_text("utf-8")
        self.assertIn("new figures", publish.replaced(page, "new figures"))

    def test_a_relay_that_failed_is_shown_with_its_reason(self) -> None:
        """Nobody is dropped silently."""
        found = board(cpu_unary={"bare": [8.0], "gateway": [2.0]})
        found.subjects["nginx"] = figures.Subject("", "relays", "there is no nginx")
        found.fail("cpu-burst", "bare", "status 502\nlog")
        text = publish.text(found)
        self.assertIn("* nginx: there is no nginx\n", text)
        self.assertIn("* bare, CPU per SSE event, burst: status 502", text)
        self.assertIn("* - nginx\n     - \N{EM DASH}\n", text)

    def test_a_picture_shows_each_relay_once(self) -> None:
        """Also one whose figure is nothing."""
        drawn = publish.picture(board(peak_20mb={"gateway": [40.0, 50.0], "nginx": [0.0]}), ["peak-20mb"])
        self.assertEqual([drawn.count(f">{name}</text>") for name in ("gateway", "nginx")], [1, 1])


class AnswerTests(SynchronousTestCase):
    """What counts as the right answer."""

    def test_an_answer_left_in_its_envelope_is_wrong(self) -> None:
        """The client must find candidates at the top."""
        plain = msgspec.json.encode(shapes.unary())
        check = checks.UnaryCheck(faces.gemini())
        check.piece(plain)
        self.assertEqual(check.end(), 0)
        self.assertRaises(msgspec.ValidationError, faces.gemini().says, shapes.wrap(plain), shapes.unary())

    def test_events_out_of_order_are_wrong(self) -> None:
        """Each has its number in its text."""
        first, second = shapes.events(2)
        check = checks.StreamCheck(faces.gemini(), 2)
        self.assertRaises(http1.BadAnswer, check.piece, shapes.sse(second, False) + shapes.sse(first, False))

    def test_a_stream_that_ends_early_is_wrong(self) -> None:
        """All events have to come."""
        check = checks.StreamCheck(faces.gemini(), 2)
        check.piece(shapes.sse(shapes.events(2)[0], False))
        self.assertRaises(http1.BadAnswer, check.end)

    def test_a_chat_completion_says_the_same_text_and_finish(self) -> None:
        """Another text, or none of the end, is wrong."""
        due = shapes.events(1)[0]
        text = due.candidates[0].content.parts[0].text
        says = faces.openai({}).says

        def completion(text: str, finish: str | None) -> bytes:
            return msgspec.json.encode({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})

        asked = [(text, "stop"), (text, None), (text + " ", "stop")]
        self.assertEqual([says(completion(*one), due) for one in asked], [True, False, False])

    def test_wrk_must_have_read_whole_answers(self) -> None:
        """Few bytes, or a status of an error, are no throughput."""
        said = "  1000 requests in 1.00s, {} read\n{}Requests/sec:   999.50\n"
        self.assertEqual(throughput.read(said.format("2.00MB", ""), 2048), 999.5)
        for wrong in (said.format("200.00KB", ""), said.format("2.00MB", "  Non-2xx or 3xx responses: 7\n"), "nothing"):
            self.assertRaises(processes.StartError, throughput.read, wrong, 2048)


class UpstreamTests(SynchronousTestCase):
    """The stand-in refuses what did not arrive as it was sent."""

    def test_a_request_may_be_encoded_anew_but_not_changed(self) -> None:
        """Values count, bytes do not."""
        sent = shapes.request()
        spaced = msgspec.json.format(msgspec.json.encode(sent), indent=1)
        changed = msgspec.json.encode({**sent, "systemInstruction": {"parts": [{"text": "Else."}]}})
        arrived = [shapes.carries_request(raw, shapes.UNARY_MODEL) for raw in (spaced, changed)]
        self.assertEqual(arrived, [True, False])

    def test_an_image_has_to_arrive_whole(self) -> None:
        """The model's name says how large it is."""
        body = shapes.request_body(1)
        self.assertEqual(len(body), 1_000_000)
        self.assertTrue(shapes.carries_request(body, "image-1"))
        self.assertFalse(shapes.carries_request(shapes.request_body(), "image-1"))

    def test_a_chunked_body_is_read_to_its_end(self) -> None:
        """And is None until it is whole."""
        raw = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nnext"
        self.assertEqual(upstream.dechunked(raw, 0), (b"abcde", len(raw) - 4))
        self.assertIsNone(upstream.dechunked(raw[:12], 0))

    def test_an_event_says_when_it_was_sent(self) -> None:
        """The stamp is all that tells one event of an endless stream from another."""
        at_ns = 1_234_567_890
        event = http1.EventReader().feed(shapes.sse(shapes.clocked(at_ns), False))
        self.assertTrue(faces.gemini().says(event[0], shapes.clocked(at_ns)))
        self.assertFalse(faces.gemini().says(event[0], shapes.clocked(at_ns + 1)))
        self.assertEqual(answers.clock_chunk(at_ns, False).count(shapes.stamp(at_ns).encode()), 1)


class AwakeTests(SynchronousTestCase):
    """What keeps processors awake."""

    def test_each_processor_is_kept_awake_by_a_process_of_the_lowest_class(self) -> None:
        """One each, as long as it is wanted."""
        with awake.processors() as spinning:
            classes = [os.sched_getscheduler(one) for one in spinning]
            places = [os.sched_getaffinity(one) for one in spinning]
        self.assertEqual(set(classes), {os.SCHED_IDLE})
        self.assertEqual(sorted(places, key=min), [{one} for one in sorted(os.sched_getaffinity(0))])
        for one in spinning:
            self.assertRaises(ProcessLookupError, os.kill, one, 0)


class AimTests(SynchronousTestCase):
    """What was aimed at, beside what was measured."""

    def test_an_aim_is_judged_in_its_direction(self) -> None:
        """Four times cheaper is enough and six is good; a wait of 21 ms is too long."""
        found = board(
            cpu_unary={"bare": [50.0], "gateway": [10.0]}, wait_20mb={"gateway": [21.0]}, start={"gateway": [0.4]}
        )
        judged = [(line[3], line[4]) for line in aims.lines(found)]
        self.assertEqual(judged, [("5.00", "yes"), ("21.00", "no"), ("0.40", "good")])

    def test_fewer_streams_say_nothing_of_five_thousand(self) -> None:
        """A short run's crowd is not judged."""
        self.assertEqual(aims.lines(board(crowd_cpu={"gateway": [0.1]})), [])
