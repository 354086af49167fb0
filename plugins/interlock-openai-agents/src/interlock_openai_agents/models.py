"""
Governed models.

In flows a call that the SDK makes of a model; out flows its response, or Interlock's refusal. Nothing is decided here:
`Session.model_call` decides.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from agents import Model, ModelProvider, ModelResponse, MultiProvider
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from interlock import InterlockError, Usage, current_session
from interlock_openai_agents.errors import stop

MODEL_CALL = "chat"
"""What policies, budgets and events call a model call."""

_CHARACTERS = 3
"""So many characters are one token at least, for the estimate of what a call takes."""

_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})


class GovernedModel(Model):
    """A model whose calls are judged, recorded and made as the current session lets them."""

    def __init__(self, model: Model, name: str | None = None) -> None:
        """Govern *model*, which policies and budgets know as *name*; None: by its own name."""
        self._model = model
        self._name = name or _name_of(model)
        self._provider = (
            "openai" if type(model).__module__.startswith("agents.models.openai") else None
        )

    def __getattr__(self, name: str) -> Any:
        """Return what only the model itself has."""
        if name == "_model":
            raise AttributeError(name)
        return getattr(self._model, name)

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK's name
        model_settings: Any,
        tools: Any,
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        """Judge the call, make it, book what it took, and return what its review leaves."""
        given = (system_instructions, input, model_settings, tools)
        with _ending():
            call = self._call(*given)
            async with call:
                response = await self._model.get_response(*given, *args, **kwargs)
                _book(call, response.usage)
                text = _text(response.output)
                call.review(text)
            if call.reviewed == text:
                return response
            return replace(response, output=_rewritten(response.output, call.reviewed))

    async def stream_response(
        self,
        system_instructions: str | None,
        input: Any,  # noqa: A002 - the SDK's name
        model_settings: Any,
        tools: Any,
        *args: Any,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Do the same with a stream; where somebody reviews the answer, all of it is kept back until its end."""
        given = (system_instructions, input, model_settings, tools)
        kept: list[Any] = []
        text = ""
        last: Any = None
        with _ending():
            call = self._call(*given)
            async with call:
                is_reviewed = call.is_reviewed
                stream: AsyncIterator[Any] = self._model.stream_response(*given, *args, **kwargs)
                async for event in stream:
                    if event.type in _ENDED:
                        last = event
                        _book(call, event.response.usage)
                        text = _text(event.response.output)
                        call.review(text)
                    if is_reviewed:
                        kept.append(event)
                    else:
                        yield event
            if not kept or last is None:
                return
            if call.reviewed != text:
                output = _rewritten(last.response.output, call.reviewed)
                response = last.response.model_copy(update={"output": output})
                kept = [last.model_copy(update={"response": response})]
        for event in kept:
            yield event

    def get_retry_advice(self, request: Any) -> Any:
        """Ask the model itself."""
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        """Close the model itself."""
        await self._model.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)  # noqa: SLF001 - it is the SDK that calls this one

    def _call(self, instructions: str | None, given: Any, settings: Any, tools: Any) -> Any:
        prompt = given if isinstance(given, str) else _plain(given)
        size = len(instructions or "") + len(
            prompt if isinstance(prompt, str) else json.dumps(prompt)
        )
        estimate = Usage(
            input_tokens=size // _CHARACTERS + 1,
            output_tokens=getattr(settings, "max_tokens", None),
        )
        return current_session(MODEL_CALL).model_call(
            model=self._name,
            provider=self._provider,
            estimate=estimate,
            name=MODEL_CALL,
            arguments={
                "instructions": instructions,
                "input": prompt,
                "tools": [tool.name for tool in tools],
            },
        )


class GovernedProvider(ModelProvider):
    """A provider whose models are governed."""

    def __init__(self, provider: ModelProvider) -> None:
        """Govern the models of *provider*."""
        self._provider = provider

    def get_model(self, model_name: str | None) -> Model:
        """Return the model, governed, by the name that it was asked for."""
        return govern_model(self._provider.get_model(model_name), model_name)

    async def aclose(self) -> None:
        """Close the provider itself."""
        await self._provider.aclose()


def govern_model(model: Model, name: str | None = None) -> Model:
    """Return *model*, governed; itself if it is."""
    return model if isinstance(model, GovernedModel) else GovernedModel(model, name)


def govern_provider(provider: ModelProvider) -> ModelProvider:
    """Return *provider*, governed; itself if it is."""
    return provider if isinstance(provider, GovernedProvider) else GovernedProvider(provider)


class NamedModel(Model):
    """A model that an agent knows by its name; it is looked for when it is called first."""

    def __init__(self, name: str | None, provider: ModelProvider | None) -> None:
        """Look for *name* at *provider*; None: at the SDK's own."""
        self.name = name
        self._given = provider
        self._found: Model | None = None

    def _model(self) -> Model:
        if self._found is None:
            self._found = govern_provider(self._given or MultiProvider()).get_model(self.name)
        return self._found

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Call the model itself."""
        return await self._model().get_response(*args, **kwargs)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Call the model itself."""
        return self._model().stream_response(*args, **kwargs)

    def get_retry_advice(self, request: Any) -> Any:
        """Ask the model itself."""
        return self._model().get_retry_advice(request)

    async def close(self) -> None:
        """Close the model itself."""
        if self._found is not None:
            await self._found.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        if self._found is not None:
            await self._found._cleanup_on_run_end(owner)  # noqa: SLF001 - as above


@contextmanager
def _ending() -> Iterator[None]:
    """End the run with Interlock's own errors as themselves."""
    try:
        yield
    except InterlockError as error:
        stop(error)


def _name_of(model: Model) -> str:
    name = getattr(model, "model", None)
    return name if isinstance(name, str) and name else type(model).__name__


def _plain(given: Any) -> Any:
    """Return what the model is given as plain data."""
    return json.loads(json.dumps(given, default=lambda one: one.model_dump(mode="json")))


def _book(call: Any, usage: Any) -> None:
    """Book what a response says that it took; one that says nothing is not known, which is not zero."""
    if usage is None or not usage.total_tokens:
        return
    given, made = usage.input_tokens_details, usage.output_tokens_details
    call.record(
        Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=_part(given, "cached_tokens", usage.input_tokens),
            cache_write_tokens=_part(given, "cache_write_tokens", usage.input_tokens),
            reasoning_tokens=_part(made, "reasoning_tokens", usage.output_tokens),
        )
    )


def _part(details: Any, name: str, whole: int) -> int | None:
    found = getattr(details, name, None)
    return found if isinstance(found, int) and 0 <= found <= whole else None


def _texts(output: Any) -> Iterator[ResponseOutputText]:
    for item in output:
        if isinstance(item, ResponseOutputMessage):
            yield from (part for part in item.content if isinstance(part, ResponseOutputText))


def _text(output: Any) -> str:
    """Return what the model has written, as its reviewers are shown it."""
    return "\n".join(part.text for part in _texts(output))


def _rewritten(output: Any, text: object) -> list[Any]:
    """Return *output* with *text* in the place of what the model has written."""
    found: list[Any] = []
    left: str | None = str(text)
    for item in output:
        if not isinstance(item, ResponseOutputMessage):
            found.append(item)
        elif left is not None:
            part = ResponseOutputText(text=left, type="output_text", annotations=[])
            found.append(item.model_copy(update={"content": [part]}))
            left = None
    return found
