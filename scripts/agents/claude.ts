/** Claude Code, and the Anthropic Messages API as far as it asks for it. */
import { events, json, type Question, type RealAgent, type Reply, stubKey } from "./RealAgent.ts"

const model = "claude-sonnet-4-5"

type Block = Readonly<Record<string, unknown>>

const message = (content: ReadonlyArray<Block>, stopReason: string | null) => ({
  id: "msg_stub",
  type: "message",
  role: "assistant",
  model,
  content,
  stop_reason: stopReason,
  stop_sequence: null,
  usage: { input_tokens: 1, output_tokens: 1 }
})

const reply = (question: Question, whole: Block, empty: Block, delta: Block, stopReason: string): Reply =>
  question.body.includes(`"stream":true`)
    ? events([
      { type: "message_start", message: message([], null) },
      { type: "content_block_start", index: 0, content_block: empty },
      { type: "content_block_delta", index: 0, delta },
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: { stop_reason: stopReason, stop_sequence: null }, usage: { output_tokens: 5 } },
      { type: "message_stop" }
    ], { named: true })
    : json(200, message([whole], stopReason))

const useBash = (question: Question, input: Block) => {
  if (!question.body.includes(`"name":"Bash"`) || question.body.includes(`"type":"tool_result"`)) return undefined
  const tool = { type: "tool_use", id: "toolu_stub", name: "Bash" }
  const delta = { type: "input_json_delta", partial_json: JSON.stringify(input) }
  return reply(question, { ...tool, input }, { ...tool, input: {} }, delta, "tool_use")
}

export const claude: RealAgent = {
  kind: "claude",
  setup: (url) => ({
    model,
    args: [],
    environment: {
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_API_KEY: stubKey,
      CLAUDE_CODE_MAX_RETRIES: "1",
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      DISABLE_AUTOUPDATER: "1",
      DISABLE_TELEMETRY: "1"
    },
    files: {}
  }),
  asksModel: ({ method, path }) => method === "POST" && path === "/v1/messages",
  say: (question, text) =>
    reply(question, { type: "text", text }, { type: "text", text: "" }, { type: "text_delta", text }, "end_turn"),
  run: (question, command) => useBash(question, { command, description: "Waits" }),
  runInBackground: (question, command) => useBash(question, { command, description: "Waits", run_in_background: true }),
  refuse: json(500, { type: "error", error: { type: "api_error", message: "the stub refuses" } })
}
