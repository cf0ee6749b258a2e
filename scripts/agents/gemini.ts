/** Gemini CLI, and the Gemini API as far as it asks for it. */
import { events, json, type Question, type RealAgent, type Reply, stubKey } from "./RealAgent.ts"

const model = "gemini-2.5-pro"

const reply = (question: Question, part: Readonly<Record<string, unknown>>): Reply => {
  const value = {
    candidates: [{ content: { role: "model", parts: [part] }, finishReason: "STOP", index: 0 }],
    usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 1, totalTokenCount: 2 },
    modelVersion: model
  }
  return question.path.endsWith(":streamGenerateContent") ? events([value]) : json(200, value)
}

// A base URL alone would make it take the stub for a gateway, which it refuses to use unattended.
const settings = {
  security: { auth: { selectedType: "gemini-api-key" } },
  privacy: { usageStatisticsEnabled: false },
  telemetry: { enabled: false },
  general: { enableAutoUpdate: false, enableAutoUpdateNotification: false }
}

export const gemini: RealAgent = {
  kind: "gemini",
  setup: (url) => ({
    model,
    args: [],
    environment: { GOOGLE_GEMINI_BASE_URL: url, GEMINI_API_KEY: stubKey },
    files: { ".gemini/settings.json": JSON.stringify(settings) }
  }),
  asksModel: ({ method, path }) => method === "POST" && /:(streamG|g)enerateContent$/.test(path),
  say: (question, text) => reply(question, { text }),
  run: (question, command) =>
    question.body.includes(`"name":"run_shell_command"`) && !question.body.includes(`"functionResponse"`)
      ? reply(question, { functionCall: { name: "run_shell_command", args: { command } } })
      : undefined,
  // After a 500 it tries again for minutes, and nothing bounds that.
  refuse: json(401, { error: { code: 401, message: "the stub refuses", status: "UNAUTHENTICATED" } })
}
