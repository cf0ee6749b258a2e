import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { classify } from "../src/Failure.ts"
import { TmuxError } from "../src/index.ts"

const tagOf = (stderr: string) =>
  classify({ operation: "kill-session", socket: "/s", target: "t", exitCode: 1, stderr })._tag

describe("Failure", () => {
  it("only tmux's own words for it mean that there is no server or no session", () => {
    const meanings = {
      TmuxNoServer: [
        "no server running on /s\n",
        "error connecting to /s (No such file or directory)",
        "error connecting to /a dir (x)/s (Connection refused)"
      ],
      TmuxNoSuchSession: ["can't find session: t", "no such session: =t", "no current target"],
      TmuxDuplicateSession: ["duplicate session: t"],
      TmuxCommandFailed: [
        "",
        "error connecting to /s (Permission denied)",
        "error connecting to /s (No such file or directory) or so",
        "error creating /s (No such file or directory)",
        "protocol version mismatch (client 8, server 7)",
        "server exited unexpectedly",
        "lost server",
        "sh: no server running on /s",
        "unknown command: foo"
      ]
    }
    for (const [tag, texts] of Object.entries(meanings)) {
      for (const text of texts) assert.strictEqual(tagOf(text), tag, text)
    }
  })

  it("each failure has a message and survives encoding", () => {
    for (const text of ["no server running on /s", "can't find session: t", "duplicate session: t", "else"]) {
      const error = classify({ operation: "kill-session", socket: "/s", target: "t", exitCode: 1, stderr: text })
      assert.isNotEmpty(error.message)
      const decoded = Schema.decodeUnknownSync(TmuxError)(
        JSON.parse(JSON.stringify(Schema.encodeSync(TmuxError)(error)))
      )
      assert.strictEqual(decoded.message, error.message)
    }
  })
})
