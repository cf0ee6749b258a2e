/** opencode, and the OpenAI Chat Completions API as far as it asks for it. */
import { events, json, type RealAgent, stubKey } from "./RealAgent.ts"

const model = "model"

const reply = (delta: Readonly<Record<string, unknown>>, finishReason: string) => {
  const chunk = { id: "chatcmpl_stub", object: "chat.completion.chunk", created: 1, model }
  return events([
    { ...chunk, choices: [{ index: 0, delta: { role: "assistant", ...delta }, finish_reason: null }] },
    {
      ...chunk,
      choices: [{ index: 0, delta: {}, finish_reason: finishReason }],
      usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 }
    }
  ], { named: false, last: "[DONE]" })
}

export const opencode: RealAgent = {
  kind: "opencode",
  setup: (url) => ({
    model: `stub/${model}`,
    args: [],
    environment: {
      OPENCODE_CONFIG_CONTENT: JSON.stringify({
        provider: {
          stub: {
            npm: "@ai-sdk/openai-compatible",
            options: { baseURL: `${url}/v1`, apiKey: stubKey },
            models: { [model]: {} }
          }
        },
        small_model: `stub/${model}`,
        autoupdate: false,
        share: "disabled"
      }),
      OPENCODE_DISABLE_MODELS_FETCH: "1",
      OPENCODE_DISABLE_AUTOUPDATE: "1",
      OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
      OPENCODE_DISABLE_DEFAULT_PLUGINS: "1"
    },
    files: {}
  }),
  asksModel: ({ method, path }) => method === "POST" && path === "/v1/chat/completions",
  say: (_question, text) => reply({ content: text }, "stop"),
  run: ({ body }, command) => {
    if (!body.includes(`"name":"bash"`) || body.includes(`"role":"tool"`)) return undefined
    const call = { name: "bash", arguments: JSON.stringify({ command, description: "Waits" }) }
    return reply({ tool_calls: [{ index: 0, id: "call_stub", type: "function", function: call }] }, "tool_calls")
  },
  // After a 500 it tries again for a minute, and nothing bounds that.
  refuse: json(401, { error: { message: "the stub refuses", type: "invalid_request_error" } })
}
