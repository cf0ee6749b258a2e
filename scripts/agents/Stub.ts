/**
 * A stand-in for a provider's API: an HTTP server on the loopback interface that answers as its caller set it up, and
 * keeps what it was asked.
 *
 * It lives as long as the scope that it was made in; when that closes, open answers are cut and the port is free. It
 * reaches nothing itself.
 */
import { Deferred, Effect, Option, Schema } from "effect"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { json, type Question, type RealAgent, type Reply } from "./RealAgent.ts"

/** What the stub's model says. */
export const answer = "hello from the stub"

/**
 * What the stub does with a question to the model: answer, refuse, keep the answer open, or run a shell command first.
 * The agent waits for that command; `inBackground`, it does not.
 */
export type Behaviour =
  | { readonly _tag: "answers" }
  | { readonly _tag: "refuses" }
  | { readonly _tag: "hangs" }
  | { readonly _tag: "runs"; readonly command: string; readonly inBackground?: boolean }

export interface Stub {
  readonly url: string
  /** Whether a question to the model contains this text, whole and unchanged. */
  readonly wasAsked: (text: string) => boolean
  readonly questions: () => ReadonlyArray<Question>
  /** Waits for the first question to the model; an agent that never asks keeps it waiting. */
  readonly asked: Effect.Effect<void>
}

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

const contains = (value: unknown, text: string): boolean =>
  typeof value === "string"
    ? value.includes(text)
    : typeof value === "object" && value !== null && Object.values(value).some((part) => contains(part, text))

/** Starts a stub; it calls `onQuestion` before it answers each question, while the agent waits. */
export const serve = Effect.fnUntraced(function*(
  agent: RealAgent,
  behaviour: Behaviour,
  onQuestion: () => void
) {
  const asked = yield* Deferred.make<void>()
  const questions: Array<Question> = []

  const respond = (question: Question, response: ServerResponse) => {
    questions.push(question)
    onQuestion()
    if (!agent.asksModel(question)) {
      return send(response, json(404, { error: { message: "the stub has no such thing" } }))
    }
    switch (behaviour._tag) {
      case "answers":
        send(response, agent.say(question, answer))
        break
      case "refuses":
        send(response, agent.refuse)
        break
      case "hangs":
        response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders()
        break
      case "runs": {
        const run = behaviour.inBackground === true ? agent.runInBackground : agent.run
        send(response, run?.(question, behaviour.command) ?? agent.say(question, answer))
        break
      }
    }
    Deferred.doneUnsafe(asked, Effect.void)
  }

  const receive = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString("utf8")
      const path = new URL(request.url ?? "/", "http://stub").pathname
      const compact = Option.map(decode(body), (value) => JSON.stringify(value))
      respond({ method: request.method ?? "", path, body: Option.getOrElse(compact, () => body) }, response)
    })
  }

  const server = yield* Effect.acquireRelease(listen(createServer(receive)), close)
  const address = server.address()
  const port = typeof address === "object" ? address?.port : undefined
  const stub: Stub = {
    url: `http://127.0.0.1:${port}`,
    wasAsked: (text) =>
      questions.some((question) =>
        agent.asksModel(question) && Option.exists(decode(question.body), (value) => contains(value, text))
      ),
    questions: () => questions,
    asked: Deferred.await(asked)
  }
  return stub
})

const send = (response: ServerResponse, { body, contentType, status }: Reply) => {
  response.writeHead(status, { "content-type": contentType }).end(body)
}

const listen = (server: Server) =>
  Effect.callback<Server>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  })

const close = (server: Server) =>
  Effect.callback<void>((resume) => {
    server.close(() => resume(Effect.void))
    server.closeAllConnections()
  })
