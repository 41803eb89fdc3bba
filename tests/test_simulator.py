"""The simulator's faces, spoken to in memory: what Google would answer, and what is recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from gateway.simulator.answer_actions import Status
from gateway.simulator.counting import shortened, text_tokens
from gateway.simulator.oauth import JWT_BEARER
from gateway.simulator.prompts import is_signature, signature
from gateway.simulator.rules import Match
from gateway.simulator.world import Simulator

FLASH = "/v1beta/models/gemini-2.5-flash"
KEY = {"x-goog-api-key": "k"}


def said(*texts: str, **more: Any) -> dict[str, Any]:
    """A request of alternating turns, the user's first."""
    roles = ("user", "model")
    turns = [{"role": roles[at % 2], "parts": [{"text": text}]} for at, text in enumerate(texts)]
    return {"contents": turns, **more}


class Case(SynchronousTestCase):
    """A simulator on a clock of its own, spoken to without sockets; streams come without pauses."""

    pace = 0.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        chance = random.Random(7).random
        self.simulator = Simulator(self.clock, pace_seconds=self.pace, chance=chance, keep_requests=20)
        self.client: Any = StubTreq(self.simulator.resource())

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Headers, bytes]:
        """Status, headers and body of an answer that comes at once."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        url = "http://127.0.0.1" + path
        asked = self.client.request(
            method, url, headers=KEY if headers is None else headers, data=data, allow_redirects=False
        )
        self.client.flush()
        response = self.successResultOf(asked)
        got = response.content()
        self.client.flush()
        return response.code, response.headers, self.successResultOf(got)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        """The JSON answer to a POST that succeeds."""
        code, _, content = self.ask("POST", path, body, headers)
        self.assertEqual(code, 200, content)
        return json.loads(content)

    def refused(self, path: str, body: Any, code: int, headers: dict[str, str] | None = None) -> Any:
        """The error object of a POST that is refused."""
        got, _, content = self.ask("POST", path, body, headers)
        self.assertEqual(got, code, content)
        return json.loads(content)["error"]

    def events(self, path: str, body: Any, headers: dict[str, str] | None = None) -> list[Any]:
        """The events of an SSE answer."""
        code, kind, content = self.ask("POST", path, body, headers)
        self.assertEqual((code, kind.getRawHeaders("content-type")), (200, ["text/event-stream"]))
        blocks = content.split(b"\n\n")
        self.assertEqual(blocks.pop(), b"")
        return [json.loads(block.removeprefix(b"data: ")) for block in blocks]

    def token(self, account: str = "alice") -> dict[str, str]:
        """An Authorization header with a good token."""
        return {"authorization": "Bearer " + self.simulator.access_token(account)}


def text_of(answer: Any) -> str:
    """All text of the first candidate."""
    return "".join(part.get("text", "") for part in answer["candidates"][0]["content"]["parts"])


class AIStudioTests(Case):
    def test_an_answer_quotes_the_prompt(self) -> None:
        """The user's words come back, with a finish reason and counts that add up."""
        answer = self.post(f"{FLASH}:generateContent", said("Hello there"))
        self.assertIn("You said: Hello there.", text_of(answer))
        self.assertEqual(answer["candidates"][0]["finishReason"], "STOP")
        usage = answer["usageMetadata"]
        self.assertEqual(usage["promptTokenCount"], 3)
        self.assertEqual(usage["candidatesTokenCount"], text_tokens(text_of(answer)))
        self.assertEqual(usage["totalTokenCount"], 3 + usage["candidatesTokenCount"])
        self.assertEqual(answer["modelVersion"], "gemini-2.5-flash")

    def test_a_chat_proves_that_it_saw_the_history(self) -> None:
        """The number of turns and earlier words are in the answer."""
        text = text_of(self.post(f"{FLASH}:generateContent", said("I am Ada", "Hello", "Who am I?")))
        self.assertIn("turn 2", text)
        self.assertIn("I am Ada", text)

    def test_a_stream_has_the_text_of_the_whole_answer(self) -> None:
        """Several events; joined, they say what the unary answer says, and the last one has the same usage."""
        whole = self.post(f"{FLASH}:generateContent", said("One two three"))
        events = self.events(f"{FLASH}:streamGenerateContent?alt=sse", said("One two three"))
        self.assertGreater(len(events), 3)
        self.assertEqual("".join(map(text_of, events)), text_of(whole))
        self.assertEqual(events[-1]["usageMetadata"], whole["usageMetadata"])
        self.assertEqual([e["candidates"][0].get("finishReason") for e in events[-2:]], [None, "STOP"])

    def test_a_stream_without_alt_is_a_json_array(self) -> None:
        """As Google does: the last byte is the bracket."""
        code, headers, content = self.ask("POST", f"{FLASH}:streamGenerateContent", said("Hi"))
        self.assertEqual(headers.getRawHeaders("content-type"), ["application/json; charset=UTF-8"])
        self.assertEqual((code, content[:1], content[-1:]), (200, b"[", b"]"))
        self.assertGreater(len(json.loads(content)), 3)

    def test_both_spellings_of_a_field_are_read(self) -> None:
        """Proto JSON takes camelCase and snake_case."""
        for config in ({"generationConfig": {"maxOutputTokens": 2}}, {"generation_config": {"max_output_tokens": 2}}):
            answer = self.post(f"{FLASH}:generateContent", said("Hi", **config))
            self.assertEqual(text_of(answer), "You said")
            self.assertEqual(answer["candidates"][0]["finishReason"], "MAX_TOKENS")
            self.assertEqual(answer["usageMetadata"]["candidatesTokenCount"], 2)

    def test_tokens_are_counted_by_one_rule(self) -> None:
        """Both body forms of countTokens, and usageMetadata, agree; an image counts 258."""
        image = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        body = {"contents": [{"role": "user", "parts": [{"text": "12345"}, image]}]}
        whole = {"generateContentRequest": {"model": "models/gemini-2.5-flash", **body}}
        for form in (body, whole):
            self.assertEqual(self.post(f"{FLASH}:countTokens", form)["totalTokens"], 260)
        self.assertEqual(self.post(f"{FLASH}:generateContent", body)["usageMetadata"]["promptTokenCount"], 260)

    def test_a_short_text_is_cut_between_characters(self) -> None:
        """A limit never leaves half of a character."""
        self.assertEqual(shortened("äöüß", 1), "äö")
        self.assertEqual(shortened("€€", 1), "€")

    def test_a_declared_function_is_called_then_quoted(self) -> None:
        """First a call with arguments that fit the schema, then a text that quotes the response."""
        schema = {
            "type": "OBJECT",
            "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}, "tags": {"type": "ARRAY"}},
        }
        tools = [{"functionDeclarations": [{"name": "weather", "parameters": schema}]}]
        asked = said("Paris 3 days", tools=tools)
        part = self.post(f"{FLASH}:generateContent", asked)["candidates"][0]["content"]["parts"][0]
        self.assertEqual(part["functionCall"]["name"], "weather")
        self.assertEqual(part["functionCall"]["args"], {"city": "Paris", "days": 3, "tags": ["days"]})
        asked["contents"] += [
            {"role": "model", "parts": [part]},
            {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}]},
        ]
        self.assertIn('weather answered {"sky":"blue"}', text_of(self.post(f"{FLASH}:generateContent", asked)))

    def test_tools_may_be_forbidden(self) -> None:
        """Mode NONE gives a text."""
        config = {"functionCallingConfig": {"mode": "NONE"}}
        tools = [{"functionDeclarations": [{"name": "f"}]}]
        answer = self.post(f"{FLASH}:generateContent", said("Hi", tools=tools, toolConfig=config))
        self.assertIn("You said", text_of(answer))

    def test_json_is_given_when_asked_for(self) -> None:
        """With a schema the answer fits it, without one it is valid JSON all the same, streamed or not."""
        config: dict[str, Any] = {"responseMimeType": "application/json"}
        answer = self.post(f"{FLASH}:generateContent", said("Hi you", generationConfig=config))
        self.assertEqual(json.loads(text_of(answer))["you_said"], "Hi you")
        config["responseSchema"] = {
            "type": "OBJECT",
            "properties": {"mood": {"type": "STRING", "enum": ["sad", "you"]}},
        }
        events = self.events(f"{FLASH}:streamGenerateContent?alt=sse", said("Hi you", generationConfig=config))
        self.assertEqual(json.loads("".join(map(text_of, events))), {"mood": "you"})

    def test_thoughts_come_with_a_signature_that_is_checked(self) -> None:
        """A thought part is first, its tokens are counted, and a changed signature is refused as Google does."""
        config = {"thinkingConfig": {"includeThoughts": True}}
        answer = self.post(f"{FLASH}:generateContent", said("Think", generationConfig=config))
        thought, part = answer["candidates"][0]["content"]["parts"]
        self.assertTrue(thought["thought"])
        self.assertGreater(answer["usageMetadata"]["thoughtsTokenCount"], 0)
        history = said("Think", "x", "Again")
        history["contents"][1]["parts"] = [part]
        self.post(f"{FLASH}:generateContent", history)
        part["thoughtSignature"] = "A" + part["thoughtSignature"][1:]
        self.assertIn("thought signature", self.refused(f"{FLASH}:generateContent", history, 400)["message"])

    def test_a_signature_breaks_by_any_change(self) -> None:
        """Every character of it matters."""
        good = signature("x")
        self.assertTrue(is_signature(good))
        for at in range(58):
            changed = good[:at] + ("B" if good[at] == "A" else "A") + good[at + 1 :]
            self.assertFalse(is_signature(changed))

    def test_a_magic_word_blocks_the_prompt(self) -> None:
        """No candidates, but a block reason, whole and streamed."""
        answer = self.post(f"{FLASH}:generateContent", said("simulator:block"))
        self.assertEqual(answer["promptFeedback"], {"blockReason": "SAFETY"})
        self.assertNotIn("candidates", answer)
        (event,) = self.events(f"{FLASH}:streamGenerateContent?alt=sse", said("simulator:prohibited"))
        self.assertEqual(event["promptFeedback"], {"blockReason": "PROHIBITED_CONTENT"})

    def test_a_magic_word_ends_the_answer(self) -> None:
        """The finish reason is SAFETY."""
        answer = self.post(f"{FLASH}:generateContent", said("simulator:safety"))
        self.assertEqual(answer["candidates"][0]["finishReason"], "SAFETY")

    def test_several_candidates_differ(self) -> None:
        """candidateCount is honoured, in streams too."""
        config = {"candidateCount": 2}
        answer = self.post(f"{FLASH}:generateContent", said("Hi", generationConfig=config))
        self.assertEqual([c["index"] for c in answer["candidates"]], [0, 1])
        events = self.events(f"{FLASH}:streamGenerateContent?alt=sse", said("Hi", generationConfig=config))
        self.assertEqual(len(events[0]["candidates"]), 2)

    def test_the_list_of_models_has_pages(self) -> None:
        """Each page names the next one, the last none; all prefixes serve it."""
        names: list[str] = []
        token = ""
        while True:
            page = json.loads(self.ask("GET", f"/v1beta/models?pageSize=4&pageToken={token}")[2])
            names += [model["name"] for model in page["models"]]
            token = page.get("nextPageToken", "")
            if not token:
                break
        for version in ("v1", "v1alpha"):
            everything = json.loads(self.ask("GET", f"/{version}/models")[2])
            self.assertEqual([model["name"] for model in everything["models"]], names)
        one = json.loads(self.ask("GET", f"/v1beta/{names[0]}")[2])
        self.assertEqual(one["name"], names[0])

    def test_vectors_have_the_asked_length(self) -> None:
        """embedContent and batchEmbedContents agree on a text."""
        model = "/v1beta/models/gemini-embedding-001"
        content = {"content": {"parts": [{"text": "Hi"}]}, "outputDimensionality": 5}
        one = self.post(f"{model}:embedContent", content)["embedding"]["values"]
        batch = {"requests": [{"model": "models/gemini-embedding-001", **content}]}
        self.assertEqual(self.post(f"{model}:batchEmbedContents", batch)["embeddings"][0]["values"], one)
        self.assertEqual(len(one), 5)

    def test_imagen_predicts_an_image(self) -> None:
        """A PNG in base64."""
        body = {"instances": [{"prompt": "a cat"}], "parameters": {"sampleCount": 2}}
        found = self.post("/v1beta/models/imagen-4.0-generate-001:predict", body)["predictions"]
        self.assertEqual(base64.b64decode(found[1]["bytesBase64Encoded"])[1:4], b"PNG")

    def test_refusals_are_googles(self) -> None:
        """No key 403, a bad one 400 with API_KEY_INVALID, an unknown model 404, wrong JSON 400."""
        path = f"{FLASH}:generateContent"
        self.assertEqual(self.refused(path, said("Hi"), 403, {})["status"], "PERMISSION_DENIED")
        bad = self.refused(path, said("Hi"), 400, {"x-goog-api-key": "bad-key"})
        self.assertEqual(bad["details"][0]["reason"], "API_KEY_INVALID")
        self.assertEqual(self.refused(f"{path}?key=bad", said("Hi"), 400, {})["details"], bad["details"])
        missing = self.refused("/v1beta/models/gpt-4:generateContent", said("Hi"), 404)
        self.assertIn("models/gpt-4 is not found", missing["message"])
        for wrong in (b"{", b"[]", b'{"contents":1}', b'{"contents":[]}', b'{"contents":[{"parts":[]}]}', b"\xff"):
            self.assertEqual(self.refused(path, wrong, 400)["status"], "INVALID_ARGUMENT")
        unknown = self.refused(path, said("Hi", temperature=1), 400)
        self.assertIn('Unknown name "temperature"', unknown["message"])

    def test_a_refused_array_stream_is_refused_in_an_array(self) -> None:
        """Google wraps the error when the answer was to be an array."""
        code, _, content = self.ask("POST", f"{FLASH}:streamGenerateContent", {})
        self.assertEqual((code, json.loads(content)[0]["error"]["code"]), (400, 400))

    def test_an_unknown_path_is_googles_page(self) -> None:
        """404 in HTML, for methods that do not fit as well."""
        for method, path in (("GET", "/"), ("POST", "/v1beta/models"), ("GET", f"{FLASH}:generateContent")):
            code, headers, _ = self.ask(method, path)
            self.assertEqual((code, headers.getRawHeaders("content-type")), (404, ["text/html; charset=UTF-8"]))

    def test_vertex_takes_a_bearer_token(self) -> None:
        """One more path to the same models."""
        path = "/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent"
        self.assertIn("You said: Hi", text_of(self.post(path, said("Hi"), self.token())))
        self.assertEqual(self.refused(path, said("Hi"), 401)["status"], "UNAUTHENTICATED")


class CodeAssistTests(Case):
    def envelope(self, **more: Any) -> dict[str, Any]:
        return {"project": "p", "model": "gemini-2.5-flash", "request": said("Hi"), **more}

    def test_both_profiles_are_answered_in_the_envelope(self) -> None:
        """The answer is inside ``response``, with a trace id."""
        gemini_cli = self.envelope(user_prompt_id="u")
        gemini_cli["request"]["session_id"] = "s"
        antigravity = self.envelope(requestId="r", userAgent="a", requestType="agent")
        for envelope in (antigravity, gemini_cli):
            answer = self.post("/v1internal:generateContent", envelope, self.token())
            self.assertIn("You said: Hi", text_of(answer["response"]))
            self.assertTrue(answer["traceId"])
        events = self.events("/v1internal:streamGenerateContent?alt=sse", antigravity, self.token())
        self.assertEqual(len({event["traceId"] for event in events}), 1)

    def test_the_envelope_is_held_to(self) -> None:
        """What is missing or does not belong there is a 400; a models/ prefix is a 404."""
        path = "/v1internal:generateContent"
        inner = {**said("Hi"), "model": "gemini-2.5-flash"}
        wrong = [
            {"model": "gemini-2.5-flash", "request": said("Hi")},
            {"project": "p", "request": said("Hi")},
            {"project": "p", "model": "gemini-2.5-flash"},
            self.envelope(contents=[]),
            self.envelope(request=inner),
        ]
        for envelope in wrong:
            self.refused(path, envelope, 400, self.token())
        self.refused(path, self.envelope(model="models/gemini-2.5-flash"), 404, self.token())

    def test_count_tokens_takes_no_model_or_project_beside_the_request(self) -> None:
        """Only {"request": {"model": "models/...", "contents": [...]}}."""
        inner = {"model": "models/gemini-2.5-flash", **said("12345")}
        path = "/v1internal:countTokens"
        self.assertEqual(self.post(path, {"request": inner}, self.token()), {"totalTokens": 2})
        for name in ("model", "project"):
            self.refused(path, {name: "x", "request": inner}, 400, self.token())

    def test_tokens_end(self) -> None:
        """None, unknown, and expired ones are 401, each with its reason; time is the injected clock's."""
        path = "/v1internal:generateContent"
        good = self.token()
        self.clock.advance(3600)
        for headers, reason in (
            ({}, "CREDENTIALS_MISSING"),
            ({"authorization": "Bearer x"}, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
            (good, "ACCESS_TOKEN_EXPIRED"),
        ):
            error = self.refused(path, self.envelope(), 401, headers)
            self.assertEqual(error["details"][0]["reason"], reason)

    def test_a_new_account_is_onboarded(self) -> None:
        """loadCodeAssist offers a tier, onboardUser takes it, the operation is polled, then a project is there."""
        token = self.token("new-bob")
        metadata = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
        loaded = self.post("/v1internal:loadCodeAssist", {"metadata": metadata}, token)
        self.assertNotIn("currentTier", loaded)
        tier = next(t["id"] for t in loaded["allowedTiers"] if t.get("isDefault"))
        operation = self.post("/v1internal:onboardUser", {"tierId": tier, "metadata": metadata}, token)
        self.assertFalse(operation["done"])
        polled = [json.loads(self.ask("GET", f"/v1internal/{operation['name']}", None, token)[2]) for _ in range(2)]
        self.assertEqual([answer["done"] for answer in polled], [False, True])
        project = polled[1]["response"]["cloudaicompanionProject"]["id"]
        loaded = self.post("/v1internal:loadCodeAssist", {"metadata": metadata}, token)
        self.assertEqual(loaded["cloudaicompanionProject"], project)
        self.refused("/v1internal:onboardUser", {"tierId": tier, "cloudaicompanionProject": "x"}, 400, token)

    def test_an_ineligible_account_is_told_where_to_go(self) -> None:
        """The reason and a validation link."""
        loaded = self.post("/v1internal:loadCodeAssist", {}, self.token("ineligible-eve"))
        self.assertIn("validationUrl", loaded["ineligibleTiers"][0])

    def test_quota_pages_show_what_is_left(self) -> None:
        """A bucket and the model list agree with the quota that was set."""
        self.simulator.quota({"credential": "alice", "model": "gemini-2.5-flash", "daily": 4})
        self.post("/v1internal:generateContent", self.envelope(), self.token())
        buckets = self.post("/v1internal:retrieveUserQuota", {"project": "p"}, self.token())["buckets"]
        bucket = next(b for b in buckets if b["modelId"] == "gemini-2.5-flash")
        self.assertEqual((bucket["remainingAmount"], bucket["remainingFraction"]), ("3", 0.75))
        models = self.post("/v1internal:fetchAvailableModels", {"project": "p"}, self.token())["models"]
        self.assertEqual(models["gemini-2.5-flash"]["quotaInfo"]["remainingFraction"], 0.75)


class OAuthTests(Case):
    def grant(self, wanted: int = 200, /, **form: str) -> Any:
        got, _, content = self.ask("POST", "/token", urlencode({"client_id": "c", **form}).encode(), {})
        self.assertEqual(got, wanted, content)
        return json.loads(content)

    def refresh(self, token: str, code: int = 200) -> Any:
        return self.grant(code, grant_type="refresh_token", refresh_token=token)

    def test_a_refresh_token_gives_an_access_token(self) -> None:
        """Any one that is not revoked is good."""
        answer = self.refresh("alice")
        self.assertEqual((answer["token_type"], answer["expires_in"]), ("Bearer", 3599))
        headers = {"authorization": "Bearer " + answer["access_token"]}
        user = json.loads(self.ask("GET", "/oauth2/v2/userinfo", None, headers)[2])
        self.assertEqual(user["email"], "alice@example.com")
        self.assertEqual(self.simulator.report()["refresh_calls"], 1)

    def test_a_revoked_refresh_token_is_an_invalid_grant(self) -> None:
        """By its name, or by the control route; its access tokens stop as well."""
        self.assertEqual(self.refresh("revoked-1", 400)["error"], "invalid_grant")
        headers = {"authorization": "Bearer " + self.refresh("alice")["access_token"]}
        self.simulator.tokens({"revoke": ["alice"]})
        self.assertEqual(self.refresh("alice", 400)["error"], "invalid_grant")
        self.refused("/v1internal:loadCodeAssist", {}, 401, headers)
        self.simulator.tokens({"restore": ["alice"]})
        self.refresh("alice")

    def test_rotation_retires_the_old_refresh_token(self) -> None:
        """The new one belongs to the same account."""
        self.simulator.tokens({"rotate": True, "expires_in": 60})
        answer = self.refresh("alice")
        self.assertEqual(answer["expires_in"], 60)
        self.assertEqual(self.refresh("alice", 400)["error"], "invalid_grant")
        self.refresh(answer["refresh_token"])
        self.assertEqual(self.simulator.report()["refresh_calls_by_account"], {"alice": 3})

    def test_a_login_proves_its_verifier(self) -> None:
        """The code comes back to a loopback address with the state, and is good once, for the right verifier."""
        verifier = "v" * 43
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "client_id": "c",
            "response_type": "code",
            "redirect_uri": "http://127.0.0.1:1234/done",
            "state": "s",
            "access_type": "offline",
            "login_hint": "carol",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }

        def code() -> str:
            status, headers, _ = self.ask("GET", "/o/oauth2/v2/auth?" + urlencode(query), None, {})
            back = parse_qs(urlsplit((headers.getRawHeaders("location") or [""])[0]).query)
            self.assertEqual((status, back["state"]), (302, ["s"]))
            return back["code"][0]

        form = {"grant_type": "authorization_code", "redirect_uri": query["redirect_uri"]}
        self.grant(400, code=code(), code_verifier="w" * 43, **form)
        good = code()
        answer = self.grant(200, code=good, code_verifier=verifier, **form)
        self.grant(400, code=good, code_verifier=verifier, **form)
        self.refresh(answer["refresh_token"])
        query["redirect_uri"] = "https://example.com/"
        status, _, content = self.ask("GET", "/o/oauth2/v2/auth?" + urlencode(query), None, {})
        self.assertEqual((status, json.loads(content)["error"]), (400, "redirect_uri_mismatch"))

    def test_a_service_account_signs_its_grant(self) -> None:
        """RS256 with the key of the file that the simulator made; any other signature is refused."""
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa

        file = self.simulator.service_account("sa@p.iam", "p", "http://127.0.0.1/token")
        key = serialization.load_pem_private_key(file["private_key"].encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        now = int(self.clock.seconds())
        claims = {"iss": "sa@p.iam", "aud": "http://127.0.0.1/token", "iat": now, "exp": now + 3600, "scope": "x"}

        def packed(value: bytes) -> str:
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

        signed = packed(json.dumps({"alg": "RS256"}).encode()) + "." + packed(json.dumps(claims).encode())
        mark = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        answer = self.grant(200, grant_type=JWT_BEARER, assertion=f"{signed}.{packed(mark)}")
        self.assertEqual(self.simulator.state.desk.account_of(answer["access_token"]), "sa@p.iam")
        wrong = f"{signed}.{packed(mark[:-1] + b'0')}"
        self.assertEqual(self.grant(400, grant_type=JWT_BEARER, assertion=wrong)["error"], "invalid_grant")

    def test_a_wrong_grant_or_client_is_told_so(self) -> None:
        """OAuth's own error names."""
        self.assertEqual(self.grant(400, grant_type="x")["error"], "unsupported_grant_type")
        self.assertEqual(self.grant(400, grant_type="refresh_token")["error"], "invalid_request")
        wrong = self.grant(401, grant_type="refresh_token", refresh_token="a", client_id="bad")
        self.assertEqual(wrong["error"], "invalid_client")


class RecordTests(Case):
    def test_requests_are_recorded(self) -> None:
        """Method, path, headers, credential, body, and what was answered."""
        self.post(f"{FLASH}:generateContent?x=1", said("Hi"))
        (entry,) = self.simulator.requests("aistudio", "generateContent")
        self.assertEqual((entry.path, entry.query, entry.credential), (f"{FLASH}:generateContent", "x=1", "k"))
        self.assertEqual((entry.status, entry.ended, entry.model), (200, "complete", "gemini-2.5-flash"))
        self.assertIn(("X-Goog-Api-Key", "k"), entry.headers)
        self.assertEqual(json.loads(entry.body), said("Hi"))

    def test_the_record_is_bounded(self) -> None:
        """The oldest requests go; of a long body the beginning is kept, with the length and digest of all."""
        self.simulator.records.keep_body = 10
        for _ in range(25):
            self.post(f"{FLASH}:generateContent", said("x" * 100))
        self.assertEqual(len(self.simulator.requests()), 20)
        entry = self.simulator.requests()[-1]
        whole = json.dumps(said("x" * 100)).encode()
        self.assertEqual((entry.body, entry.length), (whole[:10], len(whole)))
        self.assertEqual(entry.sha256, hashlib.sha256(whole).hexdigest())

    def test_a_reset_forgets_everything(self) -> None:
        """Faults, quotas, tokens and requests."""
        self.simulator.fault(Status(code=503), match=Match(face="oauth"))
        self.simulator.quota({"requests": 0})
        self.ask("GET", "/v1beta/models")
        code, _, content = self.ask("DELETE", "/_simulator/")
        self.assertEqual((code, json.loads(content)), (200, {"reset": True}))
        report = self.simulator.report()
        self.assertEqual((report["faults"], report["quotas"], self.simulator.requests()), (0, [], []))
