"""The simulator's faults: what each action does to an answer, and when a rule acts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed

from gateway.simulator import steps as s
from gateway.simulator.action import Shape
from gateway.simulator.actions import compose
from gateway.simulator.answer_actions import Early, Gzip, Stall, Status, Truncate
from gateway.simulator.reasons import REASONS, Scene, spelled
from gateway.simulator.rules import Match, Probe, Rule, Rules
from gateway.simulator.stream_actions import FRAMINGS, Endless, Events
from tests.test_simulator import FLASH, Case, said, text_of

WHOLE = f"{FLASH}:generateContent"
STREAM = f"{FLASH}:streamGenerateContent?alt=sse"


class ControlTests(Case):
    def test_a_fault_is_set_listed_and_cleared(self) -> None:
        """By the control route, with a number and counts."""
        rule = {"do": {"action": "status", "code": 503}, "times": 1, "match": {"verb": "generateContent"}}
        self.assertEqual(self.post("/_simulator/faults", rule), {"id": 1})
        self.refused(WHOLE, said("Hi"), 503)
        self.post(WHOLE, said("Hi"))
        listed = json.loads(self.ask("GET", "/_simulator/faults")[2])["faults"]
        self.assertEqual(listed, [{"id": 1, "seen": 2, "acted": 1, **rule}])
        self.assertEqual(json.loads(self.ask("DELETE", "/_simulator/faults/1")[2]), {"removed": 1})
        self.assertEqual(json.loads(self.ask("DELETE", "/_simulator/faults")[2]), {"removed": 0})

    def test_a_wrong_fault_is_refused_with_its_place(self) -> None:
        """400 and a sentence that says where."""
        for wrong, where in (
            ({"do": {"action": "explode"}}, "$.do.action"),
            ({"do": {"action": "stall", "second": 1}}, "second"),
            ({"do": {"action": "status", "reason": "NO"}}, "PER_DAY"),
            ({"do": {"action": "framing", "use": ["lf"]}}, "crlf"),
            ({"do": {"action": "done"}, "form": 1}, "form"),
            ({}, "do"),
        ):
            code, _, content = self.ask("POST", "/_simulator/faults", wrong)
            self.assertEqual(code, 400)
            self.assertIn(where, json.loads(content)["error"])

    def test_requests_state_quota_and_tokens_have_routes(self) -> None:
        """The same as the methods of the object."""
        self.post("/_simulator/quota", {"requests": 1, "window": 10})
        token = self.post("/_simulator/tokens", {"issue": "alice"})["access_token"]
        self.post(WHOLE, said("Hi"))
        self.refused(WHOLE, said("Hi"), 429)
        found = json.loads(self.ask("GET", "/_simulator/requests?face=aistudio")[2])["requests"]
        self.assertEqual([entry["status"] for entry in found], [200, 429])
        later = json.loads(self.ask("GET", f"/_simulator/requests?face=aistudio&after={found[0]['id']}")[2])["requests"]
        self.assertEqual([entry["status"] for entry in later], [429])
        state = json.loads(self.ask("GET", "/_simulator/state")[2])
        self.assertEqual((state["tokens_valid"], state["requests_by_credential"]), (1, {"k": 2}))
        self.assertEqual(self.post("/_simulator/tokens", {"expire": "*"})["expired"], 1)
        self.refused("/v1internal:loadCodeAssist", {}, 401, {"authorization": f"Bearer {token}"})
        self.assertEqual(json.loads(self.ask("DELETE", "/_simulator/quota")[2]), {"removed": 1})
        self.assertEqual(json.loads(self.ask("DELETE", "/_simulator/requests")[2]), {"removed": 3})
        file = self.post("/_simulator/service-accounts", {"email": "sa@p"})
        self.assertEqual(file["client_email"], "sa@p")


class ReasonTests(Case):
    def test_every_reason_is_sent_as_it_stands(self) -> None:
        """Each name of the table gives its status; JSON bodies have code and status that agree."""
        for name, reason in REASONS.items():
            self.simulator.clear_faults()
            self.simulator.fault(Status(reason=name))
            code, headers, content = self.ask("POST", WHOLE, said("Hi"))
            self.assertEqual((code, headers.getRawHeaders("content-type")), (reason.code, [reason.content_type]))
            if name.isupper() and reason.content_type.startswith("application/json"):
                self.assertEqual(json.loads(content)["error"]["code"], code)

    def test_every_status_has_a_body(self) -> None:
        """400 to 599, named or not."""
        for code in range(400, 600):
            self.simulator.clear_faults()
            self.simulator.fault(Status(code=code))
            self.assertEqual(self.ask("POST", WHOLE, said("Hi"))[0], code)

    def test_a_daily_refusal_says_37_seconds(self) -> None:
        """The quota is the day's, the RetryInfo is not."""
        self.simulator.fault(Status(reason="PER_DAY"))
        details = self.refused(WHOLE, said("Hi"), 429)["details"]
        self.assertIn("PerDay", details[0]["violations"][0]["quotaId"])
        self.assertEqual(details[-1]["retryDelay"], "37s")

    def test_an_exhausted_quota_names_its_end(self) -> None:
        """Delay and time stamp agree with the clock."""
        self.simulator.fault(Status(reason="QUOTA_EXHAUSTED", seconds=3661))
        metadata = self.refused(WHOLE, said("Hi"), 429)["details"][0]["metadata"]
        self.assertEqual(metadata["quotaResetDelay"], "1h1m1s")
        self.assertEqual(metadata["quotaResetTimeStamp"], "2027-01-15T09:01:01Z")
        self.assertEqual([spelled(0.5), spelled(59), spelled(60), spelled(7200)], ["0.500s", "59s", "1m0s", "2h0m0s"])

    def test_a_custom_answer_is_sent(self) -> None:
        """Code, headers, body, and padding."""
        self.simulator.fault(Status(code=418, body={"a": 1}, headers={"Retry-After": "9"}, pad=5000))
        code, headers, content = self.ask("POST", WHOLE, said("Hi"))
        self.assertEqual((code, headers.getRawHeaders("retry-after"), len(content)), (418, ["9"], 5000))
        self.assertEqual(json.loads(content), {"a": 1})

    def test_a_redirect_leads_elsewhere(self) -> None:
        """3xx with a location."""
        self.simulator.add({"do": {"action": "redirect", "location": "http://elsewhere/", "code": 307}})
        code, headers, _ = self.ask("POST", WHOLE, said("Hi"))
        self.assertEqual((code, headers.getRawHeaders("location")), (307, ["http://elsewhere/"]))

    def test_no_content_has_no_content(self) -> None:
        """204 and 304 end with their head."""
        for code in (204, 304):
            self.simulator.clear_faults()
            self.simulator.fault(Status(code=code))
            self.assertEqual(self.ask("POST", WHOLE, said("Hi"))[2], b"")

    def test_an_early_answer_works_without_a_site(self) -> None:
        """In memory it is an ordinary answer."""
        self.simulator.fault(Early(code=413))
        self.assertEqual(self.ask("POST", WHOLE, said("Hi"))[0], 413)

    def test_the_token_endpoint_has_faults_too(self) -> None:
        """The same actions, by the face oauth."""
        self.simulator.fault(Status(code=200, body="junk"), match=Match(face="oauth", credential="alice"))
        form = b"client_id=c&grant_type=refresh_token&refresh_token="
        self.assertEqual(self.ask("POST", "/token", form + b"alice", {})[2], b"junk")
        self.assertEqual(self.ask("POST", "/token", form + b"bob", {})[0], 200)


class StreamFaultTests(Case):
    def raw(self, *actions: dict[str, Any]) -> bytes:
        """The bytes of a stream under these actions."""
        self.simulator.clear_faults()
        self.simulator.add({"do": list(actions)})
        code, _, content = self.ask("POST", STREAM, said("Hi"))
        self.assertEqual(code, 200)
        return content

    def test_framings_say_the_same(self) -> None:
        """Each variant differs on the wire, and a reader of the standard finds the same payloads."""
        plain = self.raw()
        for name in FRAMINGS:
            content = self.raw({"action": "framing", "use": [name]})
            self.assertNotEqual(len(content) - content.count(b"\r"), len(plain) if name != "crlf" else 0, name)
            text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
            blocks = [[line for line in b.split("\n") if line.startswith("data:")] for b in text.split("\n\n")]
            found = ["\n".join(line[5:] for line in block) for block in blocks if block]
            self.assertEqual(len(found), plain.count(b"data: "), name)
            self.assertEqual("".join(text_of(json.loads(each)) for each in found)[:13], "You said: Hi.")

    def test_done_comes_last(self) -> None:
        """After the last event."""
        self.assertTrue(self.raw({"action": "done"}).endswith(b"}\n\ndata: [DONE]\n\n"))

    def test_an_empty_stream_ends_well(self) -> None:
        """Head and end alone."""
        self.assertEqual(self.raw({"action": "empty_stream"}), b"")

    def test_an_error_event_ends_the_stream(self) -> None:
        """Behind two events, with Google's body."""
        blocks = self.raw({"action": "error_event", "after": 2, "reason": "INTERNAL"}).split(b"\n\n")
        self.assertEqual(len(blocks), 4)
        self.assertEqual(json.loads(blocks[2][6:])["error"]["status"], "INTERNAL")
        self.assertGreater(self.raw({"action": "error_event", "then": "continue"}).count(b"data: "), 4)

    def test_an_event_may_be_junk(self) -> None:
        """Broken JSON, any text, bytes that are no UTF-8."""
        self.assertIn(b'\n\ndata: {"candidates": [{"content": {\n\n', self.raw({"action": "not_json"}))
        self.assertTrue(self.raw({"action": "raw_event", "text": "x", "after": 0}).startswith(b"data: x\n\n"))
        self.assertIn(b"data: \xff\n\n", self.raw({"action": "raw_event", "base64": "/w=="}))

    def test_number_and_size_of_events_are_chosen(self) -> None:
        """Numbered texts of the asked size; the last one ends the answer."""
        self.simulator.fault(Events(count=30, event_bytes=50))
        events = self.events(STREAM, said("Hi"))
        self.assertEqual({len(text_of(event)) for event in events}, {50})
        self.assertEqual((len(events), text_of(events[29])[:9]), (30, "Event 30."))
        self.assertEqual(events[-1]["candidates"][0]["finishReason"], "STOP")

    def test_the_content_type_may_be_wrong(self) -> None:
        """On the same answer, removed, or with a page in its place."""
        self.simulator.add({"do": {"action": "content_type"}})
        self.assertEqual(
            self.ask("POST", STREAM, said("Hi"))[1].getRawHeaders("content-type"), ["text/html; charset=UTF-8"]
        )
        self.simulator.clear_faults()
        self.simulator.add({"do": {"action": "content_type", "type": ""}})
        self.assertEqual(self.ask("POST", STREAM, said("Hi"))[1].getRawHeaders("content-type"), None)
        self.assertIn(b"<html>", self.raw({"action": "content_type", "page": True}))

    def test_headers_are_added(self) -> None:
        """Beside the usual ones."""
        self.simulator.add({"do": {"action": "headers", "set": {"Set-Cookie": "a=b"}}})
        self.assertEqual(self.ask("POST", WHOLE, said("Hi"))[1].getRawHeaders("set-cookie"), ["a=b"])

    def test_a_body_may_be_compressed(self) -> None:
        """gzip, event by event; the bomb is in front.  The client here unpacks what it reads."""
        self.assertIn(b"You said", self.raw({"action": "gzip"}))
        bomb = self.raw({"action": "gzip", "bomb": 3_000_000})
        self.assertEqual(bomb[:3_000_000], bytes(3_000_000))
        self.assertLess(self.simulator.requests()[-1].sent, 20_000)

    def test_actions_combine(self) -> None:
        """Several in one rule."""
        content = self.raw({"action": "events", "count": 3}, {"action": "framing", "use": ["crlf"]}, {"action": "done"})
        self.assertEqual(content.count(b"\r\n\r\n"), 4)

    def test_a_truncated_answer_is_seen_by_the_client(self) -> None:
        """Short of Content-Length, or without the final chunk."""
        for path in (WHOLE, STREAM):
            self.simulator.clear_faults()
            self.simulator.fault(Truncate(after=1))
            asked = self.client.post("http://127.0.0.1" + path, headers={"x-goog-api-key": "k"}, json=said("Hi"))
            self.client.flush()
            got = self.successResultOf(asked).content()
            self.client.flush()
            self.assertIsInstance(self.failureResultOf(got).value, ResponseFailed)
            self.assertEqual(self.simulator.requests()[-1].ended, "closed")

    def test_a_reset_before_the_head_leaves_nothing(self) -> None:
        """No response at all."""
        self.simulator.add({"do": {"action": "reset"}})
        asked = self.client.post("http://127.0.0.1" + WHOLE, headers={"x-goog-api-key": "k"}, json=said("Hi"))
        self.client.flush()
        self.assertIsInstance(self.failureResultOf(asked), Failure)
        self.assertEqual(self.simulator.requests()[-1].ended, "reset")


class PaceTests(Case):
    pace = 1.0

    def test_events_come_at_the_pace_of_the_clock(self) -> None:
        """The first at once, each further one after the pause."""
        asked = self.client.post(
            "http://127.0.0.1" + STREAM, headers={"x-goog-api-key": "k"}, json=said("Hi"), unbuffered=True
        )
        self.client.flush()
        seen: list[bytes] = []
        response = self.successResultOf(asked)
        done = response.collect(seen.append)
        self.client.flush()
        (entry,) = self.simulator.requests()
        counts = []
        while not entry.ended:
            counts.append(entry.events)
            self.clock.advance(1)
            self.client.flush()
        self.successResultOf(done)
        self.assertEqual(counts, list(range(1, len(counts) + 1)))
        self.assertEqual(entry.ended_at, self.clock.seconds())

    def test_a_stall_holds_the_answer(self) -> None:
        """Before the head for so long; for ever if no time is given."""
        self.simulator.fault(Stall(seconds=5), times=1)
        self.simulator.fault(Stall())
        asked = [
            self.client.post("http://127.0.0.1" + WHOLE, headers={"x-goog-api-key": "k"}, json=said("Hi"))
            for _ in range(2)
        ]
        self.client.flush()
        self.clock.advance(4.9)
        self.client.flush()
        self.assertNoResult(asked[0])
        self.clock.advance(0.2)
        self.client.flush()
        self.assertEqual(self.successResultOf(asked[0]).code, 200)
        self.clock.advance(1e6)
        self.client.flush()
        self.assertNoResult(asked[1])
        self.assertEqual(self.simulator.report()["open_requests"], 1)


class QuotaTests(Case):
    def test_a_quota_runs_out_and_refills(self) -> None:
        """Per credential and model, with the seconds that are left, to the clock."""
        self.simulator.quota({"credential": "k", "requests": 2, "window": 60})
        self.post(WHOLE, said("Hi"))
        self.clock.advance(20)
        self.post(WHOLE, said("Hi"))
        error = self.refused(WHOLE, said("Hi"), 429)
        self.assertIn("PerMinute", error["details"][0]["violations"][0]["quotaId"])
        self.assertEqual(error["details"][-1]["retryDelay"], "40s")
        self.post(WHOLE.replace("flash", "pro"), said("Hi"))
        self.post(WHOLE, said("Hi"), {"x-goog-api-key": "other"})
        self.clock.advance(40)
        self.post(WHOLE, said("Hi"))

    def test_a_daily_quota_has_the_reason_of_its_face(self) -> None:
        """QUOTA_EXHAUSTED on v1internal, with the time of the reset."""
        self.simulator.quota({"daily": 0})
        envelope = {"project": "p", "model": "gemini-2.5-flash", "request": said("Hi")}
        error = self.refused("/v1internal:generateContent", envelope, 429, self.token())
        self.assertEqual(error["details"][0]["metadata"]["quotaResetDelay"], "24h0m0s")


class RuleTests(SynchronousTestCase):
    def rules(self, chance: float = 0.5, **rule: Any) -> Rules:
        rules = Rules(lambda: chance)
        rules.add(msgspec.convert({"do": {"action": "done"}, **rule}, Rule), 100.0)
        return rules

    def acts(self, rules: Rules, *times: float, **seen: str) -> list[bool]:
        fields = {"face": "aistudio", "verb": "v", "model": "m", "credential": "c", "method": "POST", "path": "/"}
        probe = Probe(**{**fields, **seen}, prompt=lambda: "a word")  # type: ignore[arg-type]
        return [rules.choose(probe, time) is not None for time in times]

    def test_a_rule_matches_by_wildcards_and_words(self) -> None:
        """All given fields must fit."""
        self.assertEqual(self.acts(self.rules(match={"model": "gemini-*"}), 100, model="gemini-x"), [True])
        self.assertEqual(self.acts(self.rules(match={"model": "gemini-*"}), 100, model="gemma"), [False])
        self.assertEqual(self.acts(self.rules(match={"prompt": "word", "face": "oauth"}), 100), [False])
        self.assertEqual(self.acts(self.rules(match={"prompt": "word"}), 100), [True])

    def test_a_rule_counts(self) -> None:
        """times, nth and each."""
        self.assertEqual(self.acts(self.rules(times=2), *[100] * 4), [True, True, False, False])
        self.assertEqual(self.acts(self.rules(nth=3), *[100] * 4), [False, False, True, False])
        self.assertEqual(self.acts(self.rules(each=2), *[100] * 4), [False, True, False, True])

    def test_a_rule_keeps_a_schedule(self) -> None:
        """from and until since it was added; once in each period, or for a while in each."""
        times = [100.0, 104.9, 105.0, 109.9, 110.0]
        self.assertEqual(self.acts(self.rules(**{"from": 5, "until": 10}), *times), [False, False, True, True, False])
        self.assertEqual(self.acts(self.rules(every=5), 100, 101, 105, 106), [True, False, True, False])
        self.assertEqual(self.acts(self.rules(every=5, lasting=2), 100, 101, 102, 105), [True, True, False, True])

    def test_a_rule_has_a_chance(self) -> None:
        """The injected chance decides."""
        self.assertEqual(self.acts(self.rules(chance=0.2, probability=0.3), 100), [True])
        self.assertEqual(self.acts(self.rules(chance=0.4, probability=0.3), 100), [False])


class StepTests(SynchronousTestCase):
    def test_an_interruption_finds_its_place(self) -> None:
        """Before the head, behind it, behind an event, and before the end of a shorter answer."""
        answer: list[s.Step] = [s.Head(200, ()), s.Data(b"a", True), s.Data(b"b", True), s.Finish()]
        cut = [s.Close()]
        for after, length in ((None, 0), (0, 1), (1, 2), (2, 3), (9, 3)):
            got = list(s.interrupted(iter(answer), after, cut, stop=True))
            self.assertEqual(got, [*answer[:length], *cut])

    def test_an_odd_split_loses_nothing(self) -> None:
        """Joined, the pieces are the whole, and the mark is on the last one."""
        steps = list(s.split(iter([s.Data(b"abcdefgh", True)]), 3))
        pieces = [step for step in steps if isinstance(step, s.Data)]
        self.assertEqual([piece.data for piece in pieces], [b"abc", b"def", b"gh"])
        self.assertEqual([piece.mark for piece in pieces], [False, False, True])

    def test_an_endless_stream_is_made_as_it_is_read(self) -> None:
        """Nothing is computed ahead."""
        made: list[int] = []

        def backend(shape: Shape) -> s.Answer:
            self.assertEqual(shape.count, -1)
            return s.Stream(made.append(at) or b"{}" for at in range(10**9))

        steps = compose((Endless(), Gzip()), Scene(), backend, 0.03, s.Framing())
        for _ in range(4):
            next(steps)
        self.assertEqual(made, [0, 1, 2])
