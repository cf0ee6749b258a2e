/** Who has which port: on disk for programs, in memory for their tests. */
import { Effect, Ref, Schema } from "effect"
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

export class LeasesUnusable extends Schema.TaggedError<LeasesUnusable>()("LeasesUnusable", { reason: Schema.String }) {
  override get message() {
    return `the leases of ports can't be read or written: ${this.reason}`
  }
}

export interface Leases {
  /** Takes a port for an owner; answers whether it was free. */
  readonly take: (port: number, owner: string) => Effect.Effect<boolean, LeasesUnusable>
  readonly ownerOf: (port: number) => Effect.Effect<string | undefined, LeasesUnusable>
  /** Gives a port back, and what a take that was cut off has left of this owner. */
  readonly free: (port: number, owner: string) => Effect.Effect<void, LeasesUnusable>
}

const attempt = <A>(f: () => A) =>
  Effect.try({ try: f, catch: (error) => new LeasesUnusable({ reason: String(error) }) })

/** Each lease is a file that is named by its port; its content is the owner. */
export const onDisk = (directory: string): Leases => {
  const pathOf = (port: number) => join(directory, String(port))
  return {
    // A link puts the lease in place whole, and fails where another stands.
    take: (port, owner) =>
      attempt(() => {
        mkdirSync(directory, { recursive: true })
        if (existsSync(pathOf(port))) return false
        writeFileSync(`${pathOf(port)}.${owner}`, owner)
        linkSync(`${pathOf(port)}.${owner}`, pathOf(port))
        return true
      }),
    ownerOf: (port) => attempt(() => existsSync(pathOf(port)) ? readFileSync(pathOf(port), "utf8") : undefined),
    free: (port, owner) =>
      attempt(() => {
        rmSync(`${pathOf(port)}.${owner}`, { force: true })
        if (existsSync(pathOf(port)) && readFileSync(pathOf(port), "utf8") === owner) rmSync(pathOf(port))
      })
  }
}

export const inMemory = (): Leases => {
  const owners = Ref.makeUnsafe<ReadonlyMap<number, string>>(new Map())
  return {
    take: (port, owner) =>
      Ref.modify(owners, (all) => all.has(port) ? [false, all] : [true, new Map([...all, [port, owner]])]),
    ownerOf: (port) => Effect.map(Ref.get(owners), (all) => all.get(port)),
    free: (port, owner) =>
      Ref.update(owners, (all) => new Map([...all].filter(([each, by]) => each !== port || by !== owner)))
  }
}
