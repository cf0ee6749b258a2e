/**
 * Which release of each real agent the proof installs: the one place that pins them, by exact version. README names the
 * same versions with the day of the last proof.
 */
import type { Kind } from "./RealAgent.ts"

export const releases: Readonly<Record<Kind, string>> = {
  claude: "@anthropic-ai/claude-code@2.1.332",
  codex: "@openai/codex@0.171.0",
  gemini: "@google/gemini-cli@0.61.0",
  opencode: "opencode-ai@1.18.33"
}
