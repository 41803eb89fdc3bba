"""google-genai, 2.x and 3.x, against a gateway: ``python genai_check.py BASE KEY``.  Does I/O."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from checklist import BROKEN, ROUGH, Checklist, arguments, rejection
from google import genai
from google.genai import errors, types

given = arguments()
checklist = Checklist()


def connect(key: str = given.key) -> genai.Client:
    """A client as the README tells its reader to make one."""
    options = types.HttpOptions(base_url=given.base, api_version=given.api_version or None)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


client = connect()
WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="get_weather",
            description="The weather in a city",
            parameters=types.Schema(
                type=types.Type.OBJECT,
                properties={"city": types.Schema(type=types.Type.STRING)},
                required=["city"],
            ),
        )
    ]
)


def text_about(word: str, **config: Any) -> str:
    """The answer to a prompt with this word in it."""
    answer = client.models.generate_content(
        model=given.model, contents=f"Tell me about the {word}", config=config or None
    )
    assert answer.text, answer
    return answer.text


@checklist.check("list")
def models_are_listed() -> dict[str, Any]:
    found = list(client.models.list())
    names = [model.name for model in found]
    assert f"models/{given.model}" in names, names
    assert len(names) == len(set(names)), names
    pages = list(client.models.list(config={"page_size": 2}))
    assert [model.name for model in pages] == names, (pages, names)
    for model in found:
        assert model.supported_actions, model
    return {"models": len(names)}


@checklist.check("display_names")
def display_names_are_the_ids() -> dict[str, Any]:
    for model in client.models.list():
        assert model.display_name == model.name.removeprefix("models/"), model
    return {}


@checklist.check("get")
def one_model_is_described() -> dict[str, Any]:
    model = client.models.get(model=given.model)
    assert model.name == f"models/{given.model}", model
    assert "generateContent" in model.supported_actions, model
    return {"name": model.name}


@checklist.check("generate")
def answers_follow_the_prompt() -> dict[str, Any]:
    first, second = text_about("nightingale"), text_about("woodpecker")
    assert "nightingale" in first, first
    assert "woodpecker" in second, second
    return {"text": first}


@checklist.check("unicode")
def any_script_survives() -> dict[str, Any]:
    foreign = '夜鶯 соловей 🐦 \\ " \x00'
    assert foreign in "".join(stream(foreign))
    # 2.x takes these for ends of lines when they stand unescaped in an event: so not in the stream.
    foreign += " \x85 \u2028 \u2029"
    assert foreign in text_about(foreign)
    return {}


@checklist.check("usage")
def usage_is_reported() -> dict[str, Any]:
    answer = client.models.generate_content(model=given.model, contents="Tell me about the nightingale")
    usage = answer.usage_metadata
    assert usage.prompt_token_count > 0, usage
    assert usage.total_token_count >= usage.prompt_token_count + usage.candidates_token_count, usage
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP, answer
    return {"prompt_tokens": usage.prompt_token_count}


@checklist.check("limit")
def output_limit_is_honoured() -> dict[str, Any]:
    answer = client.models.generate_content(
        model=given.model, contents="Tell me about the nightingale", config={"max_output_tokens": 2}
    )
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS, answer
    assert len(answer.text or "") < len(text_about("nightingale")), answer
    return {"text": answer.text}


@checklist.check("stream")
def stream_arrives_in_chunks() -> dict[str, Any]:
    prompt = "Tell me about the nightingale"
    chunks = list(client.models.generate_content_stream(model=given.model, contents=prompt))
    text = "".join(chunk.text or "" for chunk in chunks)
    assert len(chunks) > 1, chunks
    assert text == text_about("nightingale"), text
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP, chunks[-1]
    return {"chunks": len(chunks), "text": text}


def stream(prompt: str) -> Iterator[str]:
    for chunk in client.models.generate_content_stream(model=given.model, contents=prompt):
        yield chunk.text or ""


@checklist.check("rough")
def odd_streams_arrive_whole() -> dict[str, Any]:
    for word in ROUGH:
        chunks = list(stream(f"Tell me about {word}"))
        assert len(chunks) > 1, chunks
        assert "".join(chunks).endswith("That is all."), (word, chunks)
    return {"streams": len(ROUGH)}


@checklist.check("broken")
def broken_streams_raise() -> dict[str, Any]:
    raised = {}
    for word in BROKEN:
        chunks = stream(f"Tell me about {word}")
        assert next(chunks), word
        raised[word] = type(rejection(Exception, lambda chunks=chunks: list(chunks))).__name__
    return raised


@checklist.check("chat")
def chat_sends_its_history() -> dict[str, Any]:
    chat = client.chats.create(model=given.model)
    first = chat.send_message("My name is Ferdinand")
    second = chat.send_message("What is my name?")
    history = chat.get_history()
    assert [turn.role for turn in history] == ["user", "model", "user", "model"], history
    assert history[1].parts[0].text == first.text, history
    alone = client.models.generate_content(model=given.model, contents="What is my name?")
    seen, without = second.usage_metadata.prompt_token_count, alone.usage_metadata.prompt_token_count
    assert seen > without, (seen, without)
    counted = client.models.count_tokens(model=given.model, contents=history[:3]).total_tokens
    assert seen == counted, (seen, counted)
    assert "Ferdinand" in second.text, second.text
    return {"prompt_tokens": seen, "without_history": without, "text": second.text}


@checklist.check("chat_stream")
def chat_streams_its_second_turn() -> dict[str, Any]:
    chat = client.chats.create(model=given.model)
    chat.send_message("My name is Ferdinand")
    chunks = list(chat.send_message_stream("What is my name?"))
    assert len(chunks) > 1, chunks
    assert "Ferdinand" in "".join(chunk.text or "" for chunk in chunks), chunks
    # The SDK keeps a content for each chunk.
    assert len([turn for turn in chat.get_history() if turn.role == "user"]) == 2, chat.get_history()
    return {"chunks": len(chunks)}


@checklist.check("count")
def count_grows_with_the_text() -> dict[str, Any]:
    def count(text: str) -> int:
        return client.models.count_tokens(model=given.model, contents=text).total_tokens

    short, long = count("a few words"), count("a few words " * 50)
    assert 0 < short < long, (short, long)
    usage = client.models.generate_content(model=given.model, contents="a few words").usage_metadata
    assert usage.prompt_token_count == short, (usage, short)
    return {"short": short, "long": long}


@checklist.check("embed")
def embeddings_have_their_length() -> dict[str, Any]:
    texts = ["a nightingale", "a woodpecker", "a nightingale"]
    found = client.models.embed_content(model=given.embedding_model, contents=texts).embeddings
    vectors = [embedding.values for embedding in found]
    assert len(vectors) == 3, vectors
    assert len({len(vector) for vector in vectors}) == 1, [len(vector) for vector in vectors]
    assert len(vectors[0]) > 1, vectors
    assert vectors[0] == vectors[2] != vectors[1]
    short = client.models.embed_content(
        model=given.embedding_model, contents="a nightingale", config={"output_dimensionality": 64}
    )
    assert len(short.embeddings[0].values) == 64, len(short.embeddings[0].values)
    return {"length": len(vectors[0])}


@checklist.check("embed_unimplemented")
def embedding_is_refused_by_name() -> dict[str, Any]:
    error = expected_error(501, "UNIMPLEMENTED", embed_one)
    assert "aistudio" in error.message, error
    return {"message": error.message}


@checklist.check("embed_unserved")
def upstream_without_batches_says_so() -> dict[str, Any]:
    error = rejection(errors.ClientError, embed_one)
    assert error.code == 404, error
    return {"code": error.code}


def embed_one() -> None:
    client.models.embed_content(model=given.embedding_model, contents="a nightingale")


def expected_error(code: int, status: str, action: Callable[[], Any]) -> errors.APIError:
    error = rejection(errors.ClientError if code < 500 else errors.ServerError, action)
    assert error.code == code, error
    assert error.status == status, error
    assert error.message, error
    return error


@checklist.check("unknown_model")
def unknown_model_is_404() -> dict[str, Any]:
    def ask() -> None:
        client.models.generate_content(model="no-such-model", contents="Hello")

    def stream() -> None:
        list(client.models.generate_content_stream(model="no-such-model", contents="Hello"))

    error = expected_error(404, "NOT_FOUND", ask)
    expected_error(404, "NOT_FOUND", stream)
    expected_error(404, "NOT_FOUND", lambda: client.models.get(model="no-such-model"))
    assert "no-such-model" in error.message, error
    return {"message": error.message}


@checklist.check("unknown_key")
def unknown_key_is_refused() -> dict[str, Any]:
    stranger = connect("bad-key")
    code = given.unknown_key_code
    status = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED"}[code]

    def ask() -> None:
        stranger.models.generate_content(model=given.model, contents="Hello")

    def stream() -> None:
        list(stranger.models.generate_content_stream(model=given.model, contents="Hello"))

    error = expected_error(code, status, ask)
    expected_error(code, status, stream)
    return {"message": error.message}


@checklist.check("tools")
def function_call_is_made_and_answered() -> dict[str, Any]:
    return call_and_answer(given.model)


@checklist.check("signatures")
def thought_signature_comes_back_unchanged() -> dict[str, Any]:
    """The simulator refuses a history whose signature is not the one that it gave."""
    return call_and_answer(given.signing_model)


def call_and_answer(model: str) -> dict[str, Any]:
    question = types.Content(role="user", parts=[types.Part(text="What is the weather in Lisbon?")])
    config = types.GenerateContentConfig(tools=[WEATHER])
    asked = client.models.generate_content(model=model, contents=[question], config=config)
    assert asked.function_calls, asked
    content = asked.candidates[0].content
    assert model == given.model or content.parts[0].thought_signature, asked
    call = asked.function_calls[0]
    assert call.name == "get_weather", call
    assert "city" in call.args, call
    answer = types.Part.from_function_response(name=call.name, response={"sky": "thunderstorm"})
    turns = [question, content, types.Content(role="user", parts=[answer])]
    chunks = list(client.models.generate_content_stream(model=model, contents=turns, config=config))
    answered = "".join(chunk.text or "" for chunk in chunks)
    assert not any(chunk.function_calls for chunk in chunks), chunks
    assert "thunderstorm" in answered, answered
    return {"arguments": call.args, "text": answered}


@checklist.check("tools_stream")
def function_call_is_streamed() -> dict[str, Any]:
    question = "What is the weather in Lisbon?"
    chunks = client.models.generate_content_stream(
        model=given.model, contents=question, config={"tools": [WEATHER]}
    )
    calls = [call.name for chunk in chunks for call in chunk.function_calls or []]
    assert calls == ["get_weather"], calls
    return {}


@checklist.check("structured")
def answer_fits_the_schema() -> dict[str, Any]:
    schema = types.Schema(
        type=types.Type.OBJECT,
        properties={
            "bird": types.Schema(type=types.Type.STRING),
            "age": types.Schema(type=types.Type.INTEGER),
        },
    )
    answer = client.models.generate_content(
        model=given.model,
        contents="Name a bird",
        config={"response_mime_type": "application/json", "response_schema": schema},
    )
    found = json.loads(answer.text)
    assert isinstance(found["bird"], str), found
    assert isinstance(found["age"], int), found
    return found


@checklist.check("automatic_tools")
def python_function_is_called_by_the_sdk() -> dict[str, Any]:
    cities = []

    def get_weather(city: str) -> str:
        """The weather in a city."""
        cities.append(city)
        return "thunderstorm"

    answer = client.models.generate_content(
        model=given.model, contents="What is the weather in Lisbon?", config={"tools": [get_weather]}
    )
    assert len(cities) == 1, cities
    assert "thunderstorm" in answer.text, answer
    return {"calls": len(cities), "text": answer.text}


@checklist.check("async")
def async_client_does_the_same() -> dict[str, Any]:
    async def both() -> tuple[str, list[str]]:
        prompt = "Tell me about the nightingale"
        async with connect().aio as aio:
            answer = await aio.models.generate_content(model=given.model, contents=prompt)
            stream = await aio.models.generate_content_stream(model=given.model, contents=prompt)
            return answer.text, [chunk.text or "" async for chunk in stream]

    text, chunks = asyncio.run(both())
    assert "nightingale" in text, text
    assert len(chunks) > 1, chunks
    assert "".join(chunks) == text, (chunks, text)
    return {"chunks": len(chunks)}


@checklist.check("concurrent")
def twenty_async_streams_at_once() -> dict[str, Any]:
    async def all_of_them() -> list[str]:
        async with connect().aio as aio:

            async def one(number: int) -> str:
                stream = await aio.models.generate_content_stream(
                    model=given.model, contents=f"Tell me about nightingale{number}x"
                )
                return "".join([chunk.text or "" async for chunk in stream])

            return await asyncio.gather(*[one(number) for number in range(20)])

    texts = asyncio.run(all_of_them())
    for number, text in enumerate(texts):
        assert f"nightingale{number}x" in text, (number, text)
    return {"streams": len(texts)}


if __name__ == "__main__":
    sys.exit(checklist.run(given.checks))
