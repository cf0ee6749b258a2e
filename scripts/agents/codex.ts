/** Codex, and the OpenAI Responses API as far as it asks for it. */
import { events, json, type RealAgent, stubKey } from "./RealAgent.ts"

type Item = Readonly<Record<string, unknown>>

const reply = (item: Item) =>
  events([
    { type: "response.created", response: { id: "resp_stub" } },
    { type: "response.output_item.done", item },
    {
      type: "response.completed",
      response: {
        id: "resp_stub",
        usage: {
          input_tokens: 1,
          input_tokens_details: null,
          output_tokens: 1,
          output_tokens_details: null,
          total_tokens: 2
        }
      }
    }
  ], { named: true })

// Which shell is offered depends on the model.
const shells: ReadonlyArray<readonly [name: string, input: (command: string) => Item]> = [
  ["exec_command", (command) => ({ cmd: command })],
  ["shell_command", (command) => ({ command })],
  ["shell", (command) => ({ command: ["bash", "-lc", command] })]
]

export const codex: RealAgent = {
  kind: "codex",
  setup: (url) => ({
    model: "gpt-5",
    args: [
      "--disable",
      "plugins",
      ...[
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        `model_provider="stub"`,
        `model_providers.stub={name="stub",base_url="${url}/v1",env_key="STUB_API_KEY",wire_api="responses",` +
        "request_max_retries=0,stream_max_retries=0}"
      ].flatMap((setting) => ["-c", setting])
    ],
    environment: { STUB_API_KEY: stubKey },
    files: {}
  }),
  asksModel: ({ method, path }) => method === "POST" && path === "/v1/responses",
  say: (_question, text) =>
    reply({ type: "message", role: "assistant", id: "msg_stub", content: [{ type: "output_text", text }] }),
  run: ({ body }, command) => {
    const shell = shells.find(([name]) => body.includes(`"name":"${name}"`))
    if (shell === undefined || body.includes(`"type":"function_call_output"`)) return undefined
    const [name, input] = shell
    return reply({
      type: "function_call",
      id: "fc_stub",
      call_id: "call_stub",
      name,
      arguments: JSON.stringify(input(command))
    })
  },
  refuse: json(500, { error: { message: "the stub refuses", type: "server_error" } })
}
