/**
 * Serves metrics over HTTP on the loopback interface, for as long as a scope; loaded by the one command that asks for
 * it.
 *
 * `GET /metrics` answers with the metrics that the caller supplies. When these can't be read in time, or at all (a
 * locked or damaged registry, a full disk), the answer is 503 with a sentence. The next request tries anew: no scrape
 * hangs, and none ends the program. Connections are few and short. When the scope closes, clients that are still
 * connected are cut off, and the port is free at once.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Duration, Effect, Layer, Predicate } from "effect"
import { HttpRouter, HttpServer, type HttpServerError, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { MetricsUnservable } from "./Errors.ts"

const host = "127.0.0.1"

/** How long one scrape may take. */
const limit = Duration.seconds(2)

const contentType = "text/plain; version=0.0.4; charset=utf-8"

export interface Options<E> {
  /** 0 for any that is free. */
  readonly port: number
  /** The text, made anew for each scrape. */
  readonly metrics: Effect.Effect<string, E>
}

const unavailable = (why: string) => HttpServerResponse.text(`metrics can't be read now: ${why}\n`, { status: 503 })

const answer = <E extends { readonly message: string }>(metrics: Effect.Effect<string, E>) =>
  metrics.pipe(
    Effect.map((text) => HttpServerResponse.text(text, { contentType })),
    // A read of the registry waits for a lock in steps that can be interrupted, so that this answers in time.
    Effect.timeoutOrElse({
      duration: limit,
      orElse: () => Effect.succeed(unavailable(`they were not there within ${Duration.format(limit)}`))
    }),
    Effect.catch((error) => Effect.succeed(unavailable(error.message)))
  )

/** A server that is closed with its connections before Effect's own finalizer would wait for them. */
const closing = (server: ReturnType<typeof createServer>) =>
  Effect.sync(() => {
    server.close()
    server.closeAllConnections()
  })

const whyOf = ({ cause }: HttpServerError.ServeError): string => {
  const code = Predicate.hasProperty(cause, "code") ? cause.code : undefined
  switch (code) {
    case "EADDRINUSE":
      return "it is in use"
    case "EACCES":
      return "permission denied"
    default:
      return Predicate.isString(code) ? code : "it can't be listened on"
  }
}

/** Serves until the scope closes; answers with the port. */
export const serve = Effect.fnUntraced(function*<E extends { readonly message: string }>(options: Options<E>) {
  const server = createServer({ headersTimeout: 5000, requestTimeout: 5000, connectionsCheckingInterval: 1000 })
  server.maxConnections = 16
  const routes = HttpRouter.add("GET", "/metrics", answer(options.metrics))
  const context = yield* Layer.build(
    HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(() => server, { host, port: options.port }))
    )
  ).pipe(Effect.mapError((error) => new MetricsUnservable({ host, port: options.port, reason: whyOf(error) })))
  // Last in, so that it is first out.
  yield* Effect.addFinalizer(() => closing(server))
  const { address } = Context.get(context, HttpServer.HttpServer)
  return "port" in address ? address.port : options.port
})
