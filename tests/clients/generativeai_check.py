"""google-generativeai 0.8.6 against a gateway: ``python generativeai_check.py BASE KEY``.  Does I/O.

This SDK speaks REST through GAPIC: streams are JSON arrays, and a wrong key is tried three times.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import Any

import google.generativeai as genai
from checklist import BROKEN, ROUGH, Checklist, arguments, rejection
from google.api_core import exceptions

given = arguments()
checklist = Checklist()


def configure(key: str = given.key) -> None:
    genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": given.base})


configure()
ask = genai.GenerativeModel(given.model)
PROMPT = "Tell me about the nightingale"


def tutorial() -> None:
    """The tutorial's own program, with the address, key and model given here."""
    import google.generativeai as genai

    genai.configure(api_key=given.key, transport="rest", client_options={"api_endpoint": given.base})
    model = genai.GenerativeModel(given.model)
    response = model.generate_content("Hello")
    print(response.text)


@checklist.check("tutorial")
def tutorial_prints_text() -> dict[str, Any]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tutorial()
    assert printed.getvalue().strip(), "nothing printed"
    return {"text": printed.getvalue().strip()}


@checklist.check("list")
def models_are_listed() -> dict[str, Any]:
    found = list(genai.list_models())
    names = [model.name for model in found]
    assert f"models/{given.model}" in names, names
    assert [model.name for model in genai.list_models(page_size=2)] == names, names
    for model in found:
        assert model.supported_generation_methods, model
    return {"models": len(names)}


@checklist.check("display_names")
def display_names_are_the_ids() -> dict[str, Any]:
    for model in genai.list_models():
        assert model.display_name == model.name.removeprefix("models/"), model
    return {}


@checklist.check("get")
def one_model_is_described() -> dict[str, Any]:
    model = genai.get_model(f"models/{given.model}")
    assert model.name == f"models/{given.model}", model
    assert "generateContent" in model.supported_generation_methods, model
    return {"name": model.name}


@checklist.check("generate")
def answers_follow_the_prompt() -> dict[str, Any]:
    first = ask.generate_content(PROMPT).text
    second = ask.generate_content("Tell me about the woodpecker").text
    assert "nightingale" in first, first
    assert "woodpecker" in second, second
    return {"text": first}


@checklist.check("stream")
def stream_arrives_in_chunks() -> dict[str, Any]:
    chunks = [chunk.text for chunk in ask.generate_content(PROMPT, stream=True)]
    assert len(chunks) > 1, chunks
    assert "".join(chunks) == ask.generate_content(PROMPT).text, chunks
    return {"chunks": len(chunks), "text": "".join(chunks)}


@checklist.check("rough")
def odd_streams_arrive_whole() -> dict[str, Any]:
    for word in ROUGH:
        chunks = [chunk.text for chunk in ask.generate_content(f"Tell me about {word}", stream=True)]
        assert len(chunks) > 1, chunks
        assert "".join(chunks).endswith("That is all."), (word, chunks)
    return {"streams": len(ROUGH)}


@checklist.check("broken")
def broken_streams_raise() -> dict[str, Any]:
    def read(word: str) -> list[str]:
        return [chunk.text for chunk in ask.generate_content(f"Tell me about {word}", stream=True)]

    return {word: type(rejection(Exception, lambda word=word: read(word))).__name__ for word in BROKEN}


@checklist.check("limit")
def output_limit_is_honoured() -> dict[str, Any]:
    answer = ask.generate_content(PROMPT, generation_config={"max_output_tokens": 2})
    candidate = answer.candidates[0]
    assert candidate.finish_reason == genai.protos.Candidate.FinishReason.MAX_TOKENS, answer
    assert len(candidate.content.parts[0].text) < len(ask.generate_content(PROMPT).text), answer
    return {}


@checklist.check("chat")
def chat_sends_its_history() -> dict[str, Any]:
    chat = ask.start_chat()
    chat.send_message("My name is Ferdinand")
    second = chat.send_message("What is my name?")
    assert [turn.role for turn in chat.history] == ["user", "model", "user", "model"], chat.history
    alone = ask.generate_content("What is my name?")
    seen, without = second.usage_metadata.prompt_token_count, alone.usage_metadata.prompt_token_count
    assert seen > without, (seen, without)
    counted = ask.count_tokens(chat.history[:3]).total_tokens
    assert seen == counted, (seen, counted)
    assert "Ferdinand" in second.text, second.text
    return {"prompt_tokens": seen, "without_history": without, "text": second.text}


@checklist.check("chat_stream")
def chat_streams_its_second_turn() -> dict[str, Any]:
    chat = ask.start_chat()
    chat.send_message("My name is Ferdinand")
    chunks = list(chat.send_message("What is my name?", stream=True))
    assert len(chunks) > 1, chunks
    assert "Ferdinand" in "".join(chunk.text for chunk in chunks), chunks
    assert len(chat.history) == 4, chat.history
    return {"chunks": len(chunks)}


@checklist.check("count")
def count_grows_with_the_text() -> dict[str, Any]:
    short = ask.count_tokens("a few words").total_tokens
    long = ask.count_tokens("a few words " * 50).total_tokens
    assert 0 < short < long, (short, long)
    usage = ask.generate_content("a few words").usage_metadata
    assert usage.prompt_token_count == short, (usage, short)
    return {"short": short, "long": long}


def embed(content: Any) -> Any:
    return genai.embed_content(model=f"models/{given.embedding_model}", content=content)["embedding"]


@checklist.check("embed")
def embeddings_have_their_length() -> dict[str, Any]:
    one, other = embed("a nightingale"), embed("a woodpecker")
    assert len(one) == len(other) > 1, (len(one), len(other))
    assert one == embed("a nightingale") != other
    return {"length": len(one)}


@checklist.check("embed_batch")
def several_texts_are_embedded_at_once() -> dict[str, Any]:
    vectors = embed(["a nightingale", "a woodpecker"])
    assert vectors == [embed("a nightingale"), embed("a woodpecker")]
    return {"vectors": len(vectors)}


@checklist.check("embed_unimplemented")
def embedding_is_refused_by_name() -> dict[str, Any]:
    error = expected_error(exceptions.MethodNotImplemented, lambda: embed("a nightingale"))
    assert "aistudio" in error.message, error
    return {"message": error.message}


def expected_error(kind: type[exceptions.GoogleAPICallError], action: Callable[[], Any]) -> Any:
    error = rejection(exceptions.GoogleAPICallError, action)
    assert type(error) is kind, repr(error)
    assert error.message, error
    return error


@checklist.check("unknown_model")
def unknown_model_is_404() -> dict[str, Any]:
    unknown = genai.GenerativeModel("no-such-model")
    error = expected_error(exceptions.NotFound, lambda: unknown.generate_content("Hello"))
    expected_error(exceptions.NotFound, lambda: list(unknown.generate_content("Hello", stream=True)))
    expected_error(exceptions.NotFound, lambda: genai.get_model("models/no-such-model"))
    assert "no-such-model" in error.message, error
    return {"message": error.message}


@checklist.check("unknown_key")
def unknown_key_is_refused() -> dict[str, Any]:
    kind = {400: exceptions.BadRequest, 401: exceptions.Unauthorized}[given.unknown_key_code]
    configure("bad-key")
    try:
        stranger = genai.GenerativeModel(given.model)
        error = expected_error(kind, lambda: stranger.generate_content("Hello"))
    finally:
        configure()
    return {"message": error.message}


@checklist.check("tools")
def function_call_is_made_and_answered() -> dict[str, Any]:
    def get_weather(city: str) -> str:
        """The weather in a city."""
        raise AssertionError(f"called by the SDK for {city}")

    chat = genai.GenerativeModel(given.model, tools=[get_weather]).start_chat()
    call = chat.send_message("What is the weather in Lisbon?").parts[0].function_call
    assert call.name == "get_weather", call
    assert "city" in call.args, call
    response = genai.protos.FunctionResponse(name=call.name, response={"sky": "thunderstorm"})
    answered = chat.send_message(genai.protos.Part(function_response=response))
    assert "thunderstorm" in answered.text, answered.text
    return {"arguments": dict(call.args), "text": answered.text}


if __name__ == "__main__":
    sys.exit(checklist.run(given.checks))
