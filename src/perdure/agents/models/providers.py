"""Providers by name: how those of `provider/model` are called by pydantic-ai, and where the others are.

Names are those that JavaScript agents use; where a provider goes by another name here, it is in `ALIASES`.
The rest speak OpenAI's protocol and are in `COMPATIBLE`, with their address and the variable that holds their key.
`{PROVIDER}_BASE_URL` in the environment (dashes are underscores) overrides the address of whoever speaks that protocol.
"""

from __future__ import annotations

import difflib
from typing import Final, NamedTuple


class Compatible(NamedTuple):
    """A provider that speaks OpenAI's protocol. No `keys`: it needs none."""

    url: str
    keys: tuple[str, ...]


ALIASES: Final = {
    "amazon-bedrock": "bedrock",
    "azure-openai": "azure",
    "fireworks-ai": "fireworks",
    "github-models": "github",
    "google-vertex": "google-cloud",
    "novita-ai": "novita",
    "gemini": "google",
    "snowflake-cortex": "snowflake",
    "togetherai": "together",
    "z-ai": "zai",
}
"""Other names for providers."""

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("OPENAI_API_KEY",),
    "openai-chat": ("OPENAI_API_KEY",),
    "openai-responses": ("OPENAI_API_KEY",),
    "alibaba": ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "crusoe": ("CRUSOE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "github": ("GITHUB_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "heroku": ("HEROKU_INFERENCE_KEY",),
    "huggingface": ("HF_TOKEN",),
    "meta": ("META_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOTAI_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "ovhcloud": ("OVHCLOUD_API_KEY",),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "vercel": ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
    "xai": ("XAI_API_KEY",),
    "zai": ("ZAI_API_KEY",),
    # Several ways to sign in, or none: what is missing is pydantic-ai's to say.
    "azure": (),
    "bedrock": (),
    "google-cloud": (),
    "litellm": (),
    "snowflake": (),
    "vllm": (),
}
"""The providers that pydantic-ai has itself, with the variables one of which must hold a key."""

PACKAGES: Final = {
    "anthropic": "anthropic",
    "bedrock": "bedrock",
    "cohere": "cohere",
    "google": "google",
    "google-cloud": "google",
    "groq": "groq",
    "huggingface": "huggingface",
    "mistral": "mistral",
    "xai": "xai",
}
"""Those whose own library is needed: the extra of pydantic-ai-slim that brings it."""

OPENAI_LIKE: Final = frozenset(
    {
        *("alibaba", "cerebras", "crusoe", "deepseek", "fireworks", "github", "heroku", "moonshotai"),
        *("nebius", "openrouter", "ovhcloud", "sambanova", "together", "vercel", "xai", "zai"),
    }
)
"""Those of pydantic-ai that speak OpenAI's protocol too, and so can be asked at another address."""

COMPATIBLE: Final[dict[str, Compatible]] = {
    "ai21": Compatible("https://api.ai21.com/studio/v1", ("AI21_API_KEY",)),
    "aimlapi": Compatible("https://api.aimlapi.com/v1", ("AIML_API_KEY", "AIMLAPI_API_KEY")),
    "alibaba-cn": Compatible("https://dashscope.aliyuncs.com/compatible-mode/v1", ("DASHSCOPE_API_KEY",)),
    "baseten": Compatible("https://inference.baseten.co/v1", ("BASETEN_API_KEY",)),
    "chutes": Compatible("https://llm.chutes.ai/v1", ("CHUTES_API_KEY",)),
    "deepinfra": Compatible("https://api.deepinfra.com/v1/openai", ("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN")),
    "featherless": Compatible("https://api.featherless.ai/v1", ("FEATHERLESS_API_KEY",)),
    "friendli": Compatible("https://api.friendli.ai/serverless/v1", ("FRIENDLI_TOKEN",)),
    "hyperbolic": Compatible("https://api.hyperbolic.xyz/v1", ("HYPERBOLIC_API_KEY",)),
    "inception": Compatible("https://api.inceptionlabs.ai/v1", ("INCEPTION_API_KEY",)),
    "inference": Compatible("https://api.inference.net/v1", ("INFERENCE_API_KEY",)),
    "io-net": Compatible("https://api.intelligence.io.solutions/api/v1", ("IOINTELLIGENCE_API_KEY",)),
    "llama": Compatible("https://api.llama.com/compat/v1", ("LLAMA_API_KEY",)),
    "lmstudio": Compatible("http://127.0.0.1:1234/v1", ()),
    "minimax": Compatible("https://api.minimax.io/v1", ("MINIMAX_API_KEY",)),
    "modelscope": Compatible("https://api-inference.modelscope.cn/v1", ("MODELSCOPE_API_KEY",)),
    "moonshotai-cn": Compatible("https://api.moonshot.cn/v1", ("MOONSHOT_API_KEY",)),
    "morph": Compatible("https://api.morphllm.com/v1", ("MORPH_API_KEY",)),
    "novita": Compatible("https://api.novita.ai/openai", ("NOVITA_API_KEY",)),
    "nvidia": Compatible("https://integrate.api.nvidia.com/v1", ("NVIDIA_API_KEY",)),
    "ollama": Compatible("http://127.0.0.1:11434/v1", ()),
    "ollama-cloud": Compatible("https://ollama.com/v1", ("OLLAMA_API_KEY",)),
    "opencode": Compatible("https://opencode.ai/zen/v1", ("OPENCODE_API_KEY",)),
    "perplexity": Compatible("https://api.perplexity.ai", ("PERPLEXITY_API_KEY",)),
    "poe": Compatible("https://api.poe.com/v1", ("POE_API_KEY",)),
    "requesty": Compatible("https://router.requesty.ai/v1", ("REQUESTY_API_KEY",)),
    "scaleway": Compatible("https://api.scaleway.ai/v1", ("SCALEWAY_API_KEY", "SCW_SECRET_KEY")),
    "siliconflow": Compatible("https://api.siliconflow.com/v1", ("SILICONFLOW_API_KEY",)),
    "siliconflow-cn": Compatible("https://api.siliconflow.cn/v1", ("SILICONFLOW_CN_API_KEY", "SILICONFLOW_API_KEY")),
    "stepfun": Compatible("https://api.stepfun.com/v1", ("STEPFUN_API_KEY",)),
    "upstage": Compatible("https://api.upstage.ai/v1/solar", ("UPSTAGE_API_KEY",)),
    "v0": Compatible("https://api.v0.dev/v1", ("V0_API_KEY",)),
    "venice": Compatible("https://api.venice.ai/api/v1", ("VENICE_API_KEY",)),
    "wandb": Compatible("https://api.inference.wandb.ai/v1", ("WANDB_API_KEY",)),
    "zhipuai": Compatible("https://open.bigmodel.cn/api/paas/v4", ("ZHIPU_API_KEY",)),
}
"""Providers that speak OpenAI's protocol."""

INSTEAD: Final[dict[str, Compatible]] = {
    "cohere": Compatible("https://api.cohere.ai/compatibility/v1", ("CO_API_KEY", "COHERE_API_KEY")),
    "google": Compatible(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY"),
    ),
    "groq": Compatible("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "huggingface": Compatible("https://router.huggingface.co/v1", ("HF_TOKEN",)),
    "mistral": Compatible("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",)),
    "xai": Compatible("https://api.x.ai/v1", ("XAI_API_KEY",)),
}
"""Where those of `PACKAGES` are asked by OpenAI's protocol while their own library is not installed."""


def known(provider: str) -> bool:
    """Whether a name is that of a provider.

    >>> known("togetherai"), known("perplexity"), known("nobody")
    (True, True, False)
    """
    name = ALIASES.get(provider, provider)
    return name in KEYS or name in COMPATIBLE


def nearest(provider: str) -> str | None:
    """The known name that is most like this one, if any is.

    >>> nearest("opnai")
    'openai'
    """
    found = difflib.get_close_matches(provider, [*KEYS, *COMPATIBLE, *ALIASES], n=1)
    return found[0] if found else None
